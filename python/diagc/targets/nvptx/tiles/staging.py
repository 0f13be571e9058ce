"""The tiles of a kernel in shared memory: where they are, when they are filled, who reads them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.arena import Arena
from diagc.targets.nvptx.tiles.copies import TileCopy
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame, Span
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.operands import SharedRows
from diagc.targets.nvptx.tiles.plan import Plan, Staged
from diagc.targets.nvptx.tiles.shared_memory import SharedView

__all__ = ["Staging"]


@dataclass(eq=False)
class Staging:
    """Fills the tiles of a block, and waits before they are read."""

    frame: Frame
    plan: Plan
    arena: Arena
    memories: Sequence[Memory]
    stage: Index = 0
    """The stage that the loop being written reads, in bytes."""
    pending: int = 0
    """Groups of copies that were started after those of the tiles that stay."""
    _started: bool = False
    _ready: bool = False
    _rewritten: set[Staged] = field(default_factory=set)
    _copies: dict[Staged, TileCopy] = field(default_factory=dict)

    def start_fixed(self) -> None:
        """Start the copies of all tiles that stay; they are started when they are read, else."""
        self._started = True
        fixed = [staged for staged in self.plan.staged if staged.streamed is None]
        for staged in fixed:
            self._copy(staged).start(0, self._span(staged.lines), self._span(staged.inner))
        if fixed:
            self.frame.code.commit_copies()
        else:
            self._ready = True

    def start_chunk(self, axis: str, span: Span, stage: Index) -> None:
        """Start the copies of a chunk of a streamed axis."""
        for staged in self.plan.staged:
            if staged.streamed == axis:
                spans = [
                    span if label == staged.streamed else self._span(label)
                    for label in (staged.lines, staged.inner)
                ]
                self._copy(staged).start(stage, *spans)

    def view(self, staged: Staged) -> SharedView:
        """A tile, ready to be read."""
        if staged.streamed is not None:
            return SharedView(self.frame, self.arena.tiles[staged], self.stage)
        self.wait_fixed()
        return SharedView(self.frame, self.arena.tiles[staged])

    def wait_fixed(self) -> None:
        """Before anything else reads: the tiles that stay are there."""
        if self._ready:
            return
        self._ready = True
        code = self.frame.code
        with code.within(self.frame.scope):
            if not self._started:
                self.start_fixed()
            code.wait_copies(self.pending)
            code.barrier()

    def rows_tile(self, staged: Staged, memory: Memory, column: str) -> Tile:
        """A tile that stays, with rows, as elements in registers."""
        view = self.view(staged)
        by_rows = memory.labels.index(column) > memory.labels.index(self.frame.row)
        code = self.frame.code
        if memory.dtype == "f32":
            rows = SharedRows(self.frame, view, by_rows, paired=True)
            return Tile(code, True, column, code.f32, _RowElements(rows).element)
        rows = SharedRows(self.frame, view, by_rows)
        words = _RowWords(self.frame, rows)
        return Tile(
            code,
            True,
            column,
            code.f32,
            lambda slot: code.unpack(memory.dtype, words.word(slot), slot.pair),
            words=(memory.dtype, words.word),
        )

    def rewrite(self, staged: Staged, tile: Tile, dtype: str) -> SharedView:
        """Put a tile in the place of the argument that it was made of; once."""
        view = self.view(staged)
        if staged in self._rewritten:
            return view
        self._rewritten.add(staged)
        code, frame = self.frame.code, self.frame
        with code.within(frame.scope):
            columns = frame.columns(tile.column)
            slots = [slot for slot in tile.slots(frame.blocks, columns) if slot.pair == 0]
            values = [self._pair(tile, slot, dtype) for slot in slots]
            # every lane has read what others overwrite
            code.sync_warp()
            for slot, value in zip(slots, values, strict=True):
                size = view.tile.element_bytes
                line, chunk = 16 * slot.block + 8 * slot.half, slot.column * size // 2
                code.store(value, view.at("pairs", line, chunk), 2 * size)
            code.sync_warp()
        return view

    def _pair(self, tile: Tile, slot: Slot, dtype: str) -> ir.Value:
        if dtype != "f32":
            return tile.word(dtype, slot)
        pair = [tile.at(slot._replace(pair=pair)) for pair in (0, 1)]
        return self.frame.code.f32_pair(*pair)

    def _copy(self, staged: Staged) -> TileCopy:
        if staged not in self._copies:
            source, target = self.memories[staged.argument], self.arena.tiles[staged]
            copy = TileCopy(self.frame, source, target, staged.lines, staged.inner)
            self._copies[staged] = copy
        return self._copies[staged]

    def _span(self, label: str) -> Span:
        """The part of an axis that does not stream: the block's rows, or all."""
        frame = self.frame
        size = frame.sizes[label]
        if label == frame.row:
            return Span(frame.row_base, frame.schedule.rows, size)
        assert isinstance(size, int), "columns that do not stream are of known size"
        return Span(0, -(-size // 16) * 16, size)


@dataclass(eq=False)
class _RowWords:
    """Pairs of 16-bit elements, by ldmatrix; each matrix is read once."""

    frame: Frame
    rows: SharedRows
    _found: dict[tuple[int, int], list[ir.Value]] = field(default_factory=dict)

    def word(self, slot: Slot) -> ir.Value:
        """The word of a slot."""
        key = (slot.column // 2, slot.block)
        if key not in self._found:
            with self.frame.code.within(self.frame.scope):
                self._found[key] = self.rows.words(*key)[0]
        return self._found[key][slot.half + 2 * (slot.column % 2)]


@dataclass(eq=False)
class _RowElements:
    """f32 elements, in pairs."""

    rows: SharedRows
    _found: dict[tuple[int, int], list[ir.Value]] = field(default_factory=dict)

    def element(self, slot: Slot) -> ir.Value:
        """The element of a slot."""
        key = (slot.column, slot.block)
        if key not in self._found:
            self._found[key] = self.rows.numbers(*key)
        return self._found[key][slot.half + 2 * slot.pair]
