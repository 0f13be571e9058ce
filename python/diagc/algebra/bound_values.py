"""Bounds of streams: affine forms of positions and sizes, in a target's index arithmetic."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from diagc.mlir import ir

__all__ = ["Arithmetic", "bound_value"]

Index: TypeAlias = ir.Value | int


class Arithmetic(Protocol):
    """What adds and multiplies indices: the code builder of a target."""

    def add(self, a: Index, b: Index, /) -> Index:
        """The sum."""

    def mul(self, a: Index, b: Index, /) -> Index:
        """The product."""


def bound_value(
    code: Arithmetic, expr: ir.AffineExpr, positions: Sequence[Index], sizes: Sequence[Index]
) -> Index:
    """The value of an affine form whose dims are `positions` and whose symbols are `sizes`.

    Raises:
        ValueError: the form divides.
    """
    if isinstance(expr, ir.AffineConstantExpr):
        return int(expr.value)
    if isinstance(expr, ir.AffineDimExpr):
        return positions[expr.position]
    if isinstance(expr, ir.AffineSymbolExpr):
        return sizes[expr.position]
    for kind, combine in ((ir.AffineAddExpr, code.add), (ir.AffineMulExpr, code.mul)):
        if isinstance(expr, kind):
            sides = (bound_value(code, side, positions, sizes) for side in (expr.lhs, expr.rhs))
            return combine(*sides)
    raise ValueError(f"bound {expr} is not linear")
