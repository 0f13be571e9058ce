"""Tile sizes as groups and chunks of the cost model."""

from collections.abc import Mapping
from math import ceil

from diagc.cost import UNKNOWN_SIZE, Decoration
from diagc.dialects import diag
from diagc.targets.nvptx.tiles.plan import ONE_ROW, Plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["tile_decoration"]


def tile_decoration(plan: Plan, schedule: TileSchedule, sizes: Mapping[str, int]) -> Decoration:
    """What a block of a plan works on: one position of the grid, a tile of rows, chunks.

    Blocks are numbered with rows innermost, then the grid from its last label on.
    """
    rows = () if plan.row == ONE_ROW else (plan.row,)
    groups = {**dict.fromkeys(plan.grid, 1), **dict.fromkeys(rows, schedule.rows)}
    chunks = dict.fromkeys(plan.streamed, schedule.chunk)
    parts = 1
    if schedule.split:
        (axis,) = plan.streamed
        size = plan.sizes[axis]
        length = sizes.get(axis, UNKNOWN_SIZE) if size == diag.DYNAMIC else size
        parts = ceil(length / schedule.split)
    warp = dict.fromkeys(rows, 16 * schedule.row_blocks)
    concurrent = schedule.blocks_per_sm
    return Decoration(groups, chunks, concurrent, rows, parts=parts, in_registers=warp)
