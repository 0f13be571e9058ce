"""Global memory traffic of a kernel on tiles, predicted from its plan and tile sizes.

The sum over blocks of what each copies to shared memory (tiles that stay once, streamed ones for
every chunk between the bounds of the block), of what threads read straight from memory, of results
and of the states of parts: H of a grouped and streamed diagram (Abbott and Zardini, "FlashAttention
on a Napkin", 2024), with bounds, tails and alignment. Nothing is lowered.

Arrays are taken to be contiguous and to begin at a multiple of 16 bytes. Streams with a condition
(results that are worked out again where precision was lost) run rarely.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

from diagc.cost import Traffic
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.tiles.bounds import chunk_bounds
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.packing import pack
from diagc.targets.nvptx.tiles.parts import least_summed, part_elements, sharing_of
from diagc.targets.nvptx.tiles.plan import Plan, Staged, trace
from diagc.targets.nvptx.tiles.rare_rows import rare_stream
from diagc.targets.nvptx.tiles.reads import Reads, find_reads
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.shared_tile import CHUNK_BYTES

__all__ = ["tile_traffic", "visited_chunks"]


def tile_traffic(
    plan: Plan,
    schedule: TileSchedule,
    sizes: Mapping[str, int],
    *,
    rare: bool = False,
    multiprocessors: int | None = None,
) -> Traffic:
    """Bytes that all launches of a kernel move.

    Args:
        plan: of the kernel.
        schedule: its tile sizes.
        sizes: of the axes that are open, by label.
        rare: whether streams with a condition run, for all rows.
        multiprocessors: of the device, for the number of parts; see `Sharing.parts`.
    """
    with plan.kernel.context, ir.Location.unknown():
        count = _Count(pack(plan, schedule), schedule, _all_sizes(plan, sizes), Code(), rare)
        return count.shared_stream(multiprocessors) if schedule.split else count.whole()


def visited_chunks(plan: Plan, schedule: TileSchedule, sizes: Mapping[str, int]) -> list[list[int]]:
    """Chunks that every kind of block visits, a list for each stream that always runs."""
    streams = [op for op in plan.streams() if not len(op.operands)]
    with plan.kernel.context, ir.Location.unknown():
        count = _Count(pack(plan, schedule), schedule, _all_sizes(plan, sizes), Code(), rare=False)
        bounds = [[count.chunks(place, op) for place in count.places] for op in streams]
    return [[last - first for first, last in found] for found in bounds]


def _all_sizes(plan: Plan, sizes: Mapping[str, int]) -> dict[str, int]:
    static = {label: size for label, size in plan.sizes.items() if size != diag.DYNAMIC}
    return {**sizes, **static}


@dataclass(frozen=True)
class _Place:
    """A block, as `bounds.BlockPlace` says, its columns, and how many blocks are like it."""

    code: Code
    schedule: TileSchedule
    row: str
    sizes: Mapping[str, int]
    grid: Mapping[str, int]
    row_base: int
    columns: int
    count: int

    @property
    def rows(self) -> int:
        """Rows of the block that exist."""
        return min(self.schedule.row_extent, self.sizes[self.row] - self.row_base)


@dataclass
class _Count:
    plan: Plan
    schedule: TileSchedule
    sizes: Mapping[str, int]
    code: Code
    rare: bool
    places: list[_Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Blocks differ by their rows, and by positions of the grid that bounds depend on."""
        plan, grid = self.plan, self.plan.grid
        streams = [op for op in plan.streams() if "diag.bound_axes" in op.attributes]
        axes = {x for op in streams for x in diag.strings(op.attributes["diag.bound_axes"])}
        bound = [label for label in grid if label in axes]
        count = prod(self.sizes[label] for label in grid if label not in axes)
        for base, alike in self._bases(depend=bool(axes)):
            for at in product(*(range(self.sizes[label]) for label in bound)):
                position = dict(zip(bound, at, strict=True))
                common = self.code, self.schedule, plan.row, self.sizes
                for columns, times in self._columns():
                    blocks = alike * count * times
                    self.places.append(_Place(*common, position, base, columns, blocks))

    def _columns(self) -> list[tuple[int, int]]:
        """How many columns a tile has, and how many have as many."""
        if self.plan.tiled is None:
            return [(0, 1)]
        size, extent = self.sizes[self.plan.tiled], self.schedule.columns
        parts = [(extent, size // extent), (size % extent, 1)]
        return [(columns, times) for columns, times in parts if columns and times]

    def _bases(self, *, depend: bool) -> list[tuple[int, int]]:
        """First rows of blocks; where bounds do not depend on rows, all but the last are alike."""
        rows, step = self.sizes[self.plan.row], self.schedule.row_extent
        bases = list(range(0, rows, step))
        if depend or len(bases) < 2:
            return [(base, 1) for base in bases]
        return [(0, len(bases) - 1), (bases[-1], 1)]

    # -- launches --------------------------------------------------------------------------------
    def whole(self) -> Traffic:
        """One launch does it all."""
        reads = find_reads(self.plan, (0, 1, 3))
        fixed = [staged for staged in self.plan.staged if staged.streamed is None]
        read = 0
        for place in self.places:
            read += place.count * self._once(place, fixed, reads)
            for number, op in enumerate(self.plan.streams()):
                chunks = self.chunks(place, op)
                read += place.count * self._streamed(place, number, reads, *chunks)
        times = 2 if self.rare and rare_stream(self.plan) is not None else 1
        return Traffic(read, times * self._results())

    def shared_stream(self, multiprocessors: int | None) -> Traffic:
        """Blocks share a stream, and the last launch joins their states."""
        schedule, (op,) = self.schedule, self.plan.streams()
        first, second = find_reads(self.plan, (0, 1)), find_reads(self.plan, (0, 2, 3))
        sharing = sharing_of(self.plan, schedule)
        parts = sharing.parts(self.sizes, multiprocessors)
        chunks = -(-self.sizes[sharing.axis] // schedule.chunk)
        share = sharing.chunks_of_part(chunks, parts)
        states = 4 * part_elements(self.plan, schedule.warps, schedule.row_blocks)
        fixed = [staged for staged in self.plan.staged if staged.streamed is None]
        read = blocks = 0
        for place in self.places:
            blocks += place.count
            low, high = self.chunks(place, op)
            for part in range(parts):
                start, end = part * share, (part + 1) * share
                visited = (max(min(x, end), start) for x in (low, high))
                read += place.count * self._once(place, fixed, first)
                read += place.count * self._streamed(place, 0, first, *visited)
            read += place.count * self._once(place, second.staged, second)
            read += place.count * parts * self._direct(second, 0, 2)
        summed = blocks * states if 0 < least_summed(self.plan, schedule) <= parts else 0
        moved = parts * blocks * states
        return Traffic(read + moved + summed, moved + summed + self._results())

    def _results(self) -> int:
        """Every element once; what has no rows is written by each block of rows."""
        tiles = -(-self.sizes[self.plan.row] // self.schedule.row_extent)
        (*_, end) = diag.function_body(self.plan.kernel).operations
        total = 0
        for wire, value in zip(self.plan.signature.results, end.operands, strict=True):
            times = 1 if self.plan.row in diag.labels(value) else tiles
            count = prod(self.sizes[label] for label in wire.labels)
            total += times * count * DTYPES[wire.dtype]
        return total

    # -- what one block reads --------------------------------------------------------------------
    def _once(self, place: _Place, fixed: Sequence[Staged], reads: Reads) -> int:
        """Tiles that stay, and what threads read outside of the loops of streams."""
        found = sum(self._copied(place, staged) for staged in fixed)
        found += self._direct(reads, None, 0)
        return found + sum(
            self._direct(reads, number, region)
            for number in range(len(self.plan.streams()))
            for region in (0, 3)
        )

    def chunks(self, place: _Place, op: ir.Operation) -> tuple[int, int]:
        """The first chunk that a block visits, and the first that it does not."""
        axis = ir.StringAttr(op.attributes["axis"]).value
        bounds = chunk_bounds(place, op, axis)
        assert isinstance(bounds.first, int)
        assert isinstance(bounds.last, int), "bounds of numbers are numbers"
        visited = self.rare or not len(op.operands)
        return bounds.first, max(bounds.first, bounds.last) if visited else bounds.first

    def _streamed(self, place: _Place, number: int, reads: Reads, first: int, last: int) -> int:
        """What chunks `first` <= j < `last` of a stream bring."""
        axis = ir.StringAttr(self.plan.streams()[number].attributes["axis"]).value
        staged = [staged for staged in self.plan.staged if staged.streamed == axis]
        copied = sum(self._copied(place, each, (first, last)) for each in staged)
        walked = [x for x in self.plan.staged if x.streamed is not None and x.streamed != axis]
        if self.plan.walked is not None:
            copied += (last - first) * sum(self._copied(place, each) for each in walked)
        return copied + (last - first) * self._direct(reads, number, 1)

    def _copied(self, place: _Place, staged: Staged, chunks: tuple[int, int] = (0, 1)) -> int:
        """Bytes of a tile: those that exist where lines are aligned, else one for each place."""
        wire = self.plan.signature.args[staged.argument]
        aligned = self._is_aligned(staged)
        spans = [
            self._span(place, label, label in self.plan.streamed, chunks, aligned)
            for label in (staged.lines, staged.inner)
        ]
        packed = self.schedule.packed if self.plan.row in (staged.lines, staged.inner) else 1
        return packed * prod(spans) * DTYPES[wire.dtype]

    def _span(
        self, place: _Place, label: str, streamed: bool, chunks: tuple[int, int], aligned: bool
    ) -> int:
        """Positions of a label that are read."""
        size, schedule = self.sizes[label], self.schedule
        if streamed:
            first, last = (x * schedule.chunk for x in chunks)
            return min(last, size) - min(first, size) if aligned else last - first
        if label == self.plan.row:
            return place.rows if aligned else schedule.row_extent
        if label == self.plan.tiled:
            return place.columns if aligned else schedule.columns
        return size if aligned else -(-size // 16) * 16

    def _is_aligned(self, staged: Staged) -> bool:
        """Whether every line of a contiguous array begins at a multiple of 16 bytes."""
        wire = self.plan.signature.args[staged.argument]
        line = self.sizes[wire.labels[-1]] * DTYPES[wire.dtype]
        return wire.unit_stride and wire.labels[-1] == staged.inner and line % CHUNK_BYTES == 0

    def _direct(self, reads: Reads, stream: int | None, region: int) -> int:
        """Bytes that the threads of a block that compute read from memory, as tiles lie.

        Rows are in every lane of a quad, columns in every quad of every warp.
        """
        return sum(
            32 * self.schedule.warps * self._slots(value) * self._element_bytes(value)
            for value, at in reads.direct
            if at == (None if stream is None else (stream, region))
        )

    def _slots(self, value: ir.Value) -> int:
        """Elements of a value in one thread."""
        rows, column = self.plan.shape(value)
        extent = 4 if column is None else self._extent(column)
        return (2 * self.schedule.row_blocks if rows else 1) * extent // 4

    def _extent(self, label: str) -> int:
        if label in self.plan.streamed:
            return self.schedule.chunk
        if label == self.plan.tiled:
            return self.schedule.columns
        return -(-self.sizes[label] // 16) * 16

    def _element_bytes(self, value: ir.Value) -> int:
        found = trace(value)
        assert found is not None, "what is read from memory is an argument"
        number = list(diag.function_body(self.plan.kernel).arguments).index(found[0])
        return DTYPES[self.plan.signature.args[number].dtype]
