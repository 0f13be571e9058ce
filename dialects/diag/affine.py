"""Evaluation of affine expressions over any arithmetic: ints, arrays, or MLIR values."""

from collections.abc import Callable, Sequence
from typing import Any

from diagc.mlir import ir

__all__ = ["evaluate", "is_linear"]

# expression class -> (operation on two evaluated sides)
_BINARY: tuple[tuple[Any, Callable[[Any, Any], Any]], ...] = (
    (ir.AffineAddExpr, lambda a, b: a + b),
    (ir.AffineMulExpr, lambda a, b: a * b),
    (ir.AffineFloorDivExpr, lambda a, b: a // b),
    (ir.AffineModExpr, lambda a, b: a % b),
    (ir.AffineCeilDivExpr, lambda a, b: -(-a // b)),
)


def evaluate(expr: ir.AffineExpr, positions: Sequence[Any]) -> Any:
    """The value of `expr` with dimension i bound to `positions[i]` (ints or numpy arrays)."""
    if ir.AffineConstantExpr.isinstance(expr):
        return ir.AffineConstantExpr(expr).value
    if ir.AffineDimExpr.isinstance(expr):
        return positions[ir.AffineDimExpr(expr).position]
    for kind, operation in _BINARY:
        if kind.isinstance(expr):
            binary = kind(expr)
            return operation(evaluate(binary.lhs, positions), evaluate(binary.rhs, positions))
    raise ValueError(f"affine expression {expr} has no value: symbols are not allowed here")


def is_linear(expr: ir.AffineExpr) -> bool:
    """Whether `expr` has no division or remainder, so that it is extremal at corners."""
    for kind in (ir.AffineFloorDivExpr, ir.AffineModExpr, ir.AffineCeilDivExpr):
        if kind.isinstance(expr):
            return False
    for kind in (ir.AffineAddExpr, ir.AffineMulExpr):
        if kind.isinstance(expr):
            return is_linear(kind(expr).lhs) and is_linear(kind(expr).rhs)
    return True
