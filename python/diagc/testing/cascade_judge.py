"""Judges cascades by numbers alone, and asks the compiler what it makes of them.

The rank of a summand is that of the matrix [phi(x_i, s_j)] at random points, by singular values in
40 digits. No law and no sympy term takes part; the compiler's verdict is read off its IR.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import mpmath
import numpy as np
import numpy.typing as npt

from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr
from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.dialects import diag
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.targets import interp
from diagc.testing.random_cascades import ELEMENTS, Cascade, Step

__all__ = ["Verdict", "rank", "ranks", "run_errors", "verdict"]

Array: TypeAlias = npt.NDArray[Any]

DIGITS = 40
_SMALLEST = 1e-24
"""A singular value that counts, as a part of the largest."""

_POINTS = 16
_WIDTH = 5.0

_EXACT: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "pow": lambda x, y: x**y,
    "abs": abs,
    "max": max,
    "min": min,
    "exp": mpmath.exp,
    "log": mpmath.log,
    "sqrt": mpmath.sqrt,
    "tanh": mpmath.tanh,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "erf": mpmath.erf,
}


def _exact(term: Expr, values: Mapping[str, Any]) -> Any:
    if term.op == SYMBOL:
        return values[str(term.value)]
    if term.op == CONSTANT:
        return mpmath.mpf(term.value)
    return _EXACT[term.op](*(_exact(arg, values) for arg in term.args))


def rank(step: Step) -> int:
    """The numerical rank of a summand in its statistics, up to the number of points."""
    with mpmath.workdps(DIGITS):
        rng = Random("points")
        rows = _points(rng, ELEMENTS, 0.5)
        columns = _points(rng, step.statistics(), 0.0)
        table = [[_exact(step.term, {**x, **s}) for s in columns] for x in rows]
        values = sorted(mpmath.svd_r(mpmath.matrix(table), compute_uv=False), reverse=True)
        return sum(value > _SMALLEST * values[0] for value in values)


def ranks(cascade: Cascade) -> list[int]:
    """The ranks of all summands that use statistics."""
    return [rank(step) for step in cascade.steps if step.kind and step.statistics()]


def _points(rng: Random, names: Sequence[str], place: float) -> list[dict[str, Any]]:
    """Points whose coordinates lie in equal intervals, one in each, in random order.

    Those of elements and of statistics alternate, so that no kink stays unseen.
    """
    grid = [(k + place + rng.uniform(0.0, 0.4)) / _POINTS for k in range(_POINTS)]
    columns = {name: rng.sample(grid, _POINTS) for name in names}
    return [
        {name: mpmath.mpf(_WIDTH * (column[k] - 0.5)) for name, column in columns.items()}
        for k in range(_POINTS)
    ]


@dataclass(frozen=True)
class Verdict:
    """What the compiler made of a cascade.

    Args:
        accepted: whether no law was refused, and all reductions are parts of streams.
        remarks: what it declined, and why.
    """

    accepted: bool
    remarks: tuple[str, ...]


def _streamed(cascade: Cascade) -> ir.Module:
    module = parse(cascade.text())
    run_pipeline(module, CompileOptions(), "streams")
    return module


def verdict(cascade: Cascade) -> Verdict:
    """Whether the compiler streams a cascade in one pass, and its remarks otherwise."""
    with make_context(), ir.Location.unknown():
        return _verdict(_streamed(cascade))


def _verdict(module: ir.Module) -> Verdict:
    (function,) = diag.functions(module)
    ops = [view.operation for view in diag.function_body(function).operations]
    loose = any(op.name in ("diag.reduce", "diag.contract") for op in ops)
    remarks = function.attributes.get("diag.remarks", ())
    texts = tuple(str(ir.StringAttr(entry["text"]).value) for entry in remarks)
    return Verdict(not loose and not texts, texts)


# ---- numbers ------------------------------------------------------------------------------------

_WIDE: dict[str, Any] = {
    "neg": np.negative,
    "pow": np.power,
    "abs": np.abs,
    "max": np.maximum,
    "min": np.minimum,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
}
_FOLDS: dict[str, Any] = {"max": np.max, "min": np.min, "sum": np.sum, "mean": np.mean}


def _wide(term: Expr, values: Mapping[str, Array]) -> Array:
    if term.op == SYMBOL:
        return values[str(term.value)]
    if term.op == CONSTANT:
        return np.longdouble(term.value or 0.0)  # type: ignore[return-value]
    found: Array = _WIDE[term.op](*(_wide(arg, values) for arg in term.args))
    return found


def _direct(cascade: Cascade, x: Array, y: Array, nudge: float) -> tuple[Array, Array]:
    """The result of each row in the widest floats, and the sum of the sizes of what it sums.

    With `nudge` every statistic is that part larger.
    """
    values = {name: np.asarray(a, np.longdouble) for name, a in zip(ELEMENTS, (x, y), strict=True)}
    size = np.zeros(x.shape[0])
    for step in cascade.steps:
        term = _wide(step.term, values)
        if step.kind is not None:
            term = np.broadcast_to(term, x.shape)
            size = np.abs(term).sum(axis=1)
            term = _FOLDS[step.kind](term, axis=1, keepdims=True)
        values[step.name] = term * np.longdouble(1.0 + nudge)
    return values[cascade.steps[-1].name][:, 0], size


def _rows(seed: int) -> Iterator[tuple[str, Array, Array]]:
    """Elements of sizes up to 1e4: in random order, ascending, descending, and far from 0."""
    rng = np.random.default_rng(seed)
    for scale in (1.0, 100.0, 1e4):
        x, y = (np.clip(scale * rng.standard_normal((2, 13)), -1e4, 1e4) for _ in range(2))
        yield f"size {scale:g}", x, y
        yield f"size {scale:g}, ascending", np.sort(x), np.sort(y)
        yield f"size {scale:g}, descending", -np.sort(-x), -np.sort(-y)
    near = 9e3 + rng.standard_normal((2, 13))
    yield "near 9000", near, -near[:, ::-1]


_WAYS: tuple[Mapping[str, Any], ...] = ({"chunk": 1}, {"chunk": 4, "tree": True}, {"chunk": 100})
_TINY = 1e-290


def run_errors(cascade: Cascade, seed: int, tolerance: float = 1e-9) -> list[str]:
    """What the streamed cascade computes wrongly, in chunks and as a tree.

    An error counts against the sizes of the terms that are summed, what rounding of the statistics
    alone changes, and 16 times the largest error of the unstreamed cascade in f64. Rows whose exact
    result leaves the range of f64 are left out.

    Args:
        cascade: one that the compiler accepts.
        seed: of the rows.
        tolerance: for the error relative to the sum of sizes.
    """
    found = []
    with make_context(), ir.Location.unknown(), np.errstate(all="ignore"):
        module, plain = _streamed(cascade), parse(cascade.text())
        for name, x, y in _rows(seed):
            wanted, size = _direct(cascade, x, y, 0.0)
            moved = [np.abs(_direct(cascade, x, y, nudge)[0] - wanted) for nudge in (1e-14, -1e-14)]
            (eager,) = interp.evaluate(plain, [x, y])
            rounding = 16.0 * np.nanmax(np.abs(eager - wanted) / (size + _TINY))
            margin = (tolerance + rounding) * size + 100.0 * np.max(moved, axis=0) + _TINY
            known = np.isfinite(np.float64(size)) & np.isfinite(margin)
            for how in _WAYS:
                (result,) = interp.evaluate(module, [x, y], **how)
                wrong = known & ~(np.abs(result - wanted) <= margin)
                if wrong.any():
                    k = int(np.argmax(wrong))
                    found.append(f"{name}, {how}: {result[k]:.9g} instead of {wanted[k]:.9g}")
    return found
