"""The register-blocked inner loop of a contraction.

A block holds `rows` positions of the blocked axes times `vectors` vectors in registers while the
summed axes run inside. An operand without the vector axis is broadcast scalar by scalar from where
it lives; one with it is loaded as vectors. When the vectors run along a summed axis, both operands
are vectors and the lanes are combined at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diagc.cost.registers import ACCUMULATORS, SIDES
from diagc.mlir import arith, ir
from diagc.targets.cpu.code import Code, Index, is_float_type, is_vector
from diagc.targets.cpu.frame import Frame
from diagc.targets.cpu.groups import Group
from diagc.targets.cpu.loops import each_vector_block
from diagc.targets.cpu.pairs import PairMemory, PairScratch, dot, half
from diagc.targets.cpu.places import Memory, Place
from diagc.targets.cpu.sums import sum_vectors
from diagc.targets.elementwise.scalars import compute_type

__all__ = ["Blocks", "Operand", "choose_blocks", "contract_block", "widen_to"]

# Steps of the innermost loop per trip. Where vectors come straight from memory LLVM hoists the
# loads of all steps and spills: 2 was 20 % faster than 4 for Gram states on AVX-512; from scratch
# memory 4 gains 1 %.
UNROLL, UNROLL_FROM_MEMORY = 4, 2
SPREAD_ROWS = 3
"""Rows far apart that a block should have at least, where there are any."""

Positions = dict[str, Index]
Operand = Place | PairScratch | PairMemory


@dataclass(frozen=True)
class Blocks:
    """Shape of the register block: vectors side by side, and block size per blocked axis.

    `rests` are the positions behind the last whole block of an axis, which make a smaller one. An
    axis in `strides` has none: the positions of its blocks lie that far apart, not side by side.
    """

    vectors: int
    sizes: Mapping[str, int]
    paired: frozenset[str] = frozenset()
    rests: Mapping[str, int] = field(default_factory=dict)
    strides: Mapping[str, int] = field(default_factory=dict)

    def steps(self, label: str) -> tuple[int, ...]:
        """Falling block sizes of an axis; halves keep the two elements of a pair together."""
        size = self.sizes.get(label, 1)
        if label in self.paired:
            return (size, 2) if size > 2 else (size,)
        rest = self.rests.get(label, 0)
        return (size, rest) if rest > 1 else (size,)


def _vector_block(frame: Frame, label: str | None, registers: int) -> int:
    """Vectors side by side: all when they are few, else as `SIDES` says."""
    if label is None:
        return 1
    choices = SIDES[registers]
    whole, rest = frame.split(label)
    if not isinstance(whole, int) or not isinstance(rest, int):
        return choices[0]
    total = whole + bool(rest)
    if total <= choices[0]:
        return max(total, 1)
    return next((block for block in choices if whole % block == 0), choices[0])


def choose_blocks(
    frame: Frame, group: Group, operands: Sequence[Operand], paired: Sequence[str] = ()
) -> Blocks:
    """Block the axis that only the broadcast operand has, so that vector loads are reused.

    Axes in `paired` need an even block: their elements are stored two by two.
    """
    head = group.head
    registers = 32 if frame.code.lanes == 16 else 16
    vectors = _vector_block(frame, group.vector, registers)
    if head is None:
        return Blocks(vectors, dict.fromkeys(paired, 2), frozenset(paired))
    rows = max(1, ACCUMULATORS[registers] // vectors)
    over = group.over or frozenset()
    kept = [label for label in group.domain if label not in over]
    reduced = [label for label in group.domain if label in over]
    # where the vectors are reduced too, each position of a block has accumulators of its own
    candidates = kept if group.vector in over else reduced or kept
    spread = {label for label in candidates if _is_spread(frame, group, operands, label)}
    sizes: dict[str, int] = {}
    for label in _by_reuse(candidates, operands, group.vector):
        if rows < 2:
            break
        block = _row_block(frame, label, _room(frame, label, rows, spread))
        if block > 1:
            sizes[label] = block
            rows //= block
    for label in paired:
        sizes[label] = sizes.get(label, 2) // 2 * 2 or 2
    ordered = {label: sizes[label] for label in group.domain if label in sizes}
    rests = {label: frame.extent(label) % size for label, size in ordered.items()}
    strides = {
        label: frame.extent(label) // size
        for label, size in ordered.items()
        if rests[label] == 0 and label in spread
    }
    return Blocks(vectors, ordered, frozenset(paired), rests, strides)


def _room(frame: Frame, label: str, rows: int, spread: set[str]) -> int:
    """Rows that an axis may take; spread ones get a share (8 heads a key head: 1.99 to 1.81 ms)."""
    crowded = bool(spread - {label}) and frame.extent(label) > rows // 2
    return rows // SPREAD_ROWS if crowded else rows


def _is_spread(frame: Frame, group: Group, operands: Sequence[Operand], label: str) -> bool:
    """Whether the positions of a block lie far apart: rows of memory, of a chunk that is whole.

    They are that many streams for the processor, which fetches each of them ahead: three rows side
    by side come at half the bandwidth of three that lie pages apart.
    """
    rows = [p for p in operands if isinstance(p, Memory) and label in p.labels]
    whole = label in frame.spans and isinstance(frame.count(label), int)
    return whole and any(p.unit == group.inner_vector is not None for p in rows)


def _row_block(frame: Frame, label: str, rows: int) -> int:
    extent = frame.extent(label)
    if label not in frame.spans and extent <= rows:
        return extent
    if rows == 6:  # two vectors on 16 registers; a rest is a block of its own
        return rows
    for block in (8, 4, 3, 2):
        if block <= min(rows, 4 if rows < 16 else 8) and (
            label in frame.spans or extent % block == 0
        ):
            return block
    return min(4, rows)


def _by_reuse(labels: Sequence[str], operands: Sequence[Operand], vector: str | None) -> list[str]:
    """Axes of exactly one operand first: blocking them reuses the other operand's loads."""

    def score(label: str) -> tuple[int, int]:
        holders = [p for p in operands if label in p.labels]
        scalar = sum(1 for p in holders if vector not in p.labels)
        return (0 if len(holders) == 1 else 1, -scalar)

    return sorted(labels, key=score)


def contract_block(
    frame: Frame,
    group: Group,
    operands: Sequence[Operand],
    points: Sequence[Positions],
    offset: Index,
    count: int,
) -> list[ir.Value]:
    """Sums for each point and vector, point-major; scalars when the vectors are summed away."""
    head = group.head
    assert head is not None
    block = _Block(frame, group, operands, points, offset, count)
    if group.inner_vector is not None:
        return block.along_vectors(group.inner_vector)
    return block.across(head.inner)


class _Block:
    """State of one register block while its code is emitted."""

    def __init__(
        self,
        frame: Frame,
        group: Group,
        operands: Sequence[Operand],
        points: Sequence[Positions],
        offset: Index,
        count: int,
    ) -> None:
        head = group.head
        assert head is not None
        self.frame, self.code, self.group, self.head = frame, frame.code, group, head
        self.places = list(operands)
        self.points, self.offset, self.count = points, offset, count
        self.type = compute_type(head.op.opview.acc_type)

    def across(self, inner: Sequence[str]) -> list[ir.Value]:
        """Summed axes as loops; the innermost unrolled."""
        if self.group.pairs is not None:
            return self._pair_loop(self.group.pairs)
        vector = self.group.vector is not None
        zero = self.code.splat(self.type, 0.0) if vector else self.code.scalar(self.type, 0.0)
        start = [zero] * (len(self.points) * self.count)
        return self._loops(list(inner), {}, start)

    def _loops(self, labels: list[str], at: Positions, sums: list[ir.Value]) -> list[ir.Value]:
        label, rest = labels[0], labels[1:]
        size = self.frame.count(label)
        if rest:
            return self.code.loop(
                0, size, 1, sums, lambda i, c: self._loops(rest, {**at, label: i}, c)
            )

        def step(i: Index, repeat: int, values: list[ir.Value]) -> list[ir.Value]:
            for k in range(repeat):
                values = self._multiply({**at, label: self.code.add(i, k)}, values)
            return values

        return self.code.blocked_loop(0, size, (self._unroll(),), sums, step)

    def _unroll(self) -> int:
        vector = self.group.vector
        direct = any(isinstance(p, Memory) and vector in p.labels for p in self.places)
        return UNROLL_FROM_MEMORY if direct else UNROLL

    def _multiply(self, at: Positions, sums: list[ir.Value]) -> list[ir.Value]:
        """One step of the innermost loop: each operand element is loaded once."""
        loaded: dict[tuple[object, ...], ir.Value] = {}
        result = list(sums)
        for p, point in enumerate(self.points):
            for v in range(self.count):
                a, b = (self._operand(k, {**point, **at}, v, loaded) for k in (0, 1))
                i = p * self.count + v
                result[i] = self.code.fma(a, b, result[i])
        return result

    def _operand(
        self, k: int, at: Positions, v: int, loaded: dict[tuple[object, ...], ir.Value]
    ) -> ir.Value:
        place, vector = self.places[k], self.group.vector
        varies = vector is not None and vector in place.labels
        own = tuple(at[label] for label in place.labels if label in at)
        key = (k, v if varies else -1, *own)
        if key not in loaded:
            offset = self.code.add(self.offset, v * self.code.lanes)
            along = vector if varies else None
            if isinstance(place, Memory):
                self._ask(place, at, offset, v)
            if isinstance(place, Place):
                value = widen_to(self.code, place.read(self.frame, at, along, offset), self.type)
            else:
                value = place.read_words(self.frame, at, along, offset)
            loaded[key] = self.code.broadcast(value) if vector is not None else value
        return loaded[key]

    def _ask(self, place: Memory, at: Positions, offset: Index, v: int) -> None:
        """Ask for rows that are read later, beside vector `v` of the block, at `offset` of a row.

        Where later nests read rows of the same chunk these come first: what this nest reads itself
        the processor sees coming, the more so where the rows of a block lie far apart.
        """
        frame, group = self.frame, self.group
        if group.asked or not place.streams(frame, group.inner_vector or group.vector):
            return
        for other in group.beside or (place,):
            if v % other.line_vectors(frame) == 0:
                for start in place.starts(frame, other):
                    where = self.code.add(offset, start)
                    other.prefetch(frame, at, where, ahead=not group.beside)

    def _pair_loop(self, label: str) -> list[ir.Value]:
        """bf16 dot products: two elements of the summed axis per step."""
        zero = self.code.splat(self.type, 0.0)
        size = self.frame.count(label)
        words = half(self.code, self.code.add(size, 1))

        def step(i: Index, repeat: int, values: list[ir.Value]) -> list[ir.Value]:
            for k in range(repeat):
                values = self._dot({label: self.code.mul(self.code.add(i, k), 2)}, values)
            return values

        start = [zero] * (len(self.points) * self.count)
        return self.code.blocked_loop(0, words, (UNROLL,), start, step)

    def _dot(self, at: Positions, sums: list[ir.Value]) -> list[ir.Value]:
        loaded: dict[tuple[object, ...], ir.Value] = {}
        result = list(sums)
        for p, point in enumerate(self.points):
            for v in range(self.count):
                a, b = (self._operand(k, {**point, **at}, v, loaded) for k in (0, 1))
                i = p * self.count + v
                result[i] = dot(self.code, result[i], a, b)
        return result

    def along_vectors(self, label: str) -> list[ir.Value]:
        """Vectors along the summed axis `label`; returns scalars."""
        zero = self.code.splat(self.type, 0.0)
        rest = [name for name in self.head.inner if name != label]
        sums = self._vector_loops(rest, label, {}, [zero] * len(self.points))
        return sum_vectors(self.code, sums)

    def _vector_loops(
        self, rest: list[str], label: str, at: Positions, sums: list[ir.Value]
    ) -> list[ir.Value]:
        if rest:
            size = self.frame.count(rest[0])
            return self.code.loop(
                0,
                size,
                1,
                sums,
                lambda i, c: self._vector_loops(rest[1:], label, {**at, rest[0]: i}, c),
            )
        lanes, total = self.code.lanes, self.frame.vectors(label)
        if isinstance(total, int) and total <= 2 * UNROLL and label not in self.frame.spans:
            for i in range(total):
                sums = self._multiply_vectors(label, i * lanes, at, sums, i)
            return sums
        return each_vector_block(
            self.frame, label, 1, sums, lambda i, _, c: self._multiply_vectors(label, i, at, c)
        )

    def _multiply_vectors(
        self, label: str, offset: Index, at: Positions, sums: list[ir.Value], v: int = 0
    ) -> list[ir.Value]:
        mask = self.frame.tail_mask(label, offset)
        loaded: dict[tuple[object, ...], ir.Value] = {}
        result = []
        for point, total in zip(self.points, sums, strict=True):
            position = {**point, **at}
            a, b = (
                self._vector_operand(k, position, label, offset, mask, loaded, v) for k in (0, 1)
            )
            result.append(self.code.fma(a, b, total))
        return result

    def _vector_operand(
        self,
        k: int,
        at: Positions,
        label: str,
        offset: Index,
        mask: ir.Value | None,
        loaded: dict[tuple[object, ...], ir.Value],
        v: int,
    ) -> ir.Value:
        place = self.places[k]
        assert isinstance(place, Place)
        own = tuple(at[name] for name in place.labels if name in at)
        if (k, *own) not in loaded:
            if isinstance(place, Memory):
                self._ask(place, at, offset, v)
            value = place.read(self.frame, at, label if label in place.labels else None, offset)
            value = self.code.broadcast(widen_to(self.code, value, self.type))
            if mask is not None:  # scratch padding holds anything, NaN included
                value = self.code.select(mask, value, self.code.splat(self.type, 0.0))
            loaded[k, *own] = value
        return loaded[k, *own]


def widen_to(code: Code, value: ir.Value, wide: ir.Type) -> ir.Value:
    """From f32 to f64, or from a narrow to a wider integer, where sums are kept wider."""
    found = value.type.element_type if is_vector(value) else value.type
    if found == wide:
        return value
    type_ = code.vector_type(wide) if is_vector(value) else wide
    return arith.extf(type_, value) if is_float_type(wide) else arith.extui(type_, value)
