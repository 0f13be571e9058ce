"""Values at positions, computed when they are asked for and remembered while they are in scope."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from diagc.dialects import diag
from diagc.errors import InternalError, UnsupportedError
from diagc.mlir import arith, ir
from diagc.targets.elementwise.code import Index
from diagc.targets.elementwise.scalars import compute_type, emit_body
from diagc.targets.nvptx.threads.code import GpuCode, memory_bytes
from diagc.targets.nvptx.threads.layout import At, Frame, Point, Pos
from diagc.targets.nvptx.threads.wires import GlobalWire

__all__ = ["Evaluator", "SharedArray", "SharedMemory"]

_ALIGNMENT = 16


@dataclass
class SharedMemory:
    """Hands out the dynamic shared memory of a block.

    Args:
        groups: of a block; each has its own part of every array.
    """

    groups: int
    used: int = 0

    def allocate(self, size: int) -> int:
        """Offset of `size` bytes for every group."""
        offset = self.used
        self.used += -(-size * self.groups // _ALIGNMENT) * _ALIGNMENT
        return offset


@dataclass(frozen=True)
class SharedArray:
    """A value in shared memory, one part for each group, contiguous in the order of `labels`."""

    pointer: ir.Value
    labels: tuple[str, ...]
    extents: tuple[int, ...]
    element: ir.Type

    def address(self, code: GpuCode, at: At) -> ir.Value:
        """Pointer to a position inside the spans."""
        total: Index = 0
        for i, label in enumerate(self.labels):
            step = prod(self.extents[i + 1 :])
            total = code.add(total, code.mul(at[label].local, step))
        return code.offset(self.pointer, self.element, total)


Key = tuple[Hashable, ...]


@dataclass
class Evaluator:
    """Gives the value of any wire of a kernel at positions that this thread looks at.

    Maps are computed where they are read. Results of reductions, contractions and streams are
    *anchored*: `define` says what they are at the positions that this thread holds; at others they
    are read from the copy in shared memory that `share` makes.
    """

    code: GpuCode
    frame: Frame
    wires: Mapping[ir.Value, GlobalWire]
    shared: SharedMemory
    shared_pointer: ir.Value
    thread: ir.Value
    same: Mapping[ir.Value, ir.Value]
    scopes: list[dict[Key, Any]] = field(default_factory=lambda: [{}])

    # -- scopes ------------------------------------------------------------------------------------
    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is computed inside is forgotten at the end: it may not dominate what follows."""
        self.scopes.append({})
        spans = dict(self.frame.spans)
        yield
        self.frame.spans = spans
        self.scopes.pop()

    def _find(self, key: Key) -> Any:
        for scope in reversed(self.scopes):
            if key in scope:
                return scope[key]
        return None

    def _remember(self, key: Key, found: Any) -> Any:
        self.scopes[-1][key] = found
        return found

    # -- positions ---------------------------------------------------------------------------------
    def canonical(self, value: ir.Value) -> ir.Value:
        """The one value that stands for this one."""
        while value in self.same:
            value = self.same[value]
        return value

    def dealt(self, value: ir.Value) -> tuple[str, ...]:
        """Axes of a value that are dealt out to threads."""
        return self.frame.dealt(diag.labels(value))

    def points(self, labels: Sequence[str]) -> list[Point]:
        """Positions of the domain of some axes that this thread holds, unrolled axes included."""
        return [
            replace(point, at={**point.at, **corner})
            for corner in self.frame.corners(labels)
            for point in self.dealt_points(self.frame.dealt(labels))
        ]

    def dealt_points(self, dealt: tuple[str, ...]) -> list[Point]:
        """Positions of dealt axes; the same objects as long as their spans are the same."""
        spans = tuple((label, self.frame.span(label)) for label in dealt)
        key = ("points", *spans)
        return self._find(key) or self._remember(key, self.frame.deal(dealt))

    def _pos(self, label: str, at: At) -> Pos:
        """A position; views may look at fixed axes of their source at other positions."""
        return at[label] if label in at else self.frame.fixed[label]

    def _key(self, value: ir.Value, at: At) -> Key:
        return (value, *(self._pos(label, at) for label in diag.labels(value)))

    # -- values ------------------------------------------------------------------------------------
    def define(self, value: ir.Value, at: At, number: ir.Value) -> None:
        """An anchored value at a position that this thread holds."""
        self._remember(self._key(value, at), number)

    def value(self, value: ir.Value, at: At) -> ir.Value:
        """A value at a position, in its compute type."""
        value = self.canonical(value)
        key = self._key(value, at)
        found = self._find(key)
        return found if found is not None else self._remember(key, self._compute(value, at))

    def _compute(self, value: ir.Value, at: At) -> ir.Value:
        if value in self.wires:
            return self._load(self.wires[value], at)
        copy = self._find(("shared", value))
        if copy is not None:
            return self.code.load(copy.address(self.code, at), copy.element)
        if isinstance(value.owner, ir.Block):
            raise InternalError(f"no thread holds {value} at this position")
        op = value.owner.operation
        rule = _RULES.get(op.name)
        if rule is None:
            raise InternalError(f"no thread holds the result of {op.name} at this position")
        with op.location:
            return rule(self, op, at)

    def _map(self, op: ir.Operation, at: At) -> ir.Value:
        def read(element: ir.Operation) -> ir.Value:
            return self.value(element.operands[0], at)

        return emit_body(self.code, op.regions[0].blocks[0], read)

    def _index(self, op: ir.Operation, at: At) -> ir.Value:
        (label,) = diag.labels(op.results[0])
        return self.code.index(self._pos(label, at).whole)

    def _constant(self, op: ir.Operation, _at: At) -> ir.Value:
        number = ir.DenseElementsAttr(op.attributes["value"])
        if not number.is_splat:
            raise UnsupportedError(op.name, reason="a table in a kernel", location=op.location)
        element = diag.element_type(op.results[0])
        splat = number.get_splat_value()
        wanted = compute_type(element)
        if diag.is_float(element):
            return self.code.scalar(wanted, ir.FloatAttr(splat).value)
        return self.code.scalar(wanted, ir.IntegerAttr(splat).value)

    # -- views -------------------------------------------------------------------------------------
    def _chunk(self, op: ir.Operation, at: At) -> ir.Value:
        return self.value(op.operands[0], at)

    def _relabel(self, op: ir.Operation, at: At) -> ir.Value:
        names = op.opview.names
        source = op.operands[0]
        return self.value(source, {x: self._pos(names.get(x, x), at) for x in diag.labels(source)})

    def _reindex(self, op: ir.Operation, at: At) -> ir.Value:
        places = [self._pos(x, at) for x in diag.labels(op.results[0])]
        exprs = op.opview.affine_map.results
        source = diag.labels(op.operands[0])
        found = {x: self._affine(e, places) for x, e in zip(source, exprs, strict=True)}
        return self.value(op.operands[0], found)

    def _affine(self, expr: ir.AffineExpr, places: Sequence[Pos]) -> Pos:
        if isinstance(expr, ir.AffineDimExpr):
            return places[expr.position]
        key = ("affine", str(expr), *places)
        found = self._find(key)
        if found is None:
            numbers = [_Number(self.code, place.whole) for place in places]
            result = diag.evaluate_affine(expr, numbers)
            whole = result.value if isinstance(result, _Number) else result
            found = self._remember(key, Pos(whole, whole))
        return found

    # -- global memory -----------------------------------------------------------------------------
    def _load(self, wire: GlobalWire, at: At) -> ir.Value:
        unit = wire.unit
        head = at[unit].head if unit is not None and unit in at else None
        if unit is None or head is None or not wire.has_vectors(self.frame, unit):
            return self.code.load(self.address(wire, at), wire.element)
        first = {**at, unit: head}
        key = ("vector", wire, *(self._pos(x, first) for x in wire.labels))
        values = self._find(key)
        if values is None:
            pointer = self.address(wire, first)
            values = self.code.load_vector(pointer, wire.element, head.width)
            self._remember(key, values)
        found: ir.Value = values[at[unit].step]
        return found

    def address(self, wire: GlobalWire, at: At) -> ir.Value:
        """Pointer to a position of an array."""
        fixed = self.frame.fixed
        if any(at.get(x, fixed.get(x)) is not fixed.get(x) for x in wire.labels if x in fixed):
            everywhere = replace(self.frame, fixed={})
            return wire.address(self.code, everywhere, {**fixed, **at}, wire.pointer)
        return wire.address(self.code, self.frame, at, self.scopes[0]["base", wire])

    def prepare_bases(self, wires: Iterable[GlobalWire]) -> None:
        """Addresses of the fixed positions, computed once, in front of everything."""
        for wire in wires:
            self.scopes[0]["base", wire] = wire.base(self.code, self.frame)

    # -- shared memory -----------------------------------------------------------------------------
    def share(self, value: ir.Value) -> None:
        """Copy a value to shared memory, where all threads of the group can read it."""
        value = self.canonical(value)
        key = ("shared", value)
        if self._find(key) is not None:
            return
        array = self._array(value)
        self.code.barrier()  # others may still read what was there
        for point in self.points(diag.labels(value)):
            number = self.value(value, point.at)

            def store(number: ir.Value = number, at: At = point.at) -> None:
                self.code.store(number, array.address(self.code, at), array.element)

            self.code.guarded(point.valid, store)
        self.code.barrier()
        self._remember(key, array)

    def _array(self, value: ir.Value) -> SharedArray:
        labels = self.frame.local(diag.labels(value))
        extents = tuple(self.frame.span(label).extent for label in labels)
        element = compute_type(diag.element_type(value))
        size = prod(extents) * memory_bytes(element)
        start = self.code.add(self.shared.allocate(size), self.code.mul(self.frame.row, size))
        pointer = self.code.offset(self.shared_pointer, self.code.i8, start)
        return SharedArray(pointer, labels, extents, element)


class _Number:
    """A position in the arithmetic of affine maps."""

    def __init__(self, code: GpuCode, value: Index) -> None:
        self.code, self.value = code, value

    def _lift(self, other: Any) -> Index:
        found: Index = other.value if isinstance(other, _Number) else other
        return found

    def __add__(self, other: Any) -> "_Number":
        return _Number(self.code, self.code.add(self.value, self._lift(other)))

    def __mul__(self, other: Any) -> "_Number":
        return _Number(self.code, self.code.mul(self.value, self._lift(other)))

    def __floordiv__(self, other: int) -> "_Number":
        if isinstance(self.value, int):
            return _Number(self.code, self.value // other)
        return _Number(self.code, arith.floordivsi(self.value, self.code.index(other)))

    def __mod__(self, other: int) -> "_Number":
        return self + (self // other) * -other

    def __neg__(self) -> "_Number":
        return self * -1

    __radd__, __rmul__ = __add__, __mul__


_RULES = {
    "diag.map": Evaluator._map,
    "diag.index": Evaluator._index,
    "diag.constant": Evaluator._constant,
    "diag.chunk": Evaluator._chunk,
    "diag.relabel": Evaluator._relabel,
    "diag.reindex": Evaluator._reindex,
}
