"""Which chunks of a streamed axis a block visits, and which of them need no masks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Protocol, TypeAlias

from diagc.algebra.bound_values import bound_value, read_bounds
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.plan import trace
from diagc.targets.nvptx.tiles.reductions import over_block, reduce_rows
from diagc.targets.nvptx.tiles.schedule import TileSchedule

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.frame import Frame
    from diagc.targets.nvptx.tiles.layouts import Tile
    from diagc.targets.nvptx.tiles.plan import Plan
    from diagc.targets.nvptx.tiles.regions import Region

__all__ = [
    "BlockPlace",
    "Bounds",
    "Fold",
    "any_row",
    "chunk_bounds",
    "narrowed",
    "reads_bounds",
    "stream_bounds",
]

Fold: TypeAlias = Callable[[ir.Value, str], Index]
"""The least ("min") or the largest ("max") integer that the rows of a block read of a wire."""


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
    """Bounds from the size, `diag.upper`, `diag.lower`, the condition of a stream, and its rows.

    A condition that is known to hold is none.
    """
    where = [x for x in op.operands if region.tile(x).literal is not True]
    wanted = any_row(region.frame, region.tile(where[0])) if where else None
    bounds = chunk_bounds(region.frame, op, axis, wanted)
    return narrowed(region.plan, region.frame, op, bounds, partial(_fold, region))


def narrowed(plan: "Plan", frame: "Frame", op: ir.Operation, bounds: Bounds, fold: Fold) -> Bounds:
    """The chunks between the least and the largest integer that rows of the block read.

    Args:
        plan: of the kernel.
        frame: of the block.
        op: the stream.
        bounds: without what is read.
        fold: of the block.
    """
    code, chunk, first, last = frame.code, frame.schedule.chunk, bounds.first, bounds.last
    # what is computed, warps that only copy do not know
    readable = partial(_readable, plan, op, arguments=frame.schedule.producers > 0)

    def place(wire: ir.Value, kind: str, offset: int) -> Index:
        """A position from 0 to the size."""
        number = code.min(code.uniform(fold(wire, kind)), code.sub(bounds.size, offset))
        return code.add(code.max(number, -offset), offset)

    for wire, offset in readable("diag.upper"):
        last = code.min(last, code.ceil_div(place(wire, "max", offset), chunk))
    for wire, offset in readable("diag.lower"):
        first = code.max(first, code.div(place(wire, "min", offset), chunk))
    if _same(first, bounds.first) and _same(last, bounds.last):
        return bounds
    first = code.min(first, last)
    return Bounds(first, code.max(code.min(bounds.full, last), first), last, bounds.size)


def reads_bounds(plan: "Plan") -> bool:
    """Whether rows of a block read, from arguments, where a stream begins or ends."""
    ends = product(plan.streams(), ("diag.upper", "diag.lower"))
    return any(True for op, name in ends for _ in _readable(plan, op, name, arguments=True))


def _readable(
    plan: "Plan", op: ir.Operation, name: str, *, arguments: bool
) -> Iterator[tuple[ir.Value, int]]:
    """Integers of 32 bits, as lanes exchange them, one a row or one a block."""
    known = {*plan.grid, *plan.rows}
    for wire, offset in read_bounds(op, name).items():
        is_word = str(diag.element_type(wire)) == "i32" and set(diag.labels(wire)) <= known
        if is_word and not (arguments and trace(wire) is None):
            yield wire, offset


def _fold(region: "Region", wire: ir.Value, kind: str) -> Index:
    """By all threads that compute."""
    frame, tile = region.frame, region.tile(wire)
    folded = reduce_rows(frame, kind, tile, frame.code.i32) if tile.rows else tile
    return folded.at(next(iter(tile.slots(1, 1))))


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


def any_row(frame: "Frame", tile: "Tile") -> ir.Value:
    """Whether a condition holds for any row of the block: the same in all threads."""
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
