"""A stream that several blocks share: each takes a part of the axis, a second launch joins them.

The states of a part go to a workspace as they are in registers, thread by thread, so that every
access of a warp is one line; the threads that read them are those that wrote them. Joining is the
stream's own region `combine`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.runtime.sharing import PARTS
from diagc.targets.nvptx.tiles.bounds import Bounds, stream_bounds
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Tile
from diagc.targets.nvptx.tiles.regions import Region
from diagc.targets.nvptx.tiles.streams import StreamLoop

__all__ = ["PartStates", "join_parts", "part_bounds", "run_part"]


@dataclass(frozen=True)
class PartStates:
    """The workspace as one block sees it.

    Args:
        frame: of the block.
        pointer: to the workspace.
        block: number of the block among those of one part.
        blocks: how many there are.
        elements: of one block.
    """

    frame: Frame
    pointer: ir.Value
    block: Index
    blocks: Index
    elements: int

    def _first(self, part: Index) -> ir.Value:
        """Pointer to the thread's first element."""
        code = self.frame.code
        number = arith.muli(code.wide(part), code.wide(self.blocks))
        number = arith.addi(number, code.wide(self.block))
        number = arith.muli(number, code.scalar(code.i64, 4 * self.elements))
        pointer = code.address(self.pointer, number)
        return code.address(pointer, code.mul(self.frame.thread, 4))

    def store(self, part: Index, states: Sequence[ir.Value]) -> None:
        """Write the states of a part."""
        code, pointer = self.frame.code, self._first(part)
        for number, value in enumerate(states):
            at = code.address(pointer, 4 * 32 * self.frame.schedule.warps * number)
            code.store(value, at, 4)

    def load(self, part: Index, count: int) -> list[ir.Value]:
        """Read the states of a part."""
        code, pointer = self.frame.code, self._first(part)
        step = 4 * 32 * self.frame.schedule.warps
        return [code.load(code.f32, code.address(pointer, step * i), 4) for i in range(count)]


def run_part(region: Region, loop: type[StreamLoop], part: Index, states: PartStates) -> None:
    """Visit the chunks of one part of the kernel's one stream, and keep its states."""
    (op,) = region.plan.streams()
    region.run_until(diag.function_body(region.plan.kernel), op)
    stream = loop(region, op)
    bounds = stream_bounds(region, op, stream.axis)
    states.store(part, stream.run(part_bounds(region.frame, bounds, part)))


def part_bounds(frame: Frame, bounds: Bounds, part: Index) -> Bounds:
    """The chunks of one part among those that a block visits; see `Sharing.chunks_of_part`."""
    code = frame.code
    chunks = code.ceil_div(code.ceil_div(bounds.size, frame.schedule.chunk), frame.sizes[PARTS])
    low = code.mul(part, chunks)
    high = code.add(low, chunks)

    def clamp(number: Index) -> Index:
        return code.max(code.min(number, high), low)

    first, last = clamp(bounds.first), clamp(bounds.last)
    full = code.min(clamp(bounds.full), last)
    return Bounds(first, code.max(full, first), last, bounds.size)


def join_parts(region: Region, op: ir.Operation, parts: Index, states: PartStates) -> list[Tile]:
    """The stream's results from the states of all parts."""
    code = region.frame.code
    stream = StreamLoop(region, op)
    count = len(list(stream.state_slots()))

    def step(part: Index, carried: list[ir.Value]) -> list[ir.Value]:
        return stream.merge(carried, states.load(part, count))

    return stream.tail(code.loop(0, parts, 1, stream.init(), step))
