"""Which chunks of a streamed axis a block visits, and which of them need no masks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from diagc.algebra.bound_values import bound_value, read_bounds
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.reductions import over_block, reduce_rows
from diagc.targets.nvptx.tiles.schedule import TileSchedule

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.regions import Region

__all__ = ["BlockPlace", "Bounds", "chunk_bounds", "stream_bounds"]


class BlockPlace(Protocol):
    """Where a block is, as in `Frame`; where all of it are ints, so are the bounds."""

    @property
    def code(self) -> Code:
        """Emitter; nothing is emitted for ints."""

    @property
    def schedule(self) -> TileSchedule:
        """Tile sizes."""

    @property
    def row(self) -> str:
        """The label of rows."""

    @property
    def sizes(self) -> Mapping[str, Index]:
        """Of every label."""

    @property
    def grid(self) -> Mapping[str, Index]:
        """Position along labels that the grid splits."""

    @property
    def row_base(self) -> Index:
        """First row."""


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

    Also those that rows read, but where other warps start the copies, which know no rows.
    """
    wanted = _any_row(region, op.operands[0]) if len(op.operands) else None
    bounds = chunk_bounds(region.frame, op, axis, wanted)
    return bounds if region.frame.schedule.producers else _narrowed(region, op, bounds)


def _narrowed(region: "Region", op: ir.Operation, bounds: Bounds) -> Bounds:
    """The chunks between the least and the largest integer that rows of the block read."""
    frame, first, last = region.frame, bounds.first, bounds.last
    code, chunk = frame.code, frame.schedule.chunk
    for wire, offset in _readable(region, op, "diag.upper"):
        end = _read(region, wire, "max", offset, bounds.size)
        last = code.min(last, code.ceil_div(end, chunk))
    for wire, offset in _readable(region, op, "diag.lower"):
        first = code.max(first, code.div(_read(region, wire, "min", offset, bounds.size), chunk))
    if _same(first, bounds.first) and _same(last, bounds.last):
        return bounds
    first = code.min(first, last)
    return Bounds(first, code.max(code.min(bounds.full, last), first), last, bounds.size)


def _readable(region: "Region", op: ir.Operation, name: str) -> Iterator[tuple[ir.Value, int]]:
    """Integers of 32 bits, as lanes exchange them, one a row or one a block."""
    known = {*region.frame.grid, *region.frame.rows}
    for wire, offset in read_bounds(op, name).items():
        if diag.element_type(wire) == region.frame.code.i32 and set(diag.labels(wire)) <= known:
            yield wire, offset


def _read(region: "Region", wire: ir.Value, kind: str, offset: int, size: Index) -> Index:
    """The least or largest integer of the block's rows plus a number, from 0 to the size."""
    frame, tile = region.frame, region.tile(wire)
    code, slot = frame.code, next(iter(tile.slots(1, 1)))
    folded = reduce_rows(frame, kind, tile, code.i32) if tile.rows else tile
    number: Index = folded.at(slot)
    return code.add(code.max(code.min(number, code.sub(size, offset)), -offset), offset)


def chunk_bounds(
    place: BlockPlace, op: ir.Operation, axis: str, wanted: ir.Value | None = None
) -> Bounds:
    """The same, given whether any row wants the stream's results (i1; None if all do).

    Both bounds grow with every position, so their values at the last and at the first row of the
    block hold for all of its rows.
    """
    code, chunk = place.code, place.schedule.chunk
    size = place.sizes[axis]
    first: Index = 0
    high = whole = size
    if "diag.upper" in op.attributes:
        high = code.max(code.min(size, _bound(place, op, "diag.upper", last=True)), 0)
        whole = code.max(code.min(high, _bound(place, op, "diag.upper", last=False)), 0)
    if "diag.lower" in op.attributes:
        low = code.max(_bound(place, op, "diag.lower", last=False), 0)
        first = code.div(code.min(low, high), chunk)
    last = code.ceil_div(high, chunk)
    if wanted is not None:
        last = arith.select(wanted, code.index(last), code.index(first))
        # it seldom runs: one loop with masks, half of the code
        return Bounds(first, first, last, size)
    full = code.max(code.min(code.div(whole, chunk), last), first)
    if isinstance(size, int) and "diag.upper" not in op.attributes and size % chunk == 0:
        full = last
    return Bounds(first, full, last, size)


def _bound(place: BlockPlace, op: ir.Operation, name: str, *, last: bool) -> Index:
    """A bound at the last or first row of the block."""
    affine = ir.AffineMapAttr(op.attributes[name]).value
    axes = diag.strings(op.attributes["diag.bound_axes"])
    positions = [_position(place, label, last=last) for label in axes]
    sizes: list[Index] = []
    if "diag.bound_sizes" in op.attributes:
        sizes = [place.sizes[label] for label in diag.strings(op.attributes["diag.bound_sizes"])]
    return bound_value(place.code, affine.results[0], positions, sizes)


def _position(place: BlockPlace, label: str, *, last: bool) -> Index:
    code = place.code
    if label in place.grid:
        return place.grid[label]
    if label == place.row:
        if not last:
            return place.row_base
        end = code.min(code.add(place.row_base, place.schedule.row_extent), place.sizes[label])
        return code.sub(end, 1)
    return code.sub(place.sizes[label], 1) if last else 0


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
