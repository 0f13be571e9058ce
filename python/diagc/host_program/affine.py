"""Affine maps as plain data, and how long an axis may be for a map to stay inside its source."""

from collections.abc import Mapping, Sequence

from diagc.errors import InternalError
from diagc.mlir import ir
from diagc.runtime.steps import Affine, Size

__all__ = ["affine", "longest"]


def longest(
    exprs: Sequence[Affine], extents: Sequence[Size], own: Sequence[int | None], position: int
) -> Size:
    """The largest size of one result axis for which a map stays inside its source.

    Args:
        exprs: one per source axis.
        extents: sizes of the source axes.
        own: static sizes of the result's axes, None where dynamic.
        position: of the result axis in question.
    """
    for expr, extent in zip(exprs, extents, strict=True):
        if _uses(expr, position):
            return _bound(expr, extent, own, position)
    raise InternalError(f"nothing bounds axis {position} of a reindexing")


def _uses(expr: Affine, position: int) -> bool:
    if isinstance(expr, int):
        return False
    return expr == ("dim", position) or any(_uses(part, position) for part in expr[1:])


def _bound(expr: Affine, extent: Size, own: Sequence[int | None], position: int) -> Size:
    """How far a dim may run so that `expr` stays below `extent`, one operation undone at a time."""
    if expr == ("dim", position):
        return extent
    kind, left, right = expr  # type: ignore[misc]
    if kind == "+":
        inside, other = (left, right) if _uses(left, position) else (right, left)
        return _bound(inside, _minus(extent, _last(other, own)), own, position)
    if kind == "*":  # f * d < n for d below ceil(n / f)
        inside, factor = (left, right) if _uses(left, position) else (right, left)
        return _bound(inside, ("//", ("+", extent, factor - 1), factor), own, position)
    if kind == "//":  # d // c < n for d below n * c
        return _bound(left, ("*", extent, right), own, position)
    raise InternalError("a remainder does not bound an axis")


def _minus(size: Size, amount: int) -> Size:
    return size - amount if isinstance(size, int) else ("-", size, amount) if amount else size


def _last(expr: Affine, own: Sequence[int | None]) -> int:
    """Value of an increasing expression at the last positions of the other axes."""
    if isinstance(expr, int):
        return expr
    if expr[0] == "dim":
        size = own[expr[1]]
        if size is None:
            raise InternalError("two axes of a reindexing have sizes that nothing tells")
        return size - 1
    left, right = (_last(part, own) for part in expr[1:])
    return {"+": left + right, "*": left * right, "//": left // max(right, 1), "%": left}[expr[0]]


def affine(expr: ir.AffineExpr) -> Affine:
    """An affine expression as plain data."""
    if isinstance(expr, ir.AffineConstantExpr):
        return int(expr.value)
    if isinstance(expr, ir.AffineDimExpr):
        return ("dim", int(expr.position))
    if type(expr) not in _AFFINE:
        raise InternalError(f"affine expression {expr} has no value on the host")
    return (_AFFINE[type(expr)], affine(expr.lhs), affine(expr.rhs))


_AFFINE: Mapping[type, str] = {
    ir.AffineAddExpr: "+",
    ir.AffineMulExpr: "*",
    ir.AffineFloorDivExpr: "//",
    ir.AffineModExpr: "%",
}
