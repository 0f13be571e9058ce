"""A streamed op as a loop over chunks, with its states in the task's memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.cpu.bounds import Range, stream_bounds
from diagc.targets.cpu.code import Index
from diagc.targets.cpu.frame import Span
from diagc.targets.cpu.loops import each_position
from diagc.targets.cpu.nodes import has_loops, make_node, yielded
from diagc.targets.cpu.packing import copy
from diagc.targets.cpu.places import Place, Scratch, Total
from diagc.targets.elementwise.scalars import compute_type

if TYPE_CHECKING:
    from diagc.targets.cpu.tasks import Sinks, Task

__all__ = ["StreamLoop"]

_COMBINE = {"or": arith.ori, "max": arith.maxsi, "min": arith.minsi}


@dataclass
class StreamLoop:
    """Emits one `diag.stream` for a task; its tail is left to the nests that follow."""

    task: "Task"
    op: ir.Operation

    @property
    def axis(self) -> str:
        """The streamed axis."""
        return str(ir.StringAttr(self.op.attributes["axis"]).value)

    def emit(self) -> None:
        """States, their initial values, hoisted copies, then the chunks."""
        task, axis = self.task, self.axis
        init, body = self.op.regions[0].blocks[0], self.op.regions[1].blocks[0]
        chunk = task.schedule.chunk_of(axis)
        task.frame.spans[axis] = Span(0, 0, chunk)  # scratch needs the extent before the loop
        states = [self._state(argument) for argument in body.arguments]
        self._run_into(init, states)
        bounds = stream_bounds(task.frame, self.op, axis, self._fold)
        self._hoist_copies(body)
        for part in bounds.ranges(chunk, split=self._splits(body)):
            self._chunks(part, chunk, lambda: self._run_into(body, states))
        del task.frame.spans[axis]

    def _state(self, argument: ir.Value) -> Scratch:
        task = self.task
        task.units[argument] = task.widest(task.local_labels(argument))
        place = task.allocate(argument)
        task.places[argument] = place
        return place

    # -- results that are given chunk by chunk -----------------------------------------------------
    def _totals(self) -> list[Total]:
        found = (self.task.totals.get(result) for result in self.op.results)
        return [total for total in found if total is not None]

    # -- what a wire is over the tile --------------------------------------------------------------
    def _fold(self, wire: ir.Value, kind: str) -> ir.Value:
        """A wire without the streamed axis, reduced over all positions of the tile."""
        frame = self.task.frame
        place = self.task.place(wire)
        lanes = self.task.schedule.lanes
        total = Scratch.allocate(frame, (), place.element)
        type_ = compute_type(place.element)
        total.write(frame, arith.constant(type_, diag.identity_attr(kind, type_)), {}, None, 0)
        outer = [x for x in place.labels if x not in frame.grid and x != lanes]
        each_position(frame, outer, lambda at: self._fold_row(place, kind, total, at))
        return total.read(frame, {}, None, 0)

    def _fold_row(self, place: Place, kind: str, total: Scratch, at: dict[str, Index]) -> None:
        frame, lanes = self.task.frame, self.task.schedule.lanes
        found = total.read(frame, {}, None, 0)
        along = lanes if lanes in place.labels else None
        for i in range(frame.vectors(along)):
            offset = i * frame.code.lanes
            value = place.read(frame, at, along, offset)
            if along is not None:
                mask = frame.tail_mask(along, offset)
                rest = frame.code.broadcast(found)
                value = value if mask is None else arith.select(mask, value, rest)
                value = frame.code.reduce_vector(kind, value)
            found = _COMBINE[kind](found, value)
        total.write(frame, found, {}, None, 0)

    # -- regions that yield states ---------------------------------------------------------------
    def _run_into(self, block: ir.Block, states: Sequence[Scratch]) -> None:
        """Run a block and put what it yields into the states."""
        task = self.task
        ops = [op.operation for op in block.operations]
        wanted: Sinks = {}
        late: list[tuple[ir.Value, Scratch]] = []
        given_values = yielded(block)
        for value, total in zip(given_values[len(states) :], self._totals(), strict=False):
            wanted[value] = [total]
        for given, state in zip(given_values, states, strict=False):
            value = task.canonical(given)
            if value in wanted or self._must_wait(value, state, ops):
                late.append((value, state))
            else:
                wanted[value] = [state]
                task.units[value] = state.unit
                readers = self._readers_of(state)
                task.must_follow[value.owner.operation] = [r for r in readers if r in ops]
        task.run(ops, wanted)
        staged = [(self._snapshot(value, state), state) for value, state in late]
        for value, places in wanted.items():
            for place in places:
                copy(task.frame, task.place(value), place)
        for source, state in staged:
            copy(task.frame, source, state)

    def _must_wait(self, value: ir.Value, state: Scratch, ops: Sequence[ir.Operation]) -> bool:
        """Whether a new state may only be written after everything else has been read."""
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.operation not in ops:
            return True
        if not has_loops(owner.operation):
            return True
        writer = ops.index(owner.operation)
        for reader in self._readers_of(state):
            viewed = not has_loops(reader) or reader.name == "diag.contract"
            if viewed or (reader in ops and ops.index(reader) > writer):
                return True
        return False

    def _readers_of(self, state: Scratch) -> list[ir.Operation]:
        """Ops of the body that read the old state."""
        arguments = self.op.regions[1].blocks[0].arguments
        found = [a for a in arguments if self.task.places.get(a) is state]
        return [r for a in found for r in self.task.readers(a) if self._in_body(r)]

    def _in_body(self, op: ir.Operation) -> bool:
        return op.parent == self.op and op.name != "diag.yield" and not self._in_tail(op)

    def _in_tail(self, op: ir.Operation) -> bool:
        return bool(op.block == self.op.regions[3].blocks[0])

    def _snapshot(self, value: ir.Value, state: Scratch) -> Place:
        """A yielded value that another state's update could overwrite is copied first."""
        place = self.task.place(value)
        if not isinstance(place, Scratch) or place is state:
            return place
        copied = Scratch.allocate(self.task.frame, place.labels, place.element)
        copy(self.task.frame, place, copied)
        return copied

    # -- the loop --------------------------------------------------------------------------------
    def _hoist_copies(self, body: ir.Block) -> None:
        """Copies of operands that do not change along the stream are made before the loop."""
        task = self.task
        nodes = [make_node(op.operation) for op in body.operations if has_loops(op.operation)]
        groups = task.plan(nodes)
        produced = {node.result for node in nodes}
        varying = produced | set(body.arguments)
        for group in groups:
            group.pairs = task.operands.pair_axis(group, produced)
            for node in group.nodes:
                for value in node.inputs:
                    fixed = self.axis not in diag.labels(value)
                    if fixed and task.origin(value) not in varying:
                        task.operands.pack(group, node, value)

    def _splits(self, body: ir.Block) -> bool:
        """Whether whole chunks get code of their own: with products, whose blocks then fit."""
        products = any(op.operation.name == "diag.contract" for op in body.operations)
        return products and self.task.schedule.lanes is None

    def _chunks(self, part: Range, chunk: int, body: Callable[[], None]) -> None:
        """The loop; what is placed inside a chunk is forgotten after it."""
        task, frame = self.task, self.task.frame
        code = frame.code

        def step(start: Index, _carried: list[ir.Value]) -> list[ir.Value]:
            left = code.sub(part.high, start)
            count = chunk if part.whole else code.min(chunk, left)
            ahead = code.min(chunk, code.sub(left, count))
            frame.spans[self.axis] = Span(start, count, chunk, ahead)
            frame.open_keep = part.keeps
            outer = (dict(task.operands.packed), dict(task.places), dict(task.units))
            body()
            task.operands.packed, task.places, task.units = outer
            frame.open_keep = False
            return []

        code.loop(part.low, part.high, chunk, [], step)
