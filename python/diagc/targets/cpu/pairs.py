"""Operands of bf16 dot products: 32-bit words that hold two neighbours along the summed axis.

AVX512-BF16's `vdpbf16ps` multiplies 32 bf16 by 32 bf16 and adds neighbouring products into 16 f32
lanes. So an operand is kept as words (element r in the low half, r + 1 in the high half): one word
per lane for the vector operand, one word broadcast for the other. Where the number of elements is
odd the last high half is 0 in both operands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diagc.mlir import arith, ir, vector
from diagc.targets.cpu.code import Code, Index
from diagc.targets.cpu.frame import Frame
from diagc.targets.cpu.loops import each_position, each_vector
from diagc.targets.cpu.packing import pack
from diagc.targets.cpu.places import Memory, Place

__all__ = ["PairMemory", "PairScratch", "dot", "half"]

Positions = Mapping[str, Index]


def half(code: Code, value: Index) -> Index:
    """Value / 2, rounded down."""
    if isinstance(value, int):
        return value // 2
    return arith.shrui(value, code.index(1))


def dot(code: Code, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """Total + a.low * b.low + a.high * b.high per lane; a and b are vectors of words."""
    halves = code.vector_type(ir.BF16Type.get(), 2 * code.lanes)
    operands = [total, *(vector.bitcast(halves, x) for x in (a, b))]
    return code.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", total.type, operands)


def words(code: Code, low: ir.Value, high: ir.Value) -> ir.Value:
    """Round two f32 vectors to bf16 and interleave them into words."""
    lanes = code.lanes
    halves = code.vector_type(ir.BF16Type.get(), 2 * lanes)
    both = code.intrinsic("llvm.x86.avx512bf16.cvtne2ps2bf16.512", halves, [high, low])
    order = [x for i in range(lanes) for x in (i, lanes + i)]
    return vector.bitcast(code.vector_type(code.i32), vector.shuffle(both, both, order))


@dataclass
class PairScratch:
    """Words in the task's memory: axes `labels`, of which `pairs` counts words, `unit` is last."""

    buffer: ir.Value
    labels: tuple[str, ...]
    pairs: str
    pending: dict[tuple[object, ...], tuple[ir.Value, dict[str, Index]]] = field(
        default_factory=dict
    )

    @classmethod
    def allocate(cls, frame: Frame, labels: Sequence[str], pairs: str) -> "PairScratch":
        """Room for whole vectors along the last label, and whole vectors of words along pairs."""
        lanes = frame.code.lanes
        sizes = [
            -(-frame.extent(x) // (2 * lanes)) * lanes if x == pairs else frame.extent(x)
            for x in labels[:-1]
        ]
        shape = [*sizes, frame.whole_room(labels[-1])]
        buffer = frame.code.memory.allocate(shape, frame.code.i32)
        return cls(buffer, tuple(labels), pairs)

    @property
    def unit(self) -> str:
        """The contiguous label."""
        return self.labels[-1]

    def _at(self, frame: Frame, at: Positions, offset: Index) -> list[Index]:
        where: list[Index] = []
        for label in self.labels[:-1]:
            position = at[label]
            where.append(half(frame.code, position) if label == self.pairs else position)
        return [*where, offset]

    def read_words(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> ir.Value:
        """Words of the pair that begins at at[pairs]: a vector along the unit axis, or one."""
        code = frame.code
        if along == self.unit:
            return code.load_vector(self.buffer, self._at(frame, at, offset))
        return code.load(self.buffer, self._at(frame, at, at[self.unit]))

    def write_words(self, frame: Frame, value: ir.Value, at: Positions, offset: Index) -> None:
        """Store a vector of words."""
        frame.code.store_vector(value, self.buffer, self._at(frame, at, offset))

    def write(
        self, frame: Frame, value: ir.Value, at: Positions, along: str | None, offset: Index
    ) -> None:
        """Take the elements of one position; the second of a pair stores both.

        A nest emits the positions of a register block in order, so an even one comes just before
        its odd neighbour; `flush` stores one that has none.
        """
        others = tuple(at[label] for label in self.labels[:-1] if label != self.pairs)
        key = (*others, offset)
        if key not in self.pending:
            self.pending[key] = (value, dict(at))
            return
        low, position = self.pending.pop(key)
        self.write_words(frame, words(frame.code, low, value), position, offset)

    def flush(self, frame: Frame) -> None:
        """Store what waits for a neighbour that does not exist."""
        for key, (low, position) in list(self.pending.items()):
            zero = frame.code.like(low, 0.0)
            self.write_words(frame, words(frame.code, low, zero), position, key[-1])
        self.pending.clear()

    def pack(self, frame: Frame, source: Place) -> None:
        """Fill from a place whose elements are read as f32."""
        if self._can_turn(frame, source):
            self._turn(frame, source)
            return
        if self.unit in source.labels and source.unit != self.unit:
            source = pack(frame, source, self.unit)
        code, lanes = frame.code, frame.code.lanes
        outer = [label for label in self.labels[:-1] if label != self.pairs]
        count = frame.count(self.pairs)

        def body(at: dict[str, Index]) -> None:
            def step(r: Index, _carried: list[ir.Value]) -> list[ir.Value]:
                for v in range(frame.vectors(self.unit)):
                    self._pack_words(frame, source, {**at, self.pairs: r}, v * lanes)
                return []

            code.loop(0, count, 2, [], step)

        each_position(frame, outer, body)

    def _pack_words(self, frame: Frame, source: Place, at: dict[str, Index], offset: Index) -> None:
        code, r = frame.code, at[self.pairs]
        following = code.add(r, 1)
        last = code.sub(frame.count(self.pairs), 1)
        low = source.read(frame, at, self.unit, offset)
        high = source.read(frame, {**at, self.pairs: code.min(following, last)}, self.unit, offset)
        exists = code.broadcast(code.less(r, last))
        high = code.select(exists, code.broadcast(high), code.like(code.broadcast(low), 0.0))
        self.write_words(frame, words(code, code.broadcast(low), high), at, offset)

    def _can_turn(self, frame: Frame, source: Place) -> bool:
        """bf16 in memory, contiguous along the pairs: words are transposed as they are."""
        return (
            isinstance(source, Memory)
            and isinstance(source.element, ir.BF16Type)
            and source.unit == self.pairs
            and frame.extent(self.pairs) % (2 * frame.code.lanes) == 0
            and self.pairs not in frame.spans
        )

    def _turn(self, frame: Frame, source: Place) -> None:
        code, lanes = frame.code, frame.code.lanes
        assert isinstance(source, Memory)
        outer = [label for label in self.labels[:-1] if label != self.pairs]
        last = code.max(code.sub(frame.count(self.unit), 1), 0)

        def body(at: dict[str, Index]) -> None:
            def square(r: Index, offset: Index) -> None:
                rows = []
                for i in range(lanes):
                    row = {**at, self.unit: code.min(code.add(offset, i), last)}
                    where = source.address(frame, {**row, self.pairs: r})
                    bits = code.load_vector(source.buffer, where, lanes=2 * lanes)
                    rows.append(vector.bitcast(code.vector_type(code.i32), bits))
                for i, column in enumerate(code.transpose(rows)):
                    self.write_words(frame, column, {**at, self.pairs: code.add(r, 2 * i)}, offset)

            each_vector(
                frame,
                self.pairs,
                lambda r: each_vector(frame, self.unit, lambda offset: square(r, offset)),
                step=2 * lanes,
            )

        each_position(frame, outer, body)


@dataclass(frozen=True)
class PairMemory:
    """bf16 memory that is contiguous along the summed axis: pairs are read in place."""

    memory: Memory

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the memory."""
        return self.memory.labels

    def read_words(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> ir.Value:
        """One word."""
        code = frame.code
        pair = code.load_vector(self.memory.buffer, self.memory.address(frame, at), lanes=2)
        word = vector.bitcast(code.vector_type(code.i32, 1), pair)
        return vector.extract(word, [], [0])
