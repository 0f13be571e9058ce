"""Evaluation of affine expressions over any arithmetic: ints, arrays, or MLIR values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diagc.mlir import ir

__all__ = ["evaluate", "has_positive_divisors", "is_linear", "used_dims"]

# expression class -> operation on two evaluated sides
_BINARY: Mapping[type, Callable[[Any, Any], Any]] = {
    ir.AffineAddExpr: lambda a, b: a + b,
    ir.AffineMulExpr: lambda a, b: a * b,
    ir.AffineFloorDivExpr: lambda a, b: a // b,
    ir.AffineModExpr: lambda a, b: a % b,
    ir.AffineCeilDivExpr: lambda a, b: -(-a // b),
}

_DIVISIONS = (ir.AffineFloorDivExpr, ir.AffineModExpr, ir.AffineCeilDivExpr)


def evaluate(expr: ir.AffineExpr, positions: Sequence[Any]) -> Any:
    """The value of `expr` with dimension i bound to `positions[i]` (ints or numpy arrays)."""
    if isinstance(expr, ir.AffineConstantExpr):
        return expr.value
    if isinstance(expr, ir.AffineDimExpr):
        return positions[expr.position]
    if type(expr) not in _BINARY:
        raise ValueError(f"affine expression {expr} has no value: symbols are not allowed here")
    operation = _BINARY[type(expr)]
    return operation(evaluate(expr.lhs, positions), evaluate(expr.rhs, positions))


def is_linear(expr: ir.AffineExpr) -> bool:
    """Whether `expr` has no division or remainder, so that it is extremal at corners."""
    if isinstance(expr, _DIVISIONS):
        return False
    if isinstance(expr, (ir.AffineAddExpr, ir.AffineMulExpr)):
        return is_linear(expr.lhs) and is_linear(expr.rhs)
    return True


def has_positive_divisors(expr: ir.AffineExpr) -> bool:
    """Whether every division and remainder in `expr` is by a positive number."""
    if type(expr) not in _BINARY:
        return True
    if isinstance(expr, _DIVISIONS):
        divisor = expr.rhs
        if not isinstance(divisor, ir.AffineConstantExpr) or divisor.value <= 0:
            return False
    return has_positive_divisors(expr.lhs) and has_positive_divisors(expr.rhs)


def used_dims(expr: ir.AffineExpr) -> set[int]:
    """The dimensions that `expr` depends on."""
    if isinstance(expr, ir.AffineDimExpr):
        return {expr.position}
    if type(expr) not in _BINARY:
        return set()
    return used_dims(expr.lhs) | used_dims(expr.rhs)
