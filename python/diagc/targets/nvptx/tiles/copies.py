"""Tiles of global memory into shared memory: 16 bytes at a time, asynchronously, where aligned.

Positions that do not exist become 0. Where a line does not begin at a multiple of 16 bytes, or
neighbours are not neighbours in memory, elements are copied one by one, synchronously; both kinds
are finished by the same wait and barrier.
"""

from dataclasses import dataclass

from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame, Span
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.shared_memory import CHUNK_BYTES, SharedTile, swizzle

__all__ = ["TileCopy"]


@dataclass(frozen=True)
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

    def start(self, stage: Index, lines: Span, inner: Span) -> None:
        """Start copying the positions of two spans to a stage (a distance in bytes)."""
        unit = self.source.is_unit(self.inner)
        if not unit:
            self._one_by_one(stage, lines, inner)
            return
        self.frame.code.choose(
            self.source.aligned(self.lines, CHUNK_BYTES),
            lambda: self._by_chunks(stage, lines, inner),
            lambda: self._one_by_one(stage, lines, inner),
        )

    # -- 16 bytes at a time ------------------------------------------------------------------------
    def _by_chunks(self, stage: Index, lines: Span, inner: Span) -> None:
        code, target, threads = self.frame.code, self.target, self.frame.schedule.threads
        chunks = -(-target.width // target.chunk_elements)
        across = min(1 << (chunks - 1).bit_length(), threads)
        step = threads // across
        line = code.div(self.frame.thread, across)
        chunk = code.rem(self.frame.thread, across)
        source = self._first(line, chunk, lines, inner)
        advance = self.source.offset(self.lines, step)
        rounds = -(-target.lines // step)
        bounds = [across > chunks and code.less(chunk, chunks) or None]
        if target.lines % step:
            bounds.append(code.less(line, target.lines))

        def copy() -> None:
            pointer = source
            for i in range(rounds):
                place = self._place(stage, line, chunk, i * step)
                size = self._bytes(code.add(line, i * step), chunk, lines, inner)
                code.copy_async(place, pointer, size)
                pointer = code.address(pointer, advance)

        condition = None
        for bound in bounds:
            condition = code.both(condition, bound)
        if condition is None:
            copy()
        else:
            code.when(condition, copy)

    def _first(self, line: Index, chunk: Index, lines: Span, inner: Span) -> ir.Value:
        code = self.frame.code
        pointer = self.source.base
        start = code.add(inner.base, code.mul(chunk, self.target.chunk_elements))
        pointer = code.address(pointer, self.source.offset(self.lines, code.add(lines.base, line)))
        return code.address(pointer, self.source.offset(self.inner, start))

    def _place(self, stage: Index, line: Index, chunk: Index, further: int) -> ir.Value:
        """Where a chunk goes, `further` lines behind the thread's first."""
        code, target = self.frame.code, self.target
        period = further % 8
        near = code.add(line, period)
        low = code.bit_xor(code.bit_and(chunk, target.mask), swizzle(code, target, near))
        high = code.sub(chunk, code.bit_and(chunk, target.mask))
        place = code.mul(code.add(low, high), CHUNK_BYTES)
        place = code.add(code.add(place, code.mul(near, target.pitch)), stage)
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
            size = arith.select(exists, code.value(full), code.value(0))
        return None if size is None else code.value(size)

    # -- element by element ------------------------------------------------------------------------
    def _one_by_one(self, stage: Index, lines: Span, inner: Span) -> None:
        code, target = self.frame.code, self.target
        count = target.lines * target.width

        def copy(number: ir.Value, _carried: list[ir.Value]) -> list[ir.Value]:
            index = code.add(number, self.frame.thread)
            line, column = code.div(index, target.width), code.rem(index, target.width)
            at = (code.add(lines.base, line), code.add(inner.base, column))
            exists = code.both(code.less(at[0], lines.size), code.less(at[1], inner.size))
            place = self._element_place(stage, line, column)
            assert exists is not None
            code.choose(exists, lambda: self._move(at, place), lambda: self._clear(place))
            return []

        code.loop(0, count, [], copy, step=self.frame.schedule.threads)

    def _element_place(self, stage: Index, line: Index, column: Index) -> ir.Value:
        code, target = self.frame.code, self.target
        chunk = code.div(column, target.chunk_elements)
        low = code.bit_xor(code.bit_and(chunk, target.mask), swizzle(code, target, line))
        high = code.sub(chunk, code.bit_and(chunk, target.mask))
        byte = code.mul(code.rem(column, target.chunk_elements), target.element_bytes)
        place = code.add(code.mul(code.add(low, high), CHUNK_BYTES), byte)
        place = code.add(code.add(place, code.mul(line, target.pitch)), stage)
        return code.address(code.address(self.frame.smem, place), target.offset)

    def _move(self, at: tuple[Index, Index], place: ir.Value) -> None:
        code, size = self.frame.code, self.target.element_bytes
        pointer = code.address(self.source.base, self.source.offset(self.lines, at[0]))
        pointer = code.address(pointer, self.source.offset(self.inner, at[1]))
        type_ = ir.IntegerType.get_signless(8 * size)
        code.store(code.load(type_, pointer, size), place, size)

    def _clear(self, place: ir.Value) -> None:
        code, size = self.frame.code, self.target.element_bytes
        zero = code.constant(ir.IntegerType.get_signless(8 * size), 0)
        code.store(zero, place, size)


def _covered(span: Span) -> bool:
    """Whether every position of a span exists."""
    if span.whole:
        return True
    known = isinstance(span.base, int) and isinstance(span.size, int)
    return known and int(span.base) + span.extent <= int(span.size)  # type: ignore[arg-type]
