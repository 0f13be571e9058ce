"""A stream whose chunks another warp copies: the loop counts stages and phases of their rings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.bounds import Bounds, stream_bounds
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.layouts import Tile
from diagc.targets.nvptx.tiles.regions import Region
from diagc.targets.nvptx.tiles.streams import StreamLoop
from diagc.targets.nvptx.warpgroups.staging import BulkStaging

__all__ = ["lower_bulk_stream", "next_stage"]


def lower_bulk_stream(region: Region, op: ir.Operation) -> list[Tile]:
    """The results of a stream."""
    stream = _BulkLoop(region, op)
    return stream.tail(stream.run(stream_bounds(region, op, stream.axis)))


def next_stage(code: Code, stage: Index, phase: Index, stages: int) -> tuple[ir.Value, ir.Value]:
    """Number of the next stage, and its parity, which changes with every round."""
    further = code.index(code.add(stage, 1))
    wraps = arith.cmpi(arith.CmpIPredicate.eq, further, code.index(stages))
    turned = code.index(code.bit_xor(phase, 1))
    return (
        arith.select(wraps, code.index(0), further),
        arith.select(wraps, turned, code.index(phase)),
    )


@dataclass(eq=False)
class _BulkLoop(StreamLoop):
    def run(self, bounds: Bounds) -> list[ir.Value]:
        """The states after all chunks."""
        frame, code = self.region.frame, self.region.frame.code
        self.region.staging.wait_fixed()
        carried = [*self.init(), code.index(0), code.index(0)]
        for low, high, full in bounds.ranges():
            carried = code.loop(low, high, 1, carried, partial(self._step, bounds, full=full))
        frame.spans.pop(self.axis, None)
        return carried[:-2]

    def _step(
        self, bounds: Bounds, number: Index, carried: Sequence[ir.Value], *, full: bool
    ) -> list[ir.Value]:
        frame, staging = self.region.frame, self.region.staging
        assert isinstance(staging, BulkStaging)
        *states, stage, phase = carried
        staging.begin_chunk(stage, phase)
        frame.spans[self.axis] = self._span(bounds, number, full=full)
        frame.keeps_all = full
        found = self._region_states(1, states)
        frame.keeps_all = False
        staging.end_chunk()
        return [*found, *next_stage(frame.code, stage, phase, frame.schedule.stages)]
