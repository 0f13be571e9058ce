"""Streams that blocks share: each works on a part of the axis, and a second launch joins the parts.

Where a kernel has few positions to give to blocks (sums over everything, sums of columns, Gram
matrices), the first launch leaves the states of every part in scratch memory; the second folds them
in order with the stream's `combine`, so results are the same every time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.runtime.factors import Factor
from diagc.runtime.gpu_kernel import Workspace
from diagc.targets.elementwise.code import Index
from diagc.targets.elementwise.scalars import compute_type
from diagc.targets.nvptx.threads.code import GpuCode
from diagc.targets.nvptx.threads.layout import At, Frame
from diagc.targets.nvptx.threads.parts import Part

__all__ = ["Split", "needed_states", "shared_stream", "state_workspaces"]


def shared_stream(kernel: ir.Operation, part: Part) -> ir.Operation | None:
    """The one stream of a launch, if its parts may be joined; None where there are several."""
    ops = [op.operation for op in diag.function_body(kernel).operations]
    streams = [op for op in ops if op.name == "diag.stream" and needed_states(op, part)]
    if len(streams) != 1 or len(streams[0].operands):
        return None
    (stream,) = streams
    named = stream.attributes.get("properties", ())
    if "monoid" not in [ir.StringAttr(name).value for name in named]:
        return None
    return stream if len(stream.regions[2].blocks) else None


def needed_states(stream: ir.Operation, part: Part) -> list[int]:
    """Numbers of the states that the results of a launch are made of."""
    arguments = stream.regions[1].blocks[0].arguments
    return [i for i, state in enumerate(arguments) if state in part.needed]


def state_workspaces(
    states: Sequence[ir.Value], extents: Sequence[int], parts: int, blocks: Sequence[Factor]
) -> list[Workspace]:
    """Scratch memory for the states of every part, block and group.

    Args:
        states: of the stream.
        extents: elements of each that one block keeps, all groups together.
        parts: of the streamed axis.
        blocks: of one part, as a product.
    """
    types = [str(compute_type(diag.element_type(state))) for state in states]
    return [
        Workspace(type_, (parts, *blocks, extent))
        for type_, extent in zip(types, extents, strict=True)
    ]


@dataclass(frozen=True)
class Split:
    """What one launch does with a shared stream.

    Args:
        stream: the stream.
        parts: how many share it.
        joins: whether this is the launch that joins them.
        pointers: to the scratch memory of every needed state.
        part: number of this block's part.
        block: number of this block among those of its part.
        blocks: how many these are.
        rows: groups of a block.
    """

    stream: ir.Operation
    parts: int
    joins: bool
    pointers: tuple[ir.Value, ...]
    part: Index
    block: Index
    blocks: Index
    rows: int

    def bounds(self, code: GpuCode, low: Index, high: Index, chunk: int) -> tuple[Index, Index]:
        """This part of a range, in whole chunks."""
        chunks = code.ceil_div(code.sub(high, low), chunk)
        share = code.mul(code.ceil_div(chunks, self.parts), chunk)
        first = code.min(code.add(low, code.mul(self.part, share)), high)
        return first, code.min(code.add(first, share), high)

    def address(
        self, code: GpuCode, frame: Frame, number: int, state: ir.Value, part: Index, at: At
    ) -> ir.Value:
        """Pointer to a position of a needed state in the scratch memory of a part."""
        labels = frame.local(diag.labels(state))
        extents = [frame.span(label).extent for label in labels]
        local: Index = 0
        for i, label in enumerate(labels):
            local = code.add(local, code.mul(at[label].local, prod(extents[i + 1 :])))
        block = arith.muli(code.wide(part), code.wide(self.blocks))
        block = arith.addi(block, code.wide(self.block))
        group = arith.addi(
            arith.muli(block, code.wide(self.rows)), code.wide(frame.row if self.rows > 1 else 0)
        )
        start = arith.muli(group, code.wide(prod(extents)))
        element = compute_type(diag.element_type(state))
        pointer = code.offset(self.pointers[number], element, start)
        return code.offset(pointer, element, local)
