"""Translation validation: new ops against those that they replace, on random f64 data.

The reference meaning of ops lives above this layer, so nothing here imports it: the evaluator is
`REFERENCE`, found by its name when something is validated, or what `register_evaluator` was given.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from diagc.dialects import diag
from diagc.errors import InternalError
from diagc.mlir import ir

if TYPE_CHECKING:
    import numpy as np

__all__ = ["AFTER", "BEFORE", "REFERENCE", "evaluator", "register_evaluator", "validate_rewrite"]

BEFORE, AFTER = "before", "after"
"""The two functions of a module to validate; both take the same arguments."""

Evaluator = Callable[..., "list[np.ndarray[Any, Any]]"]

REFERENCE = "diagc.targets.interp:evaluate"
"""Module and name of the evaluator to use when none was registered."""

_EVALUATOR: list[Evaluator] = []

_CHUNKS = (1, 3, 1000)
_SCALES = (1.0, 30.0)
_TOLERANCE = 1e-9
_SEED = 20250509


def register_evaluator(evaluate: Evaluator) -> None:
    """Name the function that evaluates modules: `(module, inputs, function, chunk=, tree=)`."""
    _EVALUATOR[:] = [evaluate]


def evaluator() -> Evaluator:
    """The registered evaluator, else the interpreter."""
    if not _EVALUATOR:
        module, name = REFERENCE.split(":")
        register_evaluator(getattr(import_module(module), name))
    return _EVALUATOR[0]


def validate_rewrite(module: ir.Module, sizes: Mapping[str, int]) -> None:
    """Compare the functions `BEFORE` and `AFTER` of `module`, which take the same arguments.

    Data are random, of several magnitudes, with conditions that exclude whole rows; streams are
    run in chunks of 1, 3 and all positions, and as chunks whose states are combined.

    Args:
        module: the two functions, on wires with open sizes.
        sizes: the size of every axis.

    Raises:
        InternalError: results differ by more than rounding; names how it was run and the error.
    """
    import numpy as np

    evaluate = evaluator()
    arguments = diag.function_body(diag.functions(module)[0]).arguments
    for number, scale in enumerate(_SCALES):
        rng = np.random.default_rng([_SEED, number])
        inputs = [_random(rng, argument.type, sizes, scale) for argument in arguments]
        expected = evaluate(module, inputs, BEFORE)
        for chunk, tree in itertools.product(_CHUNKS, (False, True)):
            found = evaluate(module, inputs, AFTER, chunk=chunk, tree=tree)
            how = f"chunks of {chunk}{', combined' if tree else ''}, data of size {scale:g}"
            _compare(expected, found, how)


def _random(
    rng: "np.random.Generator", type_: ir.Type, sizes: Mapping[str, int], scale: float
) -> "np.ndarray[Any, Any]":
    shape = [sizes[label] for label in diag.labels(type_)]
    element = diag.element_type(type_)
    if diag.is_float(element):
        return scale * rng.standard_normal(shape)
    if str(element) == "i1":
        keep = rng.random(shape) < 0.7
        return keep & (rng.random(shape[:1] + [1] * (len(shape) - 1)) < 0.8) if shape else keep
    return rng.integers(0, 5, shape)


def _compare(
    expected: "Sequence[np.ndarray[Any, Any]]", found: "Sequence[np.ndarray[Any, Any]]", how: str
) -> None:
    import numpy as np

    for number, (want, got) in enumerate(zip(expected, found, strict=True)):
        if np.array_equal(want, got, equal_nan=want.dtype.kind == "f"):
            continue
        finite = want[np.isfinite(want)] if want.dtype.kind == "f" else want
        size = float(np.max(np.abs(finite), initial=1e-300))
        if not np.allclose(want, got, rtol=_TOLERANCE, atol=_TOLERANCE * size, equal_nan=True):
            error = float(np.nanmax(np.abs(want - got)))
            raise InternalError(
                f"a rewrite changes what is computed: result {number} by {error:.3g} of "
                f"{size:.3g}, with {how}"
            )
