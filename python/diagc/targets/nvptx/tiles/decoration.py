"""Tile sizes as groups and chunks of the cost model."""

from collections.abc import Mapping
from math import ceil

from diagc.cost import UNKNOWN_SIZE, Decoration
from diagc.dialects import diag
from diagc.targets.nvptx.tiles.plan import Plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["tile_decoration"]


def tile_decoration(plan: Plan, schedule: TileSchedule, sizes: Mapping[str, int]) -> Decoration:
    """What a block of a plan works on: one position of the grid, a tile of rows, chunks.

    Blocks are numbered with rows innermost, then the grid from its last label on.
    """
    groups = {**dict.fromkeys(plan.grid, 1), plan.row: schedule.row_extent}
    if plan.packed is not None:
        groups[plan.packed] = schedule.packed
    chunks = dict.fromkeys(plan.streamed, schedule.chunk)
    parts = 1
    if schedule.split:
        (axis,) = plan.streamed
        size = plan.sizes[axis]
        length = sizes.get(axis, UNKNOWN_SIZE) if size == diag.DYNAMIC else size
        parts = ceil(length / schedule.split)
    warp = {plan.row: 16 * schedule.row_blocks}
    concurrent = schedule.blocks_per_sm
    return Decoration(groups, chunks, concurrent, (plan.row,), parts=parts, in_registers=warp)
