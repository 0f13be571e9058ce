"""The body of one task: the kernel's ops in order, grouped into nests, streams as chunked loops."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from diagc.dialects import diag
from diagc.errors import InternalError
from diagc.mlir import ir
from diagc.targets.cpu.frame import Frame
from diagc.targets.cpu.groups import Group, group_nodes
from diagc.targets.cpu.nests import Nest, Sink
from diagc.targets.cpu.nodes import ALIASES, LoopNode, VectorChoice, has_loops, make_node, yielded
from diagc.targets.cpu.operands import Operands, group_pair_key
from diagc.targets.cpu.packing import copy
from diagc.targets.cpu.pairs import PairScratch
from diagc.targets.cpu.places import Constant, Form, Memory, Place, Position, Scratch, Total
from diagc.targets.cpu.references import reference_maxima
from diagc.targets.cpu.schedule import CpuSchedule
from diagc.targets.cpu.streams import StreamLoop

__all__ = ["Sinks", "Task"]

Sinks = dict[ir.Value, list[Scratch | Memory]]


@dataclass
class Task:
    """Emits a kernel's body at the insertion point.

    Args:
        frame: the axes of this task.
        schedule: mode and tile sizes.
        places: where each known value lives; arguments at first.
        results: where the kernel's results go, in order.
    """

    frame: Frame
    schedule: CpuSchedule
    places: dict[ir.Value, Place]
    results: Sequence[Memory]
    same: dict[ir.Value, ir.Value] = field(default_factory=dict)
    units: dict[ir.Value, str | None] = field(default_factory=dict)
    must_follow: dict[ir.Operation, list[ir.Operation]] = field(default_factory=dict)
    references: frozenset[ir.Value] = frozenset()
    totals: dict[ir.Value, Total | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Operands are packed on behalf of this task."""
        self.operands = Operands(self.frame, self.schedule, self.place, self.origin)

    # -- whole kernel ------------------------------------------------------------------------------
    def emit(self, kernel: ir.Operation) -> None:
        """Every op of the kernel, then the results that are not written yet."""
        ops = [op.operation for op in diag.function_body(kernel).operations]
        returned = list(ops[-1].operands)
        self._link_streams(ops)
        self.references = reference_maxima(kernel)
        wanted: Sinks = {}
        for value, memory in zip(returned, self.results, strict=True):
            if value in self.totals:
                self.totals[value] = total_of(memory)
            else:
                wanted.setdefault(self.canonical(value), []).append(memory)
        self.run(ops[:-1], wanted)
        for value, places in wanted.items():
            for place in places:
                copy(self.frame, self.place(value), place)

    def _link_streams(self, ops: Sequence[ir.Operation]) -> None:
        """A stream's results are what its tail yields; the tail's arguments are the states.

        Those that it gives chunk by chunk are totals.
        """
        for op in ops:
            if op.name != "diag.stream":
                continue
            body, tail = op.regions[1].blocks[0], op.regions[3].blocks[0]
            for argument, state in zip(tail.arguments, body.arguments, strict=True):
                self.same[argument] = state
            given = yielded(tail)
            self.totals.update(dict.fromkeys(list(op.results)[len(given) :]))
            for result, value in zip(op.results, given, strict=False):
                self.same[result] = value

    def canonical(self, value: ir.Value) -> ir.Value:
        """The one value that stands for this one."""
        while value in self.same:
            value = self.same[value]
        return value

    # -- straight lists of ops ---------------------------------------------------------------------
    def run(self, ops: Sequence[ir.Operation], wanted: Sinks) -> None:
        """Emit ops; values in `wanted` go to the places listed there, which are then taken out."""
        pending: list[LoopNode] = []
        for op in ops:
            if op.name == "diag.stream":
                self._nests(pending, wanted)
                StreamLoop(self, op).emit()
                pending = self._tail_nodes(op)
            elif has_loops(op):
                pending.append(make_node(op))
        self._nests(pending, wanted)

    def _tail_nodes(self, stream: ir.Operation) -> list[LoopNode]:
        """Ops of a stream's tail are fused with what follows the stream."""
        tail = [op.operation for op in stream.regions[3].blocks[0].operations]
        return [make_node(op) for op in tail if has_loops(op)]

    def _nests(self, nodes: Sequence[LoopNode], wanted: Sinks) -> None:
        groups = self.plan(nodes)
        produced = {node.result for node in nodes}
        for group in groups:
            group.pairs = self.operands.pair_axis(group, produced)
        paired = self.operands.paired_results(groups, produced)
        self.operands.ask_ahead(groups, produced)
        for group in groups:
            self._pack_inputs(group)
            self._nest(group, wanted, paired)

    def _pack_inputs(self, group: Group) -> None:
        """Copies of what other nests or the caller have made, as this nest can use them."""
        own = group.results
        for node in group.nodes:
            for value in node.inputs:
                if self.origin(value) not in own:
                    self.operands.pack(group, node, value)

    def plan(self, nodes: Sequence[LoopNode]) -> list[Group]:
        """Choose vector axes and fuse nodes into nests."""
        outside = frozenset(self.frame.grid)
        choice = VectorChoice(self.schedule.lanes, self.unit, self.frame.extent, outside)

        def choose(node: LoopNode) -> str | None:
            vector = choice(node)
            self.units[node.result] = self._result_unit(node, vector)
            return vector

        nodes = [self._canonical_inputs(node) for node in nodes]
        return group_nodes(nodes, choose, outside, self.origin, self.must_follow)

    def _canonical_inputs(self, node: LoopNode) -> LoopNode:
        inputs = tuple(self.canonical(v) for v in node.inputs)
        return LoopNode(node.op, inputs, node.domain, node.over, node.inner)

    def _result_unit(self, node: LoopNode, vector: str | None) -> str | None:
        labels = self.local_labels(node.result)
        if vector in labels:
            return vector
        return self.widest(labels)

    def local_labels(self, value: ir.Value) -> list[str]:
        """Labels of a value that a task does not fix."""
        return [label for label in diag.labels(value) if label not in self.frame.grid]

    def widest(self, labels: Sequence[str]) -> str | None:
        """The lanes axis if it is there, else the longest, the last one of equals."""
        if self.schedule.lanes in labels:
            return self.schedule.lanes
        return max(reversed(labels), key=self.frame.extent, default=None)

    # -- places ------------------------------------------------------------------------------------
    def place(self, value: ir.Value) -> Place:
        """Where a value lives; views are made on the way."""
        value = self.canonical(value)
        if value not in self.places:
            self.places[value] = self._view(value)
        return self.places[value]

    def _view(self, value: ir.Value) -> Place:
        op = value.owner.operation if not isinstance(value.owner, ir.Block) else None
        if op is None or op.name not in ALIASES:
            raise InternalError(f"value of type {value.type} has no place in the task")
        element = diag.element_type(value)
        if op.name == "diag.index":
            return Position(diag.labels(value)[0], element)
        if op.name == "diag.constant":
            return _constant(op, element)
        source = self.place(op.operands[0])
        if op.name == "diag.chunk":
            return source
        if op.name == "diag.relabel":
            return source.renamed(op.opview.names)
        return _reindexed(source, op)

    def origin(self, value: ir.Value) -> ir.Value:
        """The value that a view looks at."""
        value = self.canonical(value)
        owner = value.owner
        while not isinstance(owner, ir.Block) and owner.operation.name in ALIASES:
            if not len(owner.operation.operands):
                break
            value = self.canonical(owner.operation.operands[0])
            owner = value.owner
        return value

    def unit(self, value: ir.Value) -> str | None:
        """The contiguous axis that a value has, or will have."""
        value = self.canonical(value)
        if value in self.units:
            return self.units[value]
        owner = value.owner
        if not isinstance(owner, ir.Block) and owner.operation.name in (
            "diag.relabel",
            "diag.chunk",
        ):
            inner = self.unit(owner.operation.operands[0])
            names = owner.opview.names if owner.operation.name == "diag.relabel" else {}
            return names.get(inner, inner) if inner is not None else None
        place = self.place(value)
        if isinstance(place, (Position, Constant)):
            return None
        return place.unit if place.unit not in self.frame.grid else None

    # -- one nest ----------------------------------------------------------------------------------
    def _nest(self, group: Group, wanted: Sinks, paired: Mapping[ir.Value, PairScratch]) -> None:
        sinks: dict[ir.Value, list[Sink]] = {}
        for node in group.nodes:
            value = node.result
            sinks[value] = list(self._sinks_of(value, group, wanted))
            if value in paired:
                sinks[value].append(paired[value])
                self.operands.packed[value, group_pair_key(paired[value])] = paired[value]
        operands = [self.operands.operand(group, value) for value in group.head_inputs]

        def place_of(value: ir.Value) -> Place:
            return self.operands.input(group, value)

        nest = Nest(self.frame, group, self.canonical, place_of, operands, sinks, self.references)
        nest.emit()

    def _sinks_of(self, value: ir.Value, group: Group, wanted: Sinks) -> list[Scratch | Memory]:
        """Scratch for what is read outside the nest, and results that can be written here."""
        asked = wanted.get(value, [])
        direct = [place for place in asked if self._writable(value, place, group)]
        later = [place for place in asked if place not in direct]
        if later:
            wanted[value] = later
        else:
            wanted.pop(value, None)
        own = next((place for place in direct if isinstance(place, Scratch)), None)
        if own is not None:
            self.places[value] = own
        elif later or self._read_outside(value, group):
            own = self.allocate(value)
            self.places[value] = own
            direct.append(own)
        return list(direct)

    def _writable(self, value: ir.Value, place: Scratch | Memory, group: Group) -> bool:
        vector = group.vector if group.vector in diag.labels(value) else None
        return vector is None or place.unit == vector

    def allocate(self, value: ir.Value) -> Scratch:
        """Scratch memory for a value, contiguous along the axis that was planned for it."""
        labels = self.local_labels(value)
        unit = self.units.get(value) or self.widest(labels)
        ordered = [x for x in labels if x != unit] + ([unit] if unit is not None else [])
        return Scratch.allocate(self.frame, ordered, diag.element_type(value))

    def _read_outside(self, value: ir.Value, group: Group) -> bool:
        inside = [node.op for node in group.nodes if node is not group.head]
        inside += self.operands.pair_readers.get(value, [])
        return any(reader not in inside for reader in self.readers(value))

    def readers(self, value: ir.Value) -> Iterator[ir.Operation]:
        """Ops that read a value, through tails and stream results."""
        for use in value.uses:
            op = use.owner.operation
            if op.name == "diag.element":
                yield op.parent.operation
            elif op.name == "diag.yield" and self._tail_results(op, value):
                for result in self._tail_results(op, value):
                    yield from self.readers(result)
            elif op.name != "func.return" and not self._is_emitted(value, op):
                yield op

    def _is_emitted(self, value: ir.Value, op: ir.Operation) -> bool:
        """Whether a yield gives a part of a total, which is written where it is computed."""
        stream = op.parent.operation
        if op.name != "diag.yield" or stream.name != "diag.stream":
            return False
        emitted = (emitter.results[0] for emitter in diag.emitted_ops(stream))
        return any(value == result for result in emitted)

    def _tail_results(self, yield_op: ir.Operation, value: ir.Value) -> list[ir.Value]:
        stream = yield_op.parent.operation
        if stream.name != "diag.stream":
            return []
        return [r for r in stream.results if r in self.same and self.same[r] == value]


def total_of(memory: Memory) -> Total:
    """The same memory, to be added to."""
    return Total(memory.buffer, memory.forms, memory.element, memory.unit_stride)


def _constant(op: ir.Operation, element: ir.Type) -> Constant:
    value = ir.DenseElementsAttr(op.attributes["value"])
    if not value.is_splat:
        raise InternalError("a table constant reached the cpu target; it should be an argument")
    splat = value.get_splat_value()
    number = ir.FloatAttr(splat).value if diag.is_float(element) else ir.IntegerAttr(splat).value
    return Constant(float(number), element)


def _reindexed(source: Place, op: ir.Operation) -> Place:
    """Linear maps become linear forms of memory addresses."""
    labels = diag.labels(op.results[0])
    affine = op.opview.affine_map
    if not isinstance(source, Memory):
        raise InternalError("diag.reindex of a computed value reached the cpu target")
    zero = [0] * len(labels)
    forms = []
    for expr in affine.results:
        constant = diag.evaluate_affine(expr, zero)
        terms = []
        for i, label in enumerate(labels):
            unit = [1 if k == i else 0 for k in range(len(labels))]
            factor = diag.evaluate_affine(expr, unit) - constant
            if factor:
                terms.append((label, factor))
        forms.append(Form(tuple(terms), constant))
    by_source = dict(zip(diag.labels(op.operands[0]), forms, strict=True))
    return Memory(
        source.buffer,
        tuple(_substitute(form, by_source) for form in source.forms),
        source.element,
        source.unit_stride,
    )


def _substitute(form: Form, by_label: Mapping[str, Form]) -> Form:
    constant, terms = form.constant, dict[str, int]()
    for label, factor in form.terms:
        inner = by_label[label]
        constant += factor * inner.constant
        for name, step in inner.terms:
            terms[name] = terms.get(name, 0) + factor * step
    return Form(tuple(terms.items()), constant)
