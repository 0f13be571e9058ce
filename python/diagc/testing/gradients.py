"""Gradients of a diagram by the pass `differentiate`, to be compared with torch and differences."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.passes.pipeline import Pipeline
from diagc.targets import interp

__all__ = ["Array", "by_differences", "differentiated", "gradients", "random_cotangents"]

Array: TypeAlias = np.ndarray[Any, Any]


def differentiated(source: str, wrt: Sequence[str] = ()) -> ir.Module:
    """The module of a diagram's text, taken to the stage `expanded` and differentiated.

    To be called in a context.
    """
    module = ir.Module.parse(source)
    options = CompileOptions()
    run_pipeline(module, options, "expanded")
    chosen = f"{{wrt={','.join(wrt)}}}" if wrt else ""
    Pipeline(f"builtin.module(func.func(differentiate{chosen}))", options).run(module)
    return module


def random_cotangents(source: str, inputs: Sequence[Array], seed: int) -> list[Array]:
    """One for each result, of its shape."""
    rng = np.random.default_rng(seed)
    with make_context(), ir.Location.unknown():
        results = interp.evaluate(ir.Module.parse(source), inputs)
    return [rng.standard_normal(result.shape) for result in results]


def gradients(
    source: str,
    inputs: Sequence[Array],
    cotangents: Sequence[Array],
    wrt: Sequence[str] = (),
    after: Callable[[ir.Module], Any] = lambda module: None,
) -> list[Array]:
    """What the differentiated diagram gives in float64; `after` rewrites it first."""
    with make_context(), ir.Location.unknown():
        module = differentiated(source, wrt)
        after(module)
        return interp.evaluate(module, [*inputs, *cotangents])


def by_differences(
    source: str, inputs: Sequence[Array], cotangents: Sequence[Array], direction: Sequence[Array]
) -> float:
    """The central difference of <cotangents, results> when the inputs move in a direction."""
    step = 1e-6
    total = 0.0
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(source)
        for sign in (1.0, -1.0):
            moved = [x + sign * step * d for x, d in zip(inputs, direction, strict=True)]
            results = interp.evaluate(module, moved)
            terms = (float((c * r).sum()) for c, r in zip(cotangents, results, strict=True))
            total += sign * sum(terms) / (2.0 * step)
    return total
