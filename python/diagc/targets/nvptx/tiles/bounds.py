"""Which chunks of a streamed axis a block visits, and which of them need no masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.reductions import over_block

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.regions import Region

__all__ = ["Bounds", "stream_bounds"]


@dataclass(frozen=True)
class Bounds:
    """Numbers of chunks: `first` <= j < `last` are visited, below `full` all positions count."""

    first: Index
    full: Index
    last: Index
    size: Index

    def ranges(self) -> Iterator[tuple[Index, Index, bool]]:
        """(low, high, whether every position counts), in order."""
        if not _same(self.first, self.full):
            yield self.first, self.full, True
        if not _same(self.full, self.last):
            yield self.full, self.last, False


def _same(a: Index, b: Index) -> bool:
    return a is b or (isinstance(a, int) and isinstance(b, int) and a == b)


def stream_bounds(region: "Region", op: ir.Operation, axis: str) -> Bounds:
    """Bounds from the size, `diag.upper`, `diag.lower` and the condition of a stream.

    Both bounds grow with every position, so their values at the last and at the first row of the
    block hold for all of its rows.
    """
    frame = region.frame
    code, chunk = frame.code, frame.schedule.chunk
    size = frame.sizes[axis]
    first: Index = 0
    high = whole = size
    if "diag.upper" in op.attributes:
        high = code.max(code.min(size, _bound(frame, op, "diag.upper", last=True)), 0)
        whole = code.max(code.min(high, _bound(frame, op, "diag.upper", last=False)), 0)
    if "diag.lower" in op.attributes:
        low = code.max(_bound(frame, op, "diag.lower", last=False), 0)
        first = code.div(code.min(low, high), chunk)
    last = code.ceil_div(high, chunk)
    if len(op.operands):
        wanted = _any_row(region, op.operands[0])
        last = arith.select(wanted, code.index(last), code.index(first))
    full = code.max(code.min(code.div(whole, chunk), last), first)
    if isinstance(size, int) and "diag.upper" not in op.attributes and size % chunk == 0:
        full = last
    return Bounds(first, full, last, size)


def _bound(frame: Frame, op: ir.Operation, name: str, *, last: bool) -> Index:
    """A bound at the last or first row of the block."""
    affine = ir.AffineMapAttr(op.attributes[name]).value
    axes = diag.strings(op.attributes["diag.bound_axes"])
    positions = [_position(frame, label, last=last) for label in axes]
    sizes: list[Index] = []
    if "diag.bound_sizes" in op.attributes:
        sizes = [frame.sizes[label] for label in diag.strings(op.attributes["diag.bound_sizes"])]
    return _evaluate(frame.code, affine.results[0], positions, sizes)


def _position(frame: Frame, label: str, *, last: bool) -> Index:
    code = frame.code
    if label in frame.grid:
        return frame.grid[label]
    if label == frame.row:
        if not last:
            return frame.row_base
        end = code.min(code.add(frame.row_base, frame.schedule.rows), frame.sizes[label])
        return code.sub(end, 1)
    return code.sub(frame.sizes[label], 1) if last else 0


def _evaluate(code: Code, expr: ir.AffineExpr, positions: list[Index], sizes: list[Index]) -> Index:
    if isinstance(expr, ir.AffineConstantExpr):
        return int(expr.value)
    if isinstance(expr, ir.AffineDimExpr):
        return positions[expr.position]
    if isinstance(expr, ir.AffineSymbolExpr):
        return sizes[expr.position]
    for kind, combine in ((ir.AffineAddExpr, code.add), (ir.AffineMulExpr, code.mul)):
        if isinstance(expr, kind):
            sides = [_evaluate(code, side, positions, sizes) for side in (expr.lhs, expr.rhs)]
            return combine(*sides)
    raise ValueError(f"bound {expr} is not linear")


def _any_row(region: "Region", condition: ir.Value) -> ir.Value:
    """Whether any row of the block wants a stream's results: the same in all threads."""
    frame, tile = region.frame, region.tile(condition)
    code = frame.code
    found: ir.Value | None = None
    for slot in tile.slots(frame.blocks, frame.columns(tile.column)):
        wanted = tile.at(slot)
        exists = frame.exists(frame.row, slot) if tile.rows else None
        wanted = wanted if exists is None else arith.andi(wanted, exists)
        found = wanted if found is None else arith.ori(found, wanted)
    assert found is not None, "tiles are not empty"

    flag = arith.extui(code.i32, code.any_lane(found))
    folded = over_block(frame, "or", flag)
    return arith.cmpi(arith.CmpIPredicate.ne, folded, code.index(0))
