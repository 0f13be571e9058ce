"""The tile sizes of a kernel, chosen from its axes and the limits of the architecture."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.arch import GpuArch

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.plan import Plan

__all__ = ["TileSchedule", "choose_schedule"]


@dataclass(frozen=True)
class TileSchedule:
    """How a block works.

    Args:
        row: label of the rows.
        grid: labels with one block per position.
        row_blocks: blocks of 16 rows of one warp.
        warps: per block.
        chunk: positions of a streamed axis that are worked on at a time.
        stages: chunks in shared memory: all but one are on their way.
        blocks_per_sm: how many blocks one multiprocessor should take, for the limit of registers.
        split: positions of the streamed axis that a block visits at most, 0 for all.
        tf32: whether f32 operands are rounded to tf32; else products are exact to 22 bits.
    """

    row: str
    grid: tuple[str, ...]
    row_blocks: int = 1
    warps: int = 4
    chunk: int = 64
    stages: int = 2
    blocks_per_sm: int = 1
    split: int = 0
    tf32: bool = False

    @property
    def rows(self) -> int:
        """Rows of a block."""
        return 16 * self.row_blocks * self.warps

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps


def choose_schedule(plan: "Plan", arch: GpuArch) -> TileSchedule:
    """Tile sizes for a kernel.

    Raises:
        UnsupportedError: states do not fit into registers, or tiles into shared memory.
    """
    rows = plan.sizes[plan.row]
    if rows == diag.DYNAMIC:
        return TileSchedule(plan.row, plan.grid, row_blocks=1, warps=4, chunk=64)
    groups = -(-rows // 16)
    return TileSchedule(plan.row, plan.grid, row_blocks=1, warps=groups, chunk=64)
