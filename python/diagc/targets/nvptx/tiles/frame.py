"""Where a block is: its position on the grid, its rows, the part of each axis that it works on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.layouts import Slot
from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["Frame", "Span"]


@dataclass(frozen=True)
class Span:
    """The part of an axis that is worked on: positions from `base`, `extent` of them in registers.

    `size` is the size of the axis; `whole` says that all positions of the part exist.
    """

    base: Index
    extent: int
    size: Index
    whole: bool = False

    @property
    def columns(self) -> int:
        """Number of groups of 8 positions."""
        return self.extent // 8


@dataclass(eq=False)
class Frame:
    """Geometry of a kernel, with positions as i32 in the function's outermost scope.

    Args:
        code: emitter.
        schedule: tile sizes.
        row: the label of rows.
        sizes: of every label.
        grid: position of the block along labels that the grid splits.
        row_base: first position of the block along `row`.
        spans: of the labels that are columns; streamed ones while their loop is written.
        smem: address of shared memory.
        thread: number of the thread in the block.
        keeps_all: whether masks that `diag.keep` marks are true in the loop being written.
        scratch: offset of a few bytes of shared memory, for sums over warps.
        packed: a label whose positions are rows, too; see `tiles.packing`.
    """

    code: Code
    schedule: TileSchedule
    row: str
    sizes: Mapping[str, Index]
    grid: Mapping[str, Index]
    row_base: Index
    smem: ir.Value
    thread: ir.Value
    spans: dict[str, Span] = field(default_factory=dict)
    keeps_all: bool = False
    scratch: int = 0
    packed: str | None = None

    def __post_init__(self) -> None:
        """Emit what every part needs: numbers of lane, warp, quad."""
        code = self.code
        self.lane = code.rem(self.thread, 32)
        self.warp = code.div(self.thread, 32)
        self.quad = code.div(self.lane, 4)
        self.in_quad = code.rem(self.lane, 4)
        self.scope = code.scope
        self.shared_bases: dict[tuple[int, int, str, int], Index] = {}

    @property
    def rows(self) -> tuple[str, ...]:
        """The labels whose positions are rows."""
        return (self.row,) if self.packed is None else (self.packed, self.row)

    @property
    def blocks(self) -> int:
        """Blocks of 16 rows per warp."""
        return self.schedule.row_blocks

    @cached_property
    def warp_row(self) -> Index:
        """First row of the warp within the block."""
        with self.code.within(self.scope):
            return self.code.mul(self.warp, 16 * self.blocks)

    @cached_property
    def thread_row(self) -> Index:
        """The thread's first row: its position, or its number in the block where it is packed."""
        with self.code.within(self.scope):
            first = self.row_base if self.packed is None else 0
            return self.code.add(self.code.add(first, self.warp_row), self.quad)

    @cached_property
    def thread_column(self) -> Index:
        """The thread's first column in a tile."""
        with self.code.within(self.scope):
            return self.code.mul(self.in_quad, 2)

    def columns(self, label: str | None) -> int:
        """Groups of 8 columns of a label."""
        return self.spans[label].columns if label is not None else 1

    def position(self, label: str, slot: Slot) -> Index:
        """Position along a label: of the block on the grid, of a row, of a column."""
        code = self.code
        if label in self.grid:
            return self.grid[label]
        if label in self.rows:
            number = code.add(self.thread_row, 16 * slot.block + 8 * slot.half)
            return number if self.packed is None else self.row_position(label, number)
        base = code.add(self.spans[label].base, self.thread_column)
        return code.add(base, 8 * slot.column + slot.pair)

    def row_position(self, label: str, number: Index) -> Index:
        """Position along a label of a row of the block."""
        code, extent = self.code, self.schedule.row_extent
        if label == self.packed:
            return code.div(number, extent)
        inside = number if self.packed is None else code.rem(number, extent)
        return code.add(self.row_base, inside)

    def exists(self, label: str, slot: Slot) -> ir.Value | None:
        """Whether the position of a slot is one of the axis; None where it always is."""
        code = self.code
        if label == self.row:
            size = self.sizes[label]
            if isinstance(size, int) and size % self.schedule.row_extent == 0:
                return None
            return code.less(self.position(label, slot), size)
        span = self.spans[label]
        if span.whole or label in self.grid or label == self.packed:
            return None
        known = isinstance(span.base, int) and isinstance(span.size, int)
        if known and span.base + 8 * (slot.column + 1) <= span.size:
            return None
        return code.less(self.position(label, slot), span.size)
