"""The rules of views in reverse mode: relabel, reindex, concat, pad.

The adjoint of a gather is a scatter, which the dialect does not have. What it can say is refused
for nothing else: permutations, splits, merges and flips are undone by a gather, slices by a pad,
one position by a selection, and an axis that the source lacks is summed (`inverse_views.py`).
"""

from collections.abc import Callable

from diagc.algebra.expressions import select, symbol
from diagc.algebra.maps import map_expr
from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir
from diagc.passes.gradients.cotangents import Parts, Values, broadcast, in_order, summed
from diagc.passes.gradients.inverse_views import Inverse, NoInverseError, invert

__all__ = ["VIEW_ADJOINTS"]


def _relabel(op: ir.Operation, cotangent: ir.Value, active: Values) -> Parts:
    """The old names again."""
    source = op.operands[0]
    old, new = (diag.strings(op.attributes[name]) for name in ("from", "to"))
    names = {n: o for o, n in zip(old, new, strict=True) if n in diag.labels(cotangent)}
    if source in active:
        yield source, in_order(diag.relabel(cotangent, names), source)


def _pad(op: ir.Operation, cotangent: ir.Value, active: Values) -> Parts:
    """The part that was there before."""
    source = op.operands[0]
    axis, to = (ir.StringAttr(op.attributes[name]).value for name in ("axis", "to"))
    if source in active:
        low = ir.IntegerAttr(op.attributes["low"]).value
        yield source, _slice(cotangent, to, axis, source, low)


def _concat(op: ir.Operation, cotangent: ir.Value, active: Values) -> Parts:
    """To each operand its part."""
    left, right = op.operands
    axes, to = diag.strings(op.attributes["axes"]), ir.StringAttr(op.attributes["to"]).value
    if left in active:
        yield left, _slice(cotangent, to, axes[0], left, 0)
    if right in active:
        offset = diag.dims(left)[axes[0]]
        if offset == diag.DYNAMIC and to in diag.labels(cotangent):
            raise UnsupportedError(
                "diag.concat",
                reason=f'the gradient of what stands behind axis "{axes[0]}" of unknown size',
                location=op.location,
                remedy=f'give axis "{axes[0]}" a fixed size',
            )
        yield right, _slice(cotangent, to, axes[1], right, offset)


def _slice(cotangent: ir.Value, old: str, new: str, wire: ir.Value, offset: int) -> ir.Value:
    """Positions from `offset` on along axis `old`, which becomes the axis `new` of `wire`."""
    sizes = diag.dims(cotangent)
    if old not in sizes:
        return in_order(cotangent, wire)
    result = {new if k == old else k: diag.dims(wire)[new if k == old else k] for k in sizes}
    positions = [ir.AffineExpr.get_dim(number) for number in range(len(sizes))]
    positions[list(sizes).index(old)] += offset
    map_ = ir.AffineMap.get(len(sizes), 0, positions)
    return in_order(diag.reindex(cotangent, result, map_), wire)


# ---- reindex -----------------------------------------------------------------------------------


def _reindex(op: ir.Operation, cotangent: ir.Value, active: Values) -> Parts:
    source = op.operands[0]
    if source not in active:
        return
    try:
        inverse = invert(op)
    except NoInverseError as error:
        raise UnsupportedError(
            "diag.reindex",
            reason=f"its gradient is a scatter, which no view gives: {error}",
            location=op.location,
        ) from None
    yield source, _undone(op, inverse, broadcast(cotangent, op.results[0]))


def _undone(op: ir.Operation, inverse: Inverse, cotangent: ir.Value) -> ir.Value:
    """Sum what was repeated, gather, pad what was cut off, and select single positions."""
    source, dtype = op.operands[0], diag.element_type(op.results[0])
    wire = summed(cotangent, inverse.repeated)
    wire = diag.reindex(wire, inverse.gathered, inverse.map)
    for old, new, low, high in inverse.pads:
        wire = diag.pad(wire, old, new, low, high)
    wire = map_expr(symbol("d"), {"d": wire}, diag.element_type(wire), dtype=dtype)
    for axis, position in inverse.single.items():
        wire = _placed(wire, axis, diag.dims(source)[axis], position)
    return in_order(wire, source)


def _placed(wire: ir.Value, axis: str, size: int, position: int) -> ir.Value:
    """The wire at one position of a new axis, 0 elsewhere."""
    predicate = arith.CmpIPredicate.eq
    here = diag.map_(
        [diag.index(axis, size)],
        lambda i: arith.cmpi(predicate, i, arith.constant(ir.IndexType.get(), position)),
        dtype=ir.IntegerType.get_signless(1),
    )
    wires = {"d": wire, "here": here}
    return map_expr(select(symbol("here"), symbol("d"), 0.0), wires, diag.element_type(wire))


VIEW_ADJOINTS: dict[str, Callable[[ir.Operation, ir.Value, Values], Parts]] = {
    "diag.concat": _concat,
    "diag.pad": _pad,
    "diag.reindex": _reindex,
    "diag.relabel": _relabel,
}
