"""A stream that several blocks share: each takes a part of the axis, the last launch joins them.

The states of a part go to a workspace as they are in registers, thread by thread, so that every
access of a warp is one line; the threads that read them are those that wrote them. Joining is the
stream's own region `combine`. Many parts of large states that are plain sums are added up by a
launch in between (`parts.least_summed`), whose threads take any slots, and one part is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.runtime.sharing import PARTS
from diagc.targets.nvptx.tiles.bounds import Bounds, stream_bounds
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Tile
from diagc.targets.nvptx.tiles.regions import Region
from diagc.targets.nvptx.tiles.streams import StreamLoop

__all__ = [
    *("SUM_ELEMENTS", "SUM_THREADS"),
    *("PartStates", "join_parts", "part_bounds", "run_part"),
]


SUM_THREADS, SUM_ELEMENTS = 128, 512
"""Of a block that adds states: each thread has four neighbours."""

_TOGETHER = 4
"""Parts that such a thread loads at a time."""


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

    def _of_block(self, part: Index) -> ir.Value:
        """Pointer to the block's first element."""
        code = self.frame.code
        number = arith.muli(code.wide(part), code.wide(self.blocks))
        number = arith.addi(number, code.wide(self.block))
        number = arith.muli(number, code.scalar(code.i64, 4 * self.elements))
        return code.address(self.pointer, number)

    def _first(self, part: Index) -> ir.Value:
        """Pointer to the thread's first element."""
        code = self.frame.code
        return code.address(self._of_block(part), code.mul(self.frame.thread, 4))

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

    def add_up(self, piece: Index, parts: Index) -> None:
        """Put the sum of all parts in the place of the first, in order: 0, 1, ..."""
        code = self.frame.code
        at = code.add(code.mul(piece, SUM_ELEMENTS), code.mul(self.frame.thread, 4))
        four = ir.VectorType.get([4], code.f32)
        zero = arith.constant(four, ir.DenseElementsAttr.get_splat(four, _f32(0.0)))
        whole = code.mul(code.div(parts, _TOGETHER), _TOGETHER)

        def place(part: Index) -> ir.Value:
            return code.address(self._of_block(part), code.mul(at, 4))

        def add(count: int, part: Index, carried: list[ir.Value]) -> list[ir.Value]:
            places = [place(code.add(part, ahead)) for ahead in range(count)]
            found = [code.load(four, pointer, 16) for pointer in places]
            return [reduce(arith.addf, found, carried[0])]

        def write() -> None:
            sums = code.loop(0, whole, _TOGETHER, [zero], partial(add, _TOGETHER))
            (found,) = code.loop(whole, parts, 1, sums, partial(add, 1))
            code.store(found, place(0), 16)

        code.when(code.less(at, self.elements), write)


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


def _f32(value: float) -> ir.Attribute:
    return ir.FloatAttr.get_f32(value)


def join_parts(region: Region, op: ir.Operation, parts: Index, states: PartStates) -> list[Tile]:
    """The stream's results from the states of all parts that are left."""
    code = region.frame.code
    stream = StreamLoop(region, op)
    count = len(list(stream.state_slots()))

    def step(part: Index, carried: list[ir.Value]) -> list[ir.Value]:
        return stream.merge(carried, states.load(part, count))

    return stream.tail(code.loop(0, parts, 1, stream.init(), step))
