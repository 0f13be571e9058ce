"""Copies that operands need before a nest: contiguous along vectors, in f32, as bf16 pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.cpu.contraction import Operand
from diagc.targets.cpu.frame import Frame
from diagc.targets.cpu.groups import Group
from diagc.targets.cpu.nodes import LoopNode
from diagc.targets.cpu.packing import pack
from diagc.targets.cpu.pairs import PairMemory, PairScratch
from diagc.targets.cpu.places import Constant, Memory, Place, Position, Scratch
from diagc.targets.cpu.schedule import CpuSchedule

__all__ = ["Operands", "group_pair_key"]

# (unit axis, axis of pairs or None)
Key = tuple[str, str | None]


def group_pair_key(place: PairScratch) -> Key:
    """The key under which words are remembered."""
    return (place.unit, place.pairs)


@dataclass
class Operands:
    """Remembers the copies of one task.

    Args:
        frame: the task.
        schedule: whether bf16 dot products may be used.
        place_of: where a value lives as it is.
        origin: the value that a view looks at.
    """

    frame: Frame
    schedule: CpuSchedule
    place_of: Callable[[ir.Value], Place]
    origin: Callable[[ir.Value], ir.Value]
    packed: dict[tuple[ir.Value, Key], Scratch | PairScratch] = field(default_factory=dict)
    pair_readers: dict[ir.Value, list[ir.Operation]] = field(default_factory=dict)

    # -- choices ---------------------------------------------------------------------------------
    def pair_axis(self, group: Group, produced: set[ir.Value]) -> str | None:
        """The summed axis of a head contraction that runs as bf16 dot products, or None."""
        head, vector = group.head, group.vector
        if head is None or not self.schedule.bf16_dot or vector is None or len(head.inner) != 1:
            return None
        elements = [diag.element_type(value) for value in head.inputs]
        if not any(isinstance(e, ir.BF16Type) for e in elements) or not _narrow_enough(elements):
            return None
        if not isinstance(head.op.opview.acc_type, ir.F32Type):
            return None
        with_vector = [v for v in head.inputs if vector in diag.labels(v)]
        fits = all(self._pairable(v, head.inner[0], produced) for v in head.inputs)
        return head.inner[0] if len(with_vector) == 1 and fits else None

    def _pairable(self, value: ir.Value, axis: str, produced: set[ir.Value]) -> bool:
        if self.origin(value) in produced:
            return value in produced  # a view of a value that is not complete yet is left alone
        place = self.place_of(value)
        if isinstance(place, (Position, Constant)):
            return False
        odd = axis not in self.frame.spans and self.frame.extent(axis) % 2 == 1
        return not (place.unit == axis and odd)

    def paired_results(
        self, groups: Sequence[Group], produced: set[ir.Value]
    ) -> Mapping[ir.Value, PairScratch]:
        """Words for values of this list of nests that later dot products read."""
        found: dict[ir.Value, PairScratch] = {}
        for group in groups:
            if group.pairs is None or group.head is None:
                continue
            for value in group.head.inputs:
                if value in produced:
                    key = self._pair_key(group, value)
                    found[value] = PairScratch.allocate(
                        self.frame, self._order(value, key), group.pairs
                    )
                    self.pair_readers.setdefault(value, []).append(group.head.op)
        return found

    def _pair_key(self, group: Group, value: ir.Value) -> Key:
        labels = [x for x in diag.labels(value) if x not in self.frame.grid]
        if group.vector in labels:
            return (group.vector, group.pairs)
        unit = max((x for x in labels if x != group.pairs), key=self.frame.extent)
        return (unit, group.pairs)

    def _order(self, value: ir.Value, key: Key) -> list[str]:
        labels = [x for x in diag.labels(value) if x not in self.frame.grid and x != key[0]]
        return [*labels, key[0]]

    # -- copies ----------------------------------------------------------------------------------
    def pack(self, group: Group, node: LoopNode, value: ir.Value) -> None:
        """Make the copy that `node` needs of `value`, if any, once."""
        if group.pairs is not None and node is group.head:
            self._pack_pairs(group, value)
            return
        unit = self._copy_unit(group, node, value)
        if unit is not None and (value, (unit, None)) not in self.packed:
            self.packed[value, (unit, None)] = pack(self.frame, self.place_of(value), unit)

    def _pack_pairs(self, group: Group, value: ir.Value) -> None:
        place, axis = self.place_of(value), group.pairs
        if self._in_place(group, value) or axis is None:
            return
        key = self._pair_key(group, value)
        if (value, key) in self.packed:
            return
        words = PairScratch.allocate(self.frame, self._order(value, key), axis)
        words.pack(self.frame, place)
        self.packed[value, key] = words

    def _in_place(self, group: Group, value: ir.Value) -> bool:
        """A broadcast operand whose pairs are neighbours in memory."""
        place = self.place_of(value)
        direct = isinstance(place, Memory) and isinstance(place.element, ir.BF16Type)
        return direct and place.unit == group.pairs and group.vector not in place.labels

    def _copy_unit(self, group: Group, node: LoopNode, value: ir.Value) -> str | None:
        """The axis along which a node needs a contiguous f32 copy of an input, or None."""
        place = self.place_of(value)
        if isinstance(place, (Position, Constant)):
            return None
        vector = group.inner_vector or group.vector
        if vector in place.labels:
            return None if place.unit == vector else vector
        narrow = isinstance(place, Memory) and str(place.element) in ("bf16", "f16")
        if node.is_contraction and narrow and place.unit not in self.frame.grid:
            return place.unit
        return None

    # -- what a nest reads -----------------------------------------------------------------------
    def operand(self, group: Group, value: ir.Value) -> Operand:
        """An operand of the head contraction."""
        if group.pairs is not None:
            key = self._pair_key(group, value)
            if (value, key) in self.packed:
                return self.packed[value, key]
            memory = self.place_of(value)
            assert isinstance(memory, Memory)
            return PairMemory(memory)
        place = self.place_of(value)
        for unit in (group.inner_vector or group.vector, place.unit):
            if unit is not None and (value, (unit, None)) in self.packed:
                return self.packed[value, (unit, None)]
        return place

    def input(self, group: Group, value: ir.Value) -> Place:
        """An input of a pointwise node."""
        if group.vector is not None and (value, (group.vector, None)) in self.packed:
            copied = self.packed[value, (group.vector, None)]
            assert isinstance(copied, Scratch)
            return copied
        return self.place_of(value)


def _narrow_enough(elements: Sequence[ir.Type]) -> bool:
    return all(isinstance(e, (ir.BF16Type, ir.F32Type)) for e in elements)
