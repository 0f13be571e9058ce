"""Where the value of a wire lives during a task, and how its elements are read and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diagc.mlir import arith, ir, vector
from diagc.targets.cpu.code import Code, Index, is_float_type, is_vector
from diagc.targets.cpu.frame import Frame
from diagc.targets.elementwise.float8 import float8_bits, float8_value, is_float8
from diagc.targets.elementwise.scalars import compute_type, saturated

__all__ = [
    "Constant",
    "Form",
    "Memory",
    "Place",
    "Position",
    "Positions",
    "Scratch",
    "Total",
    "narrow",
    "stored_type",
]

Positions = Mapping[str, Index]

LINE_BITS = 64 * 8
"""Of a cache line."""


def stored_type(element: ir.Type) -> ir.Type:
    """The type of an element in scratch memory: compute types, with i1 as i32."""
    if isinstance(element, ir.IntegerType) and element.width == 1:
        return ir.IntegerType.get_signless(32)
    return compute_type(element)


def _widen(code: Code, value: ir.Value, element: ir.Type) -> ir.Value:
    """From the type in memory to the compute type of `element`."""
    wanted = compute_type(element)
    found = value.type.element_type if isinstance(value.type, ir.VectorType) else value.type
    if found == wanted:
        return value
    shaped = value.type
    type_ = ir.VectorType.get(shaped.shape, wanted) if isinstance(shaped, ir.VectorType) else wanted
    if isinstance(wanted, ir.IntegerType) and wanted.width == 1:
        return arith.cmpi(arith.CmpIPredicate.ne, value, code.like(value, 0))
    if is_float8(element):
        return float8_value(code, value)
    if is_float_type(wanted):
        return arith.extf(type_, arith.bitcast(_shaped_like(value, element), value))
    if found.width > wanted.width:
        return arith.trunci(type_, saturated(code, value, wanted))
    return arith.extsi(type_, value)


def _shaped_like(value: ir.Value, scalar: ir.Type) -> ir.Type:
    """`scalar`, or a vector of it when `value` is a vector."""
    return ir.VectorType.get(value.type.shape, scalar) if is_vector(value) else scalar


def to_bits(code: Code, value: ir.Value, element: ir.Type) -> ir.Value:
    """Round to a narrow float and give its bits, as memory holds them; other types stay."""
    if is_float8(element):
        return float8_bits(code, value)
    if not isinstance(element, (ir.F16Type, ir.BF16Type)):
        return value
    rounded = arith.truncf(_shaped_like(value, element), value)
    return arith.bitcast(_shaped_like(value, ir.IntegerType.get_signless(16)), rounded)


def narrow(value: ir.Value, memory: ir.Type) -> ir.Value:
    """From a compute type to the type in scratch memory."""
    found = value.type.element_type if isinstance(value.type, ir.VectorType) else value.type
    if found == memory:
        return value
    type_ = (
        ir.VectorType.get(value.type.shape, memory)
        if isinstance(value.type, ir.VectorType)
        else memory
    )
    if is_float_type(memory):
        return arith.truncf(type_, value)
    if found.width > memory.width:
        return arith.trunci(type_, value)
    return arith.extui(type_, value) if found.width == 1 else arith.extsi(type_, value)


class Place:
    """A readable value that varies along `labels`; `unit` is the contiguous one."""

    labels: tuple[str, ...]
    unit: str | None
    element: ir.Type

    def read(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> ir.Value:
        """The element at a position, or the vector along axis `along` from `offset` on."""
        raise NotImplementedError

    def renamed(self, names: Mapping[str, str]) -> "Place":
        """The same place under other labels."""
        raise NotImplementedError


@dataclass(frozen=True)
class Form:
    """A linear position: sum of coefficient * position over labels, plus a constant."""

    terms: tuple[tuple[str, int], ...]
    constant: int = 0

    def renamed(self, names: Mapping[str, str]) -> "Form":
        """The same form over other labels."""
        return Form(tuple((names.get(k, k), c) for k, c in self.terms), self.constant)

    def coefficient(self, label: str) -> int:
        """The factor of a label, 0 when it does not occur."""
        return dict(self.terms).get(label, 0)


@dataclass(frozen=True)
class Memory(Place):
    """An argument or result of the kernel, read through one linear form per memory axis."""

    buffer: ir.Value
    forms: tuple[Form, ...]
    element: ir.Type
    unit_stride: bool = True

    @property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Labels that occur in a form."""
        return tuple(dict.fromkeys(label for form in self.forms for label, _ in form.terms))

    @property
    def unit(self) -> str | None:  # type: ignore[override]
        """The label that walks consecutive elements: alone, factor 1, in the last axis only."""
        if not self.forms or not self.unit_stride:
            return None
        candidates = [label for label, factor in self.forms[-1].terms if factor == 1]
        for label in reversed(candidates):
            if all(form.coefficient(label) == 0 for form in self.forms[:-1]):
                return label
        return None

    def renamed(self, names: Mapping[str, str]) -> "Memory":
        """The same memory under other labels."""
        forms = tuple(form.renamed(names) for form in self.forms)
        return Memory(self.buffer, forms, self.element, self.unit_stride)

    def address(self, frame: Frame, at: Positions) -> list[Index]:
        """Indices of one element."""
        return self._at(frame, at, None, 0)

    def _at(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> list[Index]:
        code = frame.code
        where: list[Index] = []
        for form in self.forms:
            total: Index = form.constant
            for label, factor in form.terms:
                local = offset if label == along else at.get(label, 0)
                total = code.add(total, code.mul(code.add(frame.base(label), local), factor))
            where.append(total)
        return where

    def read(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> ir.Value:
        """Lanes that do not exist read as 0."""
        code = frame.code
        if along is None or along not in self.labels:
            return _widen(code, code.load(self.buffer, self._at(frame, at, None, 0)), self.element)
        if self.unit != along:
            return self._gather(frame, at, along, offset)
        where = self._at(frame, at, along, offset)
        mask = frame.tail_mask(along, offset)
        return _widen(code, code.load_vector(self.buffer, where, mask), self.element)

    def streams(self, frame: Frame, along: str | None) -> bool:
        """Whether this is a row along an axis for each position of a stream's chunk."""
        rows = [frame.spans[x] for x in self.labels if x in frame.spans and x != along]
        return along is not None and self.unit == along and any(r.ahead is not None for r in rows)

    def starts(self, frame: Frame, other: "Memory") -> range:
        """Offsets in a row of `other`, which may be longer, that one offset in a row stands for."""
        assert self.unit is not None
        assert other.unit is not None
        if frame.is_open(self.unit) or frame.is_open(other.unit):
            return range(1)
        return range(0, frame.extent(other.unit), max(frame.extent(self.unit), 1))

    def prefetch(self, frame: Frame, at: Positions, offset: Index, *, ahead: bool) -> None:
        """Ask for the line at `offset` of a streamed row: of this chunk, or of the next."""
        later = {}
        for label in self.labels:
            span = frame.spans.get(label) if ahead and label != self.unit else None
            if span is not None and span.ahead is not None:
                later[label] = frame.code.add(at.get(label, 0), span.ahead)
        self.ask(frame, {**at, **later}, offset)

    def ask(self, frame: Frame, at: Positions, offset: Index) -> None:
        """Ask for the line at `offset` of a row."""
        frame.code.prefetch(self.buffer, self._at(frame, at, self.unit, offset))

    def line_vectors(self, frame: Frame) -> int:
        """Vectors of a cache line."""
        width: int = self.buffer.type.element_type.width
        return max(1, LINE_BITS // (width * frame.code.lanes))

    def _gather(self, frame: Frame, at: Positions, along: str, offset: Index) -> ir.Value:
        """A strided vector, lane by lane; lanes beyond the end repeat the last position."""
        code = frame.code
        last = code.sub(frame.count(along), 1)
        element = self.buffer.type.element_type
        value = code.splat(element, 0)
        for lane in range(code.lanes):
            position = code.max(code.min(code.add(offset, lane), last), 0)
            scalar = code.load(self.buffer, self._at(frame, at, along, position))
            value = vector.insert(scalar, value, [], [lane])
        return _widen(code, value, self.element)

    def write(
        self, frame: Frame, value: ir.Value, at: Positions, along: str | None, offset: Index
    ) -> None:
        """Store a scalar, or a vector along the unit axis; lanes that do not exist are left."""
        code = frame.code
        value = narrow(to_bits(frame.code, value, self.element), self.buffer.type.element_type)
        if along is None or along not in self.labels:
            code.store(value, self.buffer, self._at(frame, at, None, 0))
            return
        mask = frame.tail_mask(along, offset)
        code.store_vector(value, self.buffer, self._at(frame, at, along, offset), mask)


@dataclass(frozen=True)
class Total(Memory):
    """A result that is added to: other tiles of the task have written parts of its sums."""

    def write(
        self, frame: Frame, value: ir.Value, at: Positions, along: str | None, offset: Index
    ) -> None:
        """Add a scalar, or a vector along the unit axis."""
        old = self.read(frame, at, along, offset)
        super().write(frame, arith.addf(old, value), at, along, offset)


@dataclass(frozen=True)
class Scratch(Place):
    """Memory of the task; the last axis is contiguous and padded to whole vectors.

    Axes in `tiled` hold the current tile only; of all others every position is there, also when
    they are renamed to an axis that the task has one position or one tile of.
    """

    buffer: ir.Value
    labels: tuple[str, ...]
    element: ir.Type
    tiled: frozenset[str] = frozenset()

    @classmethod
    def allocate(
        cls, frame: Frame, labels: Sequence[str], element: ir.Type, *, whole: str | None = None
    ) -> "Scratch":
        """Room for the extents of these labels, in this order; axis `whole` in whole vectors."""
        memory = frame.code.memory
        with memory.insertion_point():
            shape = [frame.whole_room(x) if x == whole else frame.room(x) for x in labels[:-1]]
            shape += [frame.whole_room(label) for label in labels[-1:]]
        tiled = frozenset(label for label in labels if label in (*frame.spans, *frame.grid))
        return cls(memory.allocate(shape, stored_type(element)), tuple(labels), element, tiled)

    def holds_padding(self, frame: Frame, label: str) -> bool:
        """Whether there is room for whole vectors along an axis."""
        size = self.buffer.type.shape[self.labels.index(label)]
        padded = frame.whole_room(label)
        return isinstance(padded, int) and size >= padded

    @property
    def unit(self) -> str | None:  # type: ignore[override]
        """The last axis."""
        return self.labels[-1] if self.labels else None

    def renamed(self, names: Mapping[str, str]) -> "Scratch":
        """The same memory under other labels."""
        labels = tuple(names.get(label, label) for label in self.labels)
        tiled = frozenset(names.get(label, label) for label in self.tiled)
        return Scratch(self.buffer, labels, self.element, tiled)

    def _at(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> list[Index]:
        return [self._position(frame, x, offset if x == along else at.get(x)) for x in self.labels]

    def _position(self, frame: Frame, label: str, local: Index | None) -> Index:
        if label in frame.grid:
            return 0 if label in self.tiled else frame.grid[label]
        assert local is not None
        return local if label in self.tiled else frame.code.add(frame.base(label), local)

    def read(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> ir.Value:
        """A scalar, or a vector along the last axis; other axes are gathered lane by lane."""
        code = frame.code
        if along is None or along not in self.labels:
            return _widen(code, code.load(self.buffer, self._at(frame, at, None, 0)), self.element)
        if along == self.unit:
            return _widen(
                code,
                code.load_vector(self.buffer, self._at(frame, at, along, offset)),
                self.element,
            )
        value = code.splat(self.buffer.type.element_type, 0)
        last = code.sub(frame.room(along), 1)
        for lane in range(code.lanes):
            position = code.min(code.add(offset, lane), last)
            scalar = code.load(self.buffer, self._at(frame, at, along, position))
            value = vector.insert(scalar, value, [], [lane])
        return _widen(code, value, self.element)

    def write(
        self, frame: Frame, value: ir.Value, at: Positions, along: str | None, offset: Index
    ) -> None:
        """Store a scalar or a whole vector; padding may be overwritten."""
        code = frame.code
        value = narrow(value, self.buffer.type.element_type)
        if along is None or along not in self.labels:
            code.store(value, self.buffer, self._at(frame, at, None, 0))
        else:
            code.store_vector(value, self.buffer, self._at(frame, at, along, offset))


@dataclass(frozen=True)
class Position(Place):
    """The positions along an axis, as i32."""

    label: str
    element: ir.Type

    @property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one label."""
        return (self.label,)

    @property
    def unit(self) -> str | None:  # type: ignore[override]
        """Its own label: lanes are made, not loaded."""
        return self.label

    def renamed(self, names: Mapping[str, str]) -> "Position":
        """Positions of another axis of the same size."""
        return Position(names.get(self.label, self.label), self.element)

    def read(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> ir.Value:
        """Base of the task, plus the local position, plus the lane."""
        code = frame.code
        base = frame.base(self.label)
        if along != self.label:
            return code.to_i32(code.add(base, at.get(self.label, 0)))
        start = code.broadcast(code.to_i32(code.add(base, offset)))
        return arith.addi(start, code.iota())


@dataclass(frozen=True)
class Constant(Place):
    """One number."""

    value: float
    element: ir.Type
    labels: tuple[str, ...] = ()
    unit: str | None = None

    def renamed(self, names: Mapping[str, str]) -> "Constant":
        """Numbers have no labels."""
        return self

    def read(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> ir.Value:
        """A scalar constant."""
        return frame.code.scalar(compute_type(self.element), self.value)
