"""Bounds of streams: affine forms of positions and sizes, in a target's index arithmetic."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from diagc.mlir import ir

__all__ = ["Arithmetic", "bound_value", "read_bounds"]

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


def read_bounds(stream: ir.Operation, name: str) -> dict[ir.Value, int]:
    """Wires whose integers bound a stream, with the number that is added to them.

    They are marked where masks in the body read them: `diag.element` ops with an attribute `name`,
    `diag.upper` or `diag.lower`. A row keeps positions below, or from, what it reads plus that.
    """
    found: dict[ir.Value, int] = {}
    pick = min if name == "diag.upper" else max
    for op in stream.regions[1].blocks[0].operations:
        elements = op.operation.opview.elements() if op.operation.name == "diag.map" else []
        for element in (x for x in elements if name in x.attributes):
            wire, offset = element.operands[0], ir.IntegerAttr(element.attributes[name]).value
            found[wire] = pick(found.get(wire, offset), offset)
    return found
