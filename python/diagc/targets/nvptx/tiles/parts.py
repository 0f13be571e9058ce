"""Analysis: whether blocks may share a stream, and what a part of it keeps."""

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.nvptx.tiles.plan import Plan

__all__ = ["part_elements", "splittable"]


def splittable(plan: Plan) -> ir.Operation | None:
    """The one stream of a kernel, if its axis may be split: states of f32 that can be joined."""
    streams = plan.streams()
    if len(streams) != 1 or len(streams[0].operands) or plan.tiled is not None:
        return None
    (op,) = streams
    states = op.regions[1].blocks[0].arguments
    floats = all(str(diag.element_type(state)) == "f32" for state in states)
    return (
        op if floats and len(op.regions[2].blocks) and op.regions[2].blocks[0].arguments else None
    )


def part_elements(plan: Plan, warps: int, row_blocks: int) -> int:
    """Elements of all states of a part, in the registers of a block."""
    op = splittable(plan)
    assert op is not None
    count = 0
    for state in op.regions[1].blocks[0].arguments:
        rows, column = plan.shape(state)
        wide = 2 * (-(-plan.sizes[column] // 16) * 2) if column is not None else 1
        count += wide * (2 * row_blocks if rows else 1)
    return count * 32 * warps
