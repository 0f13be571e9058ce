"""A stream as a loop over chunks: copies run ahead of it, states are carried in registers.

    copies of chunks 0 .. stages-2
    for j in full chunks:                      no position is masked by `diag.keep` or missing
      wait for chunk j; barrier; start the copies of chunk j + stages - 1; body
    for j in the rest: the same, with masks and with positions that do not exist

One barrier a chunk suffices: the stage that is filled next was read in the step before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.elementwise.scalars import compute_type
from diagc.targets.nvptx.tiles.bounds import Bounds, stream_bounds
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Span
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.regions import Region

__all__ = ["lower_stream"]


def lower_stream(region: Region, op: ir.Operation) -> list[Tile]:
    """The results of a stream."""
    return _Stream(region, op).lower()


@dataclass(eq=False)
class _Stream:
    region: Region
    op: ir.Operation

    @property
    def axis(self) -> str:
        """The streamed axis."""
        return str(ir.StringAttr(self.op.attributes["axis"]).value)

    def lower(self) -> list[Tile]:
        """Prologue, loops, tail."""
        region, frame = self.region, self.region.frame
        code, schedule = frame.code, frame.schedule
        bounds = stream_bounds(region, self.op, self.axis)
        self._prologue(bounds)
        region.staging.pending = schedule.stages - 1
        init = region.nested()
        handed = init.run(self.op.regions[0].blocks[0])
        states = [init.tile(value) for value in handed]
        carried = [tile.at(slot) for tile in states for slot in self._slots(tile)]
        carried.append(code.index(0))
        for low, high, full in bounds.ranges():
            carried = code.loop(
                low,
                high,
                1,
                carried,
                partial(self._step, bounds, full=full),
            )
        tail = region.nested()
        self._bind(tail, self.op.regions[3].blocks[0].arguments, carried)
        frame.spans.pop(self.axis, None)
        return [tail.tile(value) for value in tail.run(self.op.regions[3].blocks[0])]

    # -- copies ----------------------------------------------------------------------------------
    def _prologue(self, bounds: Bounds) -> None:
        """Copies of the first chunks, where there are so many."""
        code, stages = self.region.frame.code, self.region.frame.schedule.stages
        for ahead in range(stages - 1):
            number = code.add(bounds.first, ahead)
            self._start(bounds, number, ahead * self.region.staging.arena.stage)

    def _start(self, bounds: Bounds, number: Index, stage: Index) -> None:
        """Start the copies of a chunk if it exists; they are a group in any case."""
        code = self.region.frame.code
        span = self._span(bounds, number)
        code.when(
            code.less(number, bounds.last),
            lambda: self.region.staging.start_chunk(self.axis, span, stage),
        )
        code.commit_copies()

    def _span(self, bounds: Bounds, number: Index, *, full: bool = False) -> Span:
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
        frame.spans[self.axis] = self._span(bounds, number, full=full)
        region.staging.stage = stage
        frame.keeps_all = full
        body = region.nested()
        block = self.op.regions[1].blocks[0]
        self._bind(body, block.arguments, carried)
        states = [body.tile(value) for value in body.run(block)]
        found = [tile.at(slot) for tile in states for slot in self._slots(tile)]
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
    def _slots(self, tile: Tile) -> list[Slot]:
        frame = self.region.frame
        return list(tile.slots(frame.blocks, frame.columns(tile.column)))

    def _bind(
        self, region: Region, arguments: Sequence[ir.Value], carried: Sequence[ir.Value]
    ) -> None:
        """Arguments of a region are the carried values, in order."""
        left = list(carried)
        for argument in arguments:
            labels = region.plan.local(argument)
            columns = [label for label in labels if label != region.frame.row]
            rows, column = len(columns) < len(labels), columns[0] if columns else None
            element = compute_type(diag.element_type(argument))
            values: dict[Slot, ir.Value] = {}
            tile = Tile(region.frame.code, rows, column, element, values.__getitem__)
            for slot in self._slots(tile):
                values[slot] = left.pop(0)
            region.places[argument] = tile
