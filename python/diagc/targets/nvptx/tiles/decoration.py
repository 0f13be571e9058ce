"""Tile sizes as groups and chunks of the cost model."""

from collections.abc import Mapping

from diagc.cost import Decoration
from diagc.targets.nvptx.tiles.packing import pack
from diagc.targets.nvptx.tiles.parts import (
    least_summed,
    part_elements,
    sharing_of,
    sizes_with,
)
from diagc.targets.nvptx.tiles.plan import ONE_ROW, Plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["tile_decoration"]


_WARPGROUP_ROWS = 64
"""Rows that share what a warpgroup reads of shared memory for one product."""


def tile_decoration(
    plan: Plan,
    schedule: TileSchedule,
    sizes: Mapping[str, int],
    *,
    counted: bool = True,
    multiprocessors: int | None = None,
) -> Decoration:
    """What a block of a plan works on: one position of the grid, a tile of rows, chunks.

    Blocks are numbered with rows innermost, then the grid from its last label on.

    Args:
        plan: of the kernel.
        schedule: its tile sizes.
        sizes: of the axes that are open, by label.
        counted: whether these are known well enough to count blocks.
        multiprocessors: of the device, for the number of parts; see `Sharing.parts`.
    """
    plan = pack(plan, schedule)
    rows = () if plan.row == ONE_ROW else (plan.row,)
    groups = {**dict.fromkeys(plan.grid, 1), **dict.fromkeys(rows, schedule.row_extent)}
    if plan.tiled is not None:
        groups[plan.tiled] = schedule.columns
    if plan.packed is not None:
        groups[plan.packed] = schedule.packed
    chunks = dict.fromkeys(plan.streamed, schedule.chunk)
    parts, states, summed = 1, 0, False
    if schedule.split:
        parts = sharing_of(plan, schedule).parts(sizes_with(plan, sizes), multiprocessors)
        states = 4 * part_elements(plan, schedule.warps, schedule.row_blocks)
        summed = 0 < least_summed(plan, schedule) <= parts
    bulk = schedule.producers > 0
    return Decoration(
        groups,
        chunks,
        schedule.blocks_per_sm,
        {**{label: groups[label] for label in rows}, **chunks},
        parts=parts,
        states=states,
        summed=summed,
        warps=schedule.warps,
        warpgroups=bulk,
        ahead=schedule.stages - 1,
        counted=counted,
        in_registers=dict.fromkeys(rows, _WARPGROUP_ROWS if bulk else 16 * schedule.row_blocks),
        kept=0 if bulk else 32 * 4 * schedule.resident,
    )
