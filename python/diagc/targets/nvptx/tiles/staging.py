"""The tiles of a kernel in shared memory: where they are, when they are filled, who reads them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.arena import Arena
from diagc.targets.nvptx.tiles.copies import TileCopy
from diagc.targets.nvptx.tiles.emitter import Index, Scope
from diagc.targets.nvptx.tiles.frame import Frame, Span
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.memory import Memory, register_type
from diagc.targets.nvptx.tiles.operands import SharedRows
from diagc.targets.nvptx.tiles.plan import Plan, Staged
from diagc.targets.nvptx.tiles.row_tiles import RowConditions, RowNumbers, RowWords
from diagc.targets.nvptx.tiles.shared_memory import SharedView
from diagc.targets.nvptx.tiles.shared_tile import ROW_BYTES, staged_dtype

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
    streamed: bool = False
    """Whether a stream has read chunks."""
    _started: bool = False
    _ready: bool = False
    _rewritten: set[Staged] = field(default_factory=set)
    _copies: dict[Staged, list[TileCopy]] = field(default_factory=dict)

    def start_fixed(self) -> None:
        """Start the copies of all tiles that stay; they are started when they are read, else."""
        self._started = True
        fixed = [staged for staged in self.plan.staged if staged.streamed is None]
        for staged in fixed:
            self._start(staged, 0, self._span(staged.lines), self._span(staged.inner))
        if fixed:
            self.frame.code.commit_copies()
        else:
            self._ready = True

    def start_chunk(self, axis: str, span: Span, stage: Index) -> None:
        """Start the copies of a chunk of a streamed axis, but for what a product walks."""
        for staged in self.plan.staged:
            if staged.streamed == axis and self.plan.walked is None:
                spans = [
                    span if label == staged.streamed else self._span(label)
                    for label in (staged.lines, staged.inner)
                ]
                self._start(staged, stage, *spans)

    def start_piece(self, piece: Span, stage: Index) -> None:
        """Start the copies of a piece of the axis that a product walks, of the chunk that is on."""
        for staged in self.plan.staged:
            if self.plan.walked in (staged.lines, staged.inner):
                spans = [
                    piece if label == self.plan.walked else self._piece_span(staged, label)
                    for label in (staged.lines, staged.inner)
                ]
                self._start(staged, stage, *spans)

    def _piece_span(self, staged: Staged, label: str) -> Span:
        return self.frame.spans[label] if label == staged.streamed else self._span(label)

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
        """A tile with rows as elements in registers; made where it is read, if it streams."""
        view = self.view(staged)
        scope = self.frame.scope if staged.streamed is None else self.frame.code.scope
        return self._elements(view, scope, memory, column)

    def _elements(self, view: SharedView, scope: Scope, memory: Memory, column: str) -> Tile:
        code = self.frame.code
        by_rows = memory.labels.index(column) > memory.labels.index(self.frame.row)
        element = register_type(self.frame, memory.dtype)
        if memory.dtype == "i1":
            return Tile(code, True, column, element, RowConditions(view, scope).element)
        if memory.dtype == "f32":
            rows = SharedRows(self.frame, view, by_rows, paired=True)
            return Tile(code, True, column, element, RowNumbers(rows, scope).element)
        words, dtype = (
            RowWords(SharedRows(self.frame, view, by_rows), scope),
            staged_dtype(memory.dtype),
        )
        return Tile(
            code,
            True,
            column,
            element,
            lambda slot: code.unpack(dtype, words.word(slot), slot.pair),
            words=(dtype, words.word),
        )

    def rewrite(
        self,
        staged: Staged,
        memory: Memory,
        column: str,
        mapped: Callable[[Tile], Tile],
        *,
        in_parts: bool,
    ) -> SharedView:
        """Put a map of an argument in the argument's place; once.

        Args:
            staged: the argument's tile: lines are rows.
            memory: the argument.
            column: its label besides that of rows.
            mapped: makes the map's elements, of the same type, in the scope being written.
            in_parts: whether columns may be mapped in a loop, 128 bytes at a time: less code.
        """
        view = self.view(staged)
        if staged in self._rewritten:
            return view
        self._rewritten.add(staged)
        code, frame = self.frame.code, self.frame
        span, size = frame.spans[column], view.tile.element_bytes
        whole = span.size == span.extent and span.extent * size % ROW_BYTES == 0
        parts = span.extent * size // ROW_BYTES if in_parts and whole else 1
        extent = span.extent // parts

        def part(number: Index, _carried: list[ir.Value]) -> list[ir.Value]:
            frame.spans[column] = Span(code.mul(number, extent), extent, span.size, whole)
            here = SharedView(frame, view.tile, code.mul(number, extent * size))
            tile = mapped(self._elements(here, code.scope, memory, column))
            self._replace(here, tile, memory.dtype)
            return []

        with code.within(frame.scope):
            if parts == 1:
                part(0, [])
            else:
                code.loop(0, parts, 1, [], part)
            code.sync_warp()
        frame.spans[column] = span
        return view

    def _replace(self, view: SharedView, tile: Tile, dtype: str) -> None:
        code, frame, size = self.frame.code, self.frame, view.tile.element_bytes
        columns = frame.columns(tile.column)
        slots = [slot for slot in tile.slots(frame.blocks, columns) if slot.pair == 0]
        values = [self._pair(tile, slot, dtype) for slot in slots]
        # every lane has read what others overwrite
        code.sync_warp()
        for slot, value in zip(slots, values, strict=True):
            line, chunk = 16 * slot.block + 8 * slot.half, slot.column * size // 2
            code.store(value, view.at("pairs", line, chunk), 2 * size)

    def _pair(self, tile: Tile, slot: Slot, dtype: str) -> ir.Value:
        if dtype != "f32":
            return tile.word(dtype, slot)
        pair = [tile.at(slot._replace(pair=pair)) for pair in (0, 1)]
        return self.frame.code.f32_pair(*pair)

    def _start(self, staged: Staged, stage: Index, lines: Span, inner: Span) -> None:
        if staged not in self._copies:
            self._copies[staged] = list(self._new_copies(staged))
        for copy in self._copies[staged]:
            copy.start(stage, lines, inner)

    def _new_copies(self, staged: Staged) -> Iterator[TileCopy]:
        """One; of rows that are packed one for each position of the axis that packs them."""
        source, target = self.memories[staged.argument], self.arena.tiles[staged]
        labels, packed = (staged.lines, staged.inner), self.plan.packed
        if packed is None or staged.lines != self.frame.row:
            yield TileCopy(self.frame, source, target, *labels)
            return
        extent = self.frame.schedule.row_extent
        for position in range(self.frame.schedule.packed):
            offset = target.offset + position * extent * target.pitch
            part = replace(target, offset=offset, lines=extent)
            yield TileCopy(self.frame, source.at(packed, position), part, *labels)

    def _span(self, label: str) -> Span:
        """The part of an axis that does not stream: the block's rows, or all."""
        frame = self.frame
        size = frame.sizes[label]
        if label == frame.row:
            return Span(frame.row_base, frame.schedule.row_extent, size)
        if label == self.plan.tiled:
            return frame.spans[label]
        assert isinstance(size, int), "columns that do not stream are of known size"
        return Span(0, -(-size // 16) * 16, size)
