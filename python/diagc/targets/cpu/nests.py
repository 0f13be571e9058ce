"""Emission of one fused loop nest: loops, the register-blocked contraction, reductions, stores."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.cpu.code import Code, Index, is_float_type, is_vector
from diagc.targets.cpu.contraction import Operand, choose_blocks, contract_block, widen_to
from diagc.targets.cpu.frame import Frame
from diagc.targets.cpu.groups import Group
from diagc.targets.cpu.loops import each_vector_block
from diagc.targets.cpu.nodes import LoopNode
from diagc.targets.cpu.pairs import PairScratch
from diagc.targets.cpu.panels import RunningSum
from diagc.targets.cpu.places import Memory, Place, Scratch
from diagc.targets.cpu.sums import combine_lanes, sum_vectors
from diagc.targets.elementwise.scalars import compute_type, emit_body

__all__ = ["Nest", "Sink"]

Positions = dict[str, Index]
Sink = Scratch | Memory | PairScratch | RunningSum


class Nest:
    """Emits one group at the current insertion point.

    Args:
        frame: the task.
        group: what to compute.
        canonical: the one value that stands for a wire and for others that equal it.
        place_of: where such a value lives.
        operands: where the operands of the head contraction live.
        sinks: where each computed wire that is needed outside the nest goes.
        references: maxima that may ignore NaN.
        after: emits what is done after each register block: gets its positions, its size along
            each blocked axis, the offset of its vectors and their number.
    """

    def __init__(
        self,
        frame: Frame,
        group: Group,
        canonical: Callable[[ir.Value], ir.Value],
        place_of: Callable[[ir.Value], Place],
        operands: Sequence[Operand],
        sinks: Mapping[ir.Value, Sequence[Sink]],
        references: frozenset[ir.Value],
        after: Callable[[Positions, Mapping[str, int], Index, int], None] | None = None,
    ) -> None:
        self.frame, self.group, self.code = frame, group, frame.code
        self.canonical, self.place_of = canonical, place_of
        self.operands, self.sinks, self.references = operands, sinks, references
        self.after = after
        self.reductions = [n for n in group.nodes if n.over]
        self.over = group.over or frozenset()
        self.pair_sinks = [s for all_ in sinks.values() for s in all_ if isinstance(s, PairScratch)]
        paired = dict.fromkeys(sink.pairs for sink in self.pair_sinks)
        self.blocks = choose_blocks(frame, group, operands, tuple(paired))

    # -- loops -------------------------------------------------------------------------------------
    def emit(self) -> None:
        """Kept axes outside, reduced axes inside, vectors where they belong."""
        kept = [label for label in self.group.domain if label not in self.over]
        free = [label for label in kept if label not in self.blocks.sizes]
        if self.across:
            self._kept(free, {}, lambda at: self._kept_blocks(self._blocked(kept), at, {}))
            return
        self._each_vector_block(
            lambda offset, count: self._kept(free, {}, lambda at: self._reduce(at, offset, count))
        )

    @property
    def across(self) -> bool:
        """Whether a reduction runs along the vectors themselves."""
        return self.group.vector is not None and self.group.vector in self.over

    def _blocked(self, labels: Sequence[str]) -> list[str]:
        return [label for label in labels if label in self.blocks.sizes]

    def _each_vector_block(self, body: Callable[[Index, int], None]) -> None:
        def step(offset: Index, count: int, _carried: list[ir.Value]) -> Sequence[ir.Value]:
            body(offset, count)
            return []

        each_vector_block(self.frame, self.group.vector, self.blocks.vectors, [], step)

    def _kept(
        self, labels: Sequence[str], at: Positions, body: Callable[[Positions], None]
    ) -> None:
        if not labels:
            body(at)
            return

        def step(i: Index, _carried: list[ir.Value]) -> Sequence[ir.Value]:
            self._kept(labels[1:], {**at, labels[0]: i}, body)
            return []

        self.code.loop(0, self.frame.count(labels[0]), 1, [], step)

    def _kept_blocks(self, labels: Sequence[str], at: Positions, shape: dict[str, int]) -> None:
        """Register blocks of kept axes around a reduction along the vectors."""
        if not labels:
            self._reduce_across(at, shape)
            return

        def step(i: Index, size: int, _carried: list[ir.Value]) -> Sequence[ir.Value]:
            self._kept_blocks(labels[1:], {**at, labels[0]: i}, {**shape, labels[0]: size})
            return []

        count = self.frame.count(labels[0])
        self.code.blocked_loop(0, count, self.blocks.steps(labels[0]), [], step)

    def _reduce(self, at: Positions, offset: Index, count: int) -> None:
        """Loops over reduced (and blocked) axes with accumulators, then store the totals."""
        start = [
            self._identity(node, vector=self.group.vector is not None)
            for node in self.reductions
            for _ in range(count)
        ]
        reduced = [label for label in self.group.domain if label in self.over]
        inner = [label for label in reduced if label not in self.blocks.sizes]
        totals = self._inner([*inner, *self.blocks.sizes], at, {}, offset, count, start)
        for i, total in enumerate(totals):
            lane_offset = self.code.add(offset, i % count * self.code.lanes)
            self._store(self.reductions[i // count].result, total, at, lane_offset)

    def _reduce_across(self, at: Positions, shape: dict[str, int]) -> None:
        """The vector axis itself is reduced: vectors are an inner loop, lanes are combined last."""
        block, points = self.blocks.vectors, _points(self.code, at, shape, {})
        inner = [label for label in self.group.domain if label in self.over]
        start = [
            self._identity(node, vector=True)
            for node in self.reductions
            for _ in range(len(points) * block)
        ]

        def step(offset: Index, count: int, carried: list[ir.Value]) -> Sequence[ir.Value]:
            return self._inner(inner, at, shape, offset, count, carried)

        totals = each_vector_block(self.frame, self.group.vector, block, start, step)
        for r, node in enumerate(self.reductions):
            first = r * len(points) * block
            merged = [
                reduce(partial(self._combine, node), totals[i : i + block])
                for i in range(first, first + len(points) * block, block)
            ]
            for point, value in zip(points, self._lanes(node, merged), strict=True):
                self._store(node.result, value, point, 0)

    def _lanes(self, node: LoopNode, vectors: Sequence[ir.Value]) -> list[ir.Value]:
        """The reduction over the lanes of each vector."""
        if not is_float_type(vectors[0].type):
            return [self.code.reduce_vector(_kind(node), value) for value in vectors]
        if _kind(node) == "add":
            return sum_vectors(self.code, vectors)
        return [combine_lanes(value, partial(self._combine, node)) for value in vectors]

    def _inner(
        self,
        labels: Sequence[str],
        at: Positions,
        shape: dict[str, int],
        offset: Index,
        count: int,
        carried: list[ir.Value],
    ) -> list[ir.Value]:
        """Loops that carry accumulators; blocked axes, the last ones, step by register blocks."""
        if not labels:
            return self._body(at, shape, offset, count, carried)
        label = labels[0]

        def step(i: Index, size: int, values: list[ir.Value]) -> Sequence[ir.Value]:
            grown = {**shape, label: size} if label in self.blocks.sizes else shape
            return self._inner(labels[1:], {**at, label: i}, grown, offset, count, values)

        stride, size = self.blocks.strides.get(label), self.blocks.sizes.get(label, 1)
        if stride is not None:
            return self.code.loop(0, stride, 1, carried, lambda i, c: step(i, size, c))
        count_along = self.frame.count(label)
        if self.frame.in_blocks(label, size):
            return self.code.loop(0, count_along, size, carried, lambda i, c: step(i, size, c))
        return self.code.blocked_loop(0, count_along, self.blocks.steps(label), carried, step)

    # -- one register block ------------------------------------------------------------------------
    def _body(
        self,
        at: Positions,
        shape: dict[str, int],
        offset: Index,
        count: int,
        carried: list[ir.Value],
    ) -> list[ir.Value]:
        head = self.group.head
        points = _points(self.code, at, shape, self.blocks.strides)
        sums: list[ir.Value] = []
        if head is not None:
            sums = contract_block(self.frame, self.group, self.operands, points, offset, count)
        for i, point in enumerate(points):
            known = {} if head is None else {head.result: sums[i * count : (i + 1) * count]}
            own = self._slots(i, len(points), count)
            updated = self._elements(point, offset, count, known, [carried[k] for k in own])
            for k, value in zip(own, updated, strict=True):
                carried[k] = value
        for sink in self.pair_sinks:
            sink.flush(self.frame)
        if self.after is not None:
            self.after(at, shape, offset, count)
        return carried

    def _slots(self, point: int, points: int, count: int) -> list[int]:
        """Accumulators of one point: its own along vectors, else shared by all points."""
        stride, first = (points * count, point * count) if self.across else (count, 0)
        return [r * stride + first + v for r in range(len(self.reductions)) for v in range(count)]

    def _elements(
        self,
        at: Positions,
        offset: Index,
        count: int,
        known: dict[ir.Value, list[ir.Value]],
        carried: list[ir.Value],
    ) -> list[ir.Value]:
        """All nodes at one position: maps, running reductions, then every store."""
        values: dict[ir.Value, list[ir.Value]] = dict(known)
        offsets = [self.code.add(offset, v * self.code.lanes) for v in range(count)]
        reads: dict[tuple[ir.Value, int], ir.Value] = {}

        def read(wire: ir.Value, v: int) -> ir.Value:
            value = self.canonical(wire)
            if value in values:
                return values[value][v]
            if (value, v) not in reads:
                place = self.place_of(value)
                reads[value, v] = place.read(self.frame, at, self.group.vector, offsets[v])
            return reads[value, v]

        slot = 0
        for node in self.group.nodes:
            if node is self.group.head:
                continue
            if node.over:
                for v in range(count):
                    term = self._term(node, read, v, offsets[v])
                    carried[slot + v] = self._accumulate(node, carried[slot + v], term)
                slot += count
            else:
                values[node.result] = [self._map(node, read, v) for v in range(count)]
        for value, vectors in values.items():
            for v, vector_value in enumerate(vectors):
                self._store(value, vector_value, at, offsets[v])
        return carried

    def _map(self, node: LoopNode, read: Callable[[ir.Value, int], ir.Value], v: int) -> ir.Value:
        if self.frame.open_keep and "diag.keep" in node.op.attributes:
            value = self.code.scalar(self.code.i1, 1)
        else:
            block = node.op.regions[0].blocks[0]
            value = emit_body(self.code, block, lambda element: read(element.operands[0], v))
        return self.code.broadcast(value) if self.group.vector in node.domain else value

    # -- reductions --------------------------------------------------------------------------------
    def _term(
        self, node: LoopNode, read: Callable[[ir.Value, int], ir.Value], v: int, offset: Index
    ) -> tuple[ir.Value, ...]:
        """The factors of what is accumulated, with lanes that do not exist made neutral."""
        factors = [read(value, v) for value in node.inputs]
        if len(node.inputs) == 1 and node.op.name == "diag.contract":
            factors = factors * 2  # the same wire twice
        if self.group.vector is not None:
            factors = [self.code.broadcast(f) for f in factors]
        wide = compute_type(_accumulator_type(node))
        factors = [widen_to(self.code, f, wide) for f in factors]
        vector = self.group.vector
        if vector is not None and vector in node.over:
            mask = self.frame.tail_mask(vector, offset)
            if mask is not None:
                neutral = self._identity(node, vector=True)
                factors = [self.code.select(mask, factor, neutral) for factor in factors]
        return tuple(factors)

    def _accumulate(
        self, node: LoopNode, total: ir.Value, factors: tuple[ir.Value, ...]
    ) -> ir.Value:
        if len(factors) == 2:
            return self.code.fma(factors[0], factors[1], total)
        return self._combine(node, total, factors[0])

    def _combine(self, node: LoopNode, total: ir.Value, term: ir.Value) -> ir.Value:
        kind = _kind(node)
        if node.result in self.references:
            larger = arith.cmpf(arith.CmpFPredicate.OGT, term, total)
            return self.code.select(larger, term, total)
        return diag.MONOIDS[kind].combine(total, term)

    def _identity(self, node: LoopNode, *, vector: bool) -> ir.Value:
        type_ = compute_type(_accumulator_type(node))
        attr = diag.identity_attr(_kind(node), type_)
        number = ir.FloatAttr(attr).value if is_float_type(type_) else ir.IntegerAttr(attr).value
        return self.code.splat(type_, number) if vector else self.code.scalar(type_, number)

    def _store(self, value: ir.Value, result: ir.Value, at: Positions, offset: Index) -> None:
        for sink in self.sinks.get(value, ()):
            along = self.group.vector if is_vector(result) else None
            sink.write(self.frame, result, at, along, offset)


def _kind(node: LoopNode) -> str:
    return (
        "add"
        if node.op.name == "diag.contract"
        else ir.StringAttr(node.op.attributes["kind"]).value
    )


def _accumulator_type(node: LoopNode) -> ir.Type:
    if node.op.name != "diag.contract":
        return diag.element_type(node.result)
    acc: ir.Type = node.op.opview.acc_type
    return acc


def _points(
    code: Code, at: Positions, shape: dict[str, int], strides: Mapping[str, int]
) -> list[Positions]:
    """The positions of a register block, last label fastest; equal positions are one value.

    Along labels in `strides` they lie that far apart.
    """
    points: list[Positions] = [dict(at)]
    for label, size in shape.items():
        steps = [code.add(at[label], i * strides.get(label, 1)) for i in range(size)]
        points = [{**p, label: step} for p in points for step in steps]
    return points
