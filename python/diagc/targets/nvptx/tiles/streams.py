"""A stream as a loop over chunks: copies run ahead of it, states are carried in registers.

    copies of chunks 0 .. stages-2
    for j in full chunks:                      no position is masked by `diag.keep` or missing
      wait for chunk j; barrier; start the copies of chunk j + stages - 1; body
    for j in the rest: the same, with masks and with positions that do not exist

One barrier a chunk suffices: the stage that is filled next was read in the step before it. A
further stream of the kernel has one more before it, for other warps may still read the last chunk.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.elementwise.scalars import compute_type
from diagc.targets.nvptx.tiles.bounds import Bounds, stream_bounds
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Span
from diagc.targets.nvptx.tiles.layouts import Slot, Tile, slots
from diagc.targets.nvptx.tiles.regions import Region

__all__ = ["Element", "StreamLoop", "lower_stream"]

Element: TypeAlias = ir.Value | Callable[[], ir.Value]
"""Of a state: a value, or what gives it when it is read."""


def lower_stream(region: Region, op: ir.Operation) -> list[Tile]:
    """The results of a stream."""
    stream = StreamLoop(region, op)
    return stream.tail(stream.run(stream_bounds(region, op, stream.axis)))


@dataclass(eq=False)
class StreamLoop:
    """Emits one stream; states are lists of elements, state by state, slot by slot."""

    region: Region
    op: ir.Operation

    @property
    def axis(self) -> str:
        """The streamed axis."""
        return str(ir.StringAttr(self.op.attributes["axis"]).value)

    def run(self, bounds: Bounds) -> list[ir.Value]:
        """The states after all chunks."""
        region, frame = self.region, self.region.frame
        code = frame.code
        self._prologue(bounds)
        region.staging.pending = frame.schedule.stages - 1
        carried = [*self.init(), code.index(0)]
        for low, high, full in bounds.ranges():
            step = partial(self._step, bounds, full=full)
            carried = code.loop(low, high, 1, carried, step)
        frame.spans.pop(self.axis, None)
        return carried[:-1]

    def init(self) -> list[ir.Value]:
        """The states before all chunks."""
        return self.region_states(0, [])

    def merge(self, first: Sequence[ir.Value], second: Sequence[ir.Value]) -> list[ir.Value]:
        """The states of two parts, joined by the region `combine`."""
        return self.region_states(2, [*first, *second])

    def tail(self, states: Sequence[ir.Value]) -> list[Tile]:
        """The stream's results from its last states."""
        block = self.op.regions[3].blocks[0]
        tail = self.region.nested()
        self._bind(tail, block.arguments, states)
        return [tail.tile(value) for value in tail.run(block)]

    def state_slots(self) -> Iterator[ir.Type]:
        """The type of every element of the states, in order."""
        for argument in self.op.regions[1].blocks[0].arguments:
            rows, column = self.region.plan.shape(argument)
            element = compute_type(diag.element_type(argument))
            for _ in self._slots(rows, column):
                yield element

    # -- copies ----------------------------------------------------------------------------------
    def _prologue(self, bounds: Bounds) -> None:
        """Copies of the first chunks, where there are so many."""
        code, stages = self.region.frame.code, self.region.frame.schedule.stages
        if self.region.staging.streamed:
            code.barrier()
        self.region.staging.streamed = True
        for ahead in range(stages - 1):
            number = code.add(bounds.first, ahead)
            self._start(bounds, number, ahead * self.region.staging.arena.stage)

    def _start(self, bounds: Bounds, number: Index, stage: Index) -> None:
        """Start the copies of a chunk if it exists; they are a group in any case."""
        code = self.region.frame.code
        span = self.span(bounds, number)
        code.when(
            code.less(number, bounds.last),
            lambda: self.region.staging.start_chunk(self.axis, span, stage),
        )
        code.commit_copies()

    def span(self, bounds: Bounds, number: Index, *, full: bool = False) -> Span:
        """The positions of a chunk."""
        code, chunk = self.region.frame.code, self.region.frame.schedule.chunk
        return Span(code.mul(number, chunk), chunk, bounds.size, full)

    # -- one chunk ---------------------------------------------------------------------------------
    def _step(
        self, bounds: Bounds, number: Index, carried: Sequence[ir.Value], *, full: bool
    ) -> list[ir.Value]:
        region, frame = self.region, self.region.frame
        code, stages = frame.code, frame.schedule.stages
        distance, stage = region.staging.arena.stage, carried[-1]
        code.wait_copies(stages - 2)
        code.barrier()
        filled = self._shifted(stage, (stages - 1) * distance)
        self._start(bounds, code.add(number, stages - 1), filled)
        frame.spans[self.axis] = self.span(bounds, number, full=full)
        region.staging.stage = stage
        frame.keeps_all = full
        found = self.region_states(1, carried[:-1])
        frame.keeps_all = False
        return [*found, code.index(self._shifted(stage, distance))]

    def _shifted(self, stage: Index, distance: int) -> Index:
        """A stage further on in the ring."""
        code = self.region.frame.code
        whole = self.region.frame.schedule.stages * self.region.staging.arena.stage
        moved = code.add(stage, distance)
        wrapped = code.sub(moved, whole)
        if isinstance(moved, int):
            return moved % whole if whole else 0
        return arith.select(code.less(moved, whole), moved, code.index(wrapped))

    # -- states ----------------------------------------------------------------------------------
    def region_states(
        self, number: int, arguments: Sequence[Element], last: Container[int] = ()
    ) -> list[ir.Value]:
        """The elements of the states that a region yields; those of `last` are written last."""
        block = self.op.regions[number].blocks[0]
        inner = self.region.nested()
        self._bind(inner, block.arguments, arguments)
        tiles = [inner.tile(value) for value in inner.run(block)]
        states = self.op.regions[1].blocks[0].arguments
        made = {
            position: [tiles[position].at(slot) for slot in self.slots_of(states[position])]
            for position in sorted(range(len(tiles)), key=lambda position: position in last)
        }
        return [value for position in range(len(tiles)) for value in made[position]]

    def slots_of(self, state: ir.Value) -> list[Slot]:
        """Those of a state, in the order in which its elements are carried."""
        return self._slots(*self.region.plan.shape(state))

    def _slots(self, rows: bool, column: str | None) -> list[Slot]:
        frame = self.region.frame
        return list(slots(rows, column is not None, frame.blocks, frame.columns(column)))

    def _bind(
        self, region: Region, arguments: Sequence[ir.Value], carried: Sequence[Element]
    ) -> None:
        """Arguments of a region are the carried values, in order."""
        left = list(carried)
        for argument in arguments:
            rows, column = region.plan.shape(argument)
            element = compute_type(diag.element_type(argument))
            values = {slot: left.pop(0) for slot in self._slots(rows, column)}
            make = partial(_element, values)
            region.places[argument] = Tile(region.frame.code, rows, column, element, make)


def _element(values: Mapping[Slot, Element], slot: Slot) -> ir.Value:
    found = values[slot]
    return found if isinstance(found, ir.Value) else found()
