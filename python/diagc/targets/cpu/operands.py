"""Copies that operands need before a nest: contiguous along vectors, in f32, as bf16 pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

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

OFTEN = 32
"""Uses of each vector from which on an operand is copied."""

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
        if any(self.frame.is_open(label) for label in head.labels):
            return None
        elements = [diag.element_type(value) for value in head.inputs]
        if not all(isinstance(e, ir.BF16Type) for e in elements):
            return None
        if not isinstance(head.op.opview.acc_type, ir.F32Type):
            return None
        with_vector = [v for v in head.inputs if vector in diag.labels(v)]
        fits = all(self._pairable(v, head.inner[0], produced) for v in head.inputs)
        return head.inner[0] if len(with_vector) == 1 and fits else None

    def _pairable(self, value: ir.Value, axis: str, produced: set[ir.Value]) -> bool:
        """Whether words of a value lose nothing that its type promises.

        Only what these nests compute on the way, like weights, may be rounded from f32 to bf16.
        """
        if len(self._local(value)) < 2:
            return False
        if self.origin(value) in produced:
            return value in produced  # a view of a value that is not complete yet is left alone
        place = self.place_of(value)
        if isinstance(place, (Position, Constant)) or not _is_bf16(value):
            return False
        odd = axis not in self.frame.spans and self.frame.extent(axis) % 2 == 1
        return not (isinstance(place, Memory) and place.unit == axis and odd)

    def _local(self, value: ir.Value) -> list[str]:
        return [label for label in diag.labels(value) if label not in self.frame.grid]

    def paired_results(
        self, groups: Sequence[Group], produced: set[ir.Value]
    ) -> Mapping[ir.Value, PairScratch]:
        """Words for values that a nest can write so, and that later dot products read."""
        found: dict[ir.Value, PairScratch] = {}
        makers = {node.result: (group, node) for group in groups for node in group.nodes}
        for group in groups:
            if group.pairs is None or group.head is None:
                continue
            for value in group.head_inputs:
                if value not in produced or value in found:
                    continue
                key = self._pair_key(group, value)
                if _writes_pairs(*makers[value], key):
                    found[value] = PairScratch.allocate(
                        self.frame, self._order(value, key), group.pairs
                    )
                    self.pair_readers.setdefault(value, []).append(group.head.op)
        return found

    def _pair_key(self, group: Group, value: ir.Value) -> Key:
        labels = self._local(value)
        if group.vector in labels:
            return (group.vector, group.pairs)
        unit = max((x for x in labels if x != group.pairs), key=self.frame.extent)
        return (unit, group.pairs)

    def _order(self, value: ir.Value, key: Key) -> list[str]:
        return [*(x for x in self._local(value) if x != key[0]), key[0]]

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
        key, axis = self._pair_key(group, value), group.pairs
        if axis is None or (value, key) in self.packed or self._in_place(group, value):
            return
        words = PairScratch.allocate(self.frame, self._order(value, key), axis)
        words.pack(self.frame, self.place_of(value))
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
            return vector if place.unit != vector or self._reused(group, node, place) else None
        narrow = isinstance(place, Memory) and str(place.element) in ("bf16", "f16", "f8E4M3FN")
        if node.is_contraction and narrow and place.unit not in self.frame.grid:
            return place.unit
        return None

    def _reused(self, group: Group, node: LoopNode, place: Place) -> bool:
        """Whether vectors of a strided operand are read so often that a dense copy pays.

        With strides that are known only at the launch, every load computes its address (Gram and
        apply kernels of d = 64 on AVX2: 7.3 and 7.6 ms in place, 6.8 and 7.6 ms with copies).
        """
        if node is not group.head or not isinstance(place, Memory) or self.schedule.lanes:
            return False
        others = [label for label in node.labels if label not in place.labels]
        if any(self.frame.is_open(label) for label in node.labels):
            return False
        return prod(map(self.frame.extent, others)) >= OFTEN

    def ask_ahead(self, groups: Sequence[Group], produced: set[ir.Value]) -> None:
        """Let the first nest that reads rows of a stream ask for those that later nests read."""
        rows = [(group, self._rows(group, produced)) for group in groups]
        readers = [(group, places) for group, places in rows if places]
        for group, places in readers[1:]:
            group.asked = True
            readers[0][0].beside += tuple(places)

    def _rows(self, group: Group, produced: set[ir.Value]) -> list[Memory]:
        """Operands of the head that are read where they lie, a row for each streamed position."""
        if group.head is None or group.pairs is not None:
            return []
        unit, head = group.inner_vector or group.vector, group.head
        given = [v for v in group.head_inputs if self.origin(v) not in produced]
        places = [self.place_of(v) for v in given if self._copy_unit(group, head, v) is None]
        return [p for p in places if isinstance(p, Memory) and p.streams(self.frame, unit)]

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


def _is_bf16(value: ir.Value) -> bool:
    return isinstance(diag.element_type(value), ir.BF16Type)


def _writes_pairs(group: Group, node: LoopNode, key: Key) -> bool:
    """Whether a nest has both elements of a pair in one register block, along these vectors."""
    across = group.vector is None or group.vector in (group.over or ())
    return not across and not node.over and group.vector == key[0] and key[1] in group.domain
