"""Tiles of global memory into shared memory: 16 bytes at a time, asynchronously, where aligned.

Positions that do not exist become 0. Where a line does not begin at a multiple of 16 bytes, or
neighbours are not neighbours in memory, elements are copied one by one, synchronously; both kinds
are finished by the same wait and barrier. Elements of f8 become f16 on their way, through
registers: eight at a time where whole lines exist and begin at multiples of 8 bytes.
"""

from dataclasses import dataclass, field
from math import gcd

from diagc.mlir import arith, ir, vector
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame, Span
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.shared_memory import chunk_offset, swizzle
from diagc.targets.nvptx.tiles.shared_tile import CHUNK_BYTES, SharedTile

__all__ = ["TileCopy"]


@dataclass(eq=False)
class TileCopy:
    """Copies a part of an array.

    Args:
        frame: of the block.
        source: an array with two local labels.
        target: where to.
        lines: the label that becomes lines.
        inner: the label that goes along a line.
    """

    frame: Frame
    source: Memory
    target: SharedTile
    lines: str
    inner: str
    _ways: dict[int, ir.Value] = field(default_factory=dict)

    def start(self, stage: Index, lines: Span, inner: Span) -> None:
        """Start copying the positions of two spans to a stage (a distance in bytes)."""
        unit = self.source.is_unit(self.inner)
        if not unit or (self.converts and not _covered(inner)):
            self._one_by_one(stage, lines, inner)
            return
        size = self.target.chunk_elements * self.source.element_bytes
        self.frame.code.choose(
            self.source.aligned((self.lines,), size),
            lambda: self._by_chunks(stage, lines, inner),
            lambda: self._one_by_one(stage, lines, inner),
        )

    @property
    def converts(self) -> bool:
        """Whether elements of f8 become f16."""
        return self.source.dtype == "f8E4M3FN" and self.target.element_bytes == 2

    # -- 16 bytes at a time ------------------------------------------------------------------------
    def _by_chunks(self, stage: Index, lines: Span, inner: Span) -> None:
        code, target, threads = self.frame.code, self.target, self.frame.schedule.threads
        chunks = -(-target.width // target.chunk_elements)
        across = min(1 << (chunks - 1).bit_length(), threads)
        with code.within(self.frame.scope):
            line, first = code.div(self.frame.thread, across), code.rem(self.frame.thread, across)
        for group in range(-(-chunks // across)):
            with code.within(self.frame.scope):
                chunk = code.add(first, group * across)
            beyond = (group + 1) * across > chunks
            condition = code.less(chunk, chunks) if beyond else None
            self._chunks(stage, (line, chunk, group), threads // across, condition, lines, inner)

    def _chunks(
        self,
        stage: Index,
        at: tuple[Index, Index, int],
        step: int,
        condition: ir.Value | None,
        lines: Span,
        inner: Span,
    ) -> None:
        """The chunks of a thread: one in every `step` lines."""
        code, (line, chunk, _group) = self.frame.code, at
        pointer = self._first(at, lines, inner)
        if self.converts:
            self._convert_chunks(stage, (line, chunk, pointer), step, condition, lines)
            return
        advance = self.source.offset(self.lines, step)
        for further in range(0, self.target.lines, step):
            place = self._place(stage, line, chunk, further)
            size = self._bytes(code.add(line, further), chunk, lines, inner)
            wanted = condition
            if further + step > self.target.lines:
                wanted = code.both(wanted, code.less(code.add(line, further), self.target.lines))
            self._copy(place, pointer, size, wanted)
            pointer = code.address(pointer, advance)

    def _copy(
        self,
        place: ir.Value,
        pointer: ir.Value,
        size: ir.Value | None,
        condition: ir.Value | None,
    ) -> None:
        code = self.frame.code
        if condition is None:
            code.copy_async(place, pointer, size)
        else:
            code.when(condition, lambda: code.copy_async(place, pointer, size))

    # -- eight f8 at a time ------------------------------------------------------------------------
    def _convert_chunks(
        self,
        stage: Index,
        at: tuple[Index, Index, ir.Value],
        step: int,
        condition: ir.Value | None,
        lines: Span,
    ) -> None:
        """The chunks of a thread, in a loop with two loads under way: unrolled, they spill."""
        code, (line, chunk, first), count = self.frame.code, at, self.target.lines
        together = 2 if count % (2 * step) == 0 else 1

        def some(number: Index, _carried: list[ir.Value]) -> list[ir.Value]:
            further = [code.add(number, step * i) for i in range(together)]
            wanted = condition
            if count % step:
                wanted = code.both(wanted, code.less(code.add(line, number), count))

            def move() -> None:
                pointers = [code.address(first, self.source.offset(self.lines, x)) for x in further]
                found = [
                    self._converted(pointer, code.add(line, x), lines)
                    for pointer, x in zip(pointers, further, strict=True)
                ]
                for value, x in zip(found, further, strict=True):
                    near = code.add(line, x)
                    place = code.add(chunk_offset(code, self.target, near, chunk), stage)
                    pointer = code.address(self.frame.smem, place)
                    code.store(value, code.address(pointer, self.target.offset), CHUNK_BYTES)

            if wanted is None:
                move()
            else:
                code.when(wanted, move)
            return []

        code.loop(0, count, step * together, [], some)

    def _converted(self, pointer: ir.Value, line: Index, lines: Span) -> ir.Value:
        """Eight f8 of a line as f16, zeros where it does not exist."""
        code, exists = self.frame.code, None
        if not _covered(lines):
            exists = code.less(code.add(lines.base, line), lines.size)
            pointer = arith.select(exists, pointer, self.source.base)
        pair = code.load(ir.VectorType.get([2], code.i32), pointer, 8)
        words = [w for i in (0, 1) for w in code.float8_words(vector.extract(pair, [], [i]))]
        if exists is not None:
            words = [arith.select(exists, word, code.index(0)) for word in words]
        return vector.from_elements(ir.VectorType.get([4], code.i32), words)

    def _first(self, at: tuple[Index, Index, int], lines: Span, inner: Span) -> ir.Value:
        """Pointer to the thread's first chunk: its way from the first line is always the same."""
        code, frame, source = self.frame.code, self.frame, self.source
        line, chunk, group = at
        if group not in self._ways:
            with code.within(frame.scope):
                pointer = code.address(source.base, source.offset(self.lines, line))
                start = code.mul(chunk, self.target.chunk_elements)
                self._ways[group] = code.address(pointer, source.offset(self.inner, start))
        pointer = code.address(self._ways[group], source.offset(self.lines, lines.base))
        return code.address(pointer, source.offset(self.inner, inner.base))

    def _place(self, stage: Index, line: Index, chunk: Index, further: int) -> ir.Value:
        """Where a chunk goes, `further` lines behind the thread's first."""
        code, target = self.frame.code, self.target
        period = further % 8
        near = code.add(line, period)
        place = code.add(chunk_offset(code, target, near, chunk), stage)
        pointer = code.address(self.frame.smem, place)
        return code.address(pointer, target.offset + (further - period) * target.pitch)

    def _bytes(self, line: Index, chunk: Index, lines: Span, inner: Span) -> ir.Value | None:
        """How many bytes of a chunk exist; None where all do."""
        code, size = self.frame.code, None
        if not _covered(inner):
            first = code.add(inner.base, code.mul(chunk, self.target.chunk_elements))
            left = code.mul(code.sub(inner.size, first), self.target.element_bytes)
            size = code.max(code.min(left, CHUNK_BYTES), 0)
        if not _covered(lines):
            exists = code.less(code.add(lines.base, line), lines.size)
            full = CHUNK_BYTES if size is None else size
            size = arith.select(exists, code.index(full), code.index(0))
        return None if size is None else code.index(size)

    # -- element by element ------------------------------------------------------------------------
    def _one_by_one(self, stage: Index, lines: Span, inner: Span) -> None:
        """A thread has a column, or some; it goes down the lines with some loads under way."""
        code, width, threads = self.frame.code, self.target.width, self.frame.schedule.threads
        across = gcd(width, threads)
        line, first = code.div(self.frame.thread, across), code.rem(self.frame.thread, across)

        def down(column: Index, _carried: list[ir.Value]) -> list[ir.Value]:
            start = (line, code.add(first, column))
            _Column(self, stage, start, lines, inner).copy(threads // across)
            return []

        if across == width:
            down(0, [])
        else:
            code.loop(0, width, across, [], down)


class _Column:
    """Copies a column from a line on; what does not exist is read elsewhere, and is 0."""

    def __init__(
        self, tile: TileCopy, stage: Index, start: tuple[Index, Index], lines: Span, inner: Span
    ) -> None:
        """Emit what is the same in all lines."""
        code, target = tile.frame.code, tile.target
        self.tile, self.lines, (self.line, column) = tile, lines, start
        position = code.add(inner.base, column)
        self.exists = code.less(position, inner.size)
        self.offset = tile.source.offset(tile.inner, position)
        chunk = code.div(column, target.chunk_elements)
        self.swizzled = code.bit_and(chunk, target.mask)
        byte = code.mul(code.rem(column, target.chunk_elements), target.element_bytes)
        byte = code.add(byte, code.mul(code.sub(chunk, self.swizzled), CHUNK_BYTES))
        place = code.address(tile.frame.smem, code.add(byte, stage))
        self.place = code.address(place, target.offset)

    def copy(self, step: int) -> None:
        """One in every `step` lines."""
        code, count = self.tile.frame.code, self.tile.target.lines
        together = next(n for n in (2, 1) if n == 1 or count % (n * step) == 0)

        def some(number: Index, _carried: list[ir.Value]) -> list[ir.Value]:
            first = code.add(self.line, number)
            lines = [code.add(first, step * i) for i in range(together)]
            if count % step:
                code.when(code.less(first, count), lambda: self._move(lines))
            else:
                self._move(lines)
            return []

        code.loop(0, count, step * together, [], some)

    def _move(self, lines: list[Index]) -> None:
        code, target = self.tile.frame.code, self.tile.target
        values = [self._element(line) for line in lines]
        for line, value in zip(lines, values, strict=True):
            low = code.bit_xor(self.swizzled, swizzle(code, target, line))
            place = code.add(code.mul(low, CHUNK_BYTES), code.mul(line, target.pitch))
            code.store(value, code.address(self.place, place), target.element_bytes)

    def _element(self, line: Index) -> ir.Value:
        code, source = self.tile.frame.code, self.tile.source
        at = code.add(self.lines.base, line)
        exists = arith.andi(self.exists, code.less(at, self.lines.size))
        offset = arith.addi(source.offset(self.tile.lines, at), self.offset)
        offset = arith.select(exists, offset, code.scalar(code.i64, 0))
        size = self.tile.target.element_bytes
        type_ = ir.IntegerType.get_signless(8 * size)
        if self.tile.converts:
            value = code.float8_half(code.load(code.i8, code.address(source.base, offset), 1))
        else:
            value = code.load(type_, code.address(source.base, offset), size)
        return arith.select(exists, value, code.scalar(type_, 0))


def _covered(span: Span) -> bool:
    """Whether every position of a span exists."""
    if span.whole:
        return True
    known = isinstance(span.base, int) and isinstance(span.size, int)
    return known and int(span.base) + span.extent <= int(span.size)
