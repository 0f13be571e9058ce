"""Which tile of a kernel is where in shared memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.tiles.plan import Plan, Staged
from diagc.targets.nvptx.tiles.shared_tile import SharedTile

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["Arena", "lay_out"]

_SCRATCH_BYTES = 128
"""For sums over the warps of a block."""


@dataclass(frozen=True)
class Arena:
    """The shared memory of a block: a place for every staged argument, in bytes.

    `stage` is the distance from one stage of the streamed tiles to the next, `scratch` the place
    of a few numbers.
    """

    tiles: Mapping[Staged, SharedTile]
    stage: int
    scratch: int
    size: int


def lay_out(plan: Plan, schedule: "TileSchedule") -> Arena:
    """Tiles that stay come first, then the stages of those that stream."""
    fixed = [staged for staged in plan.staged if staged.streamed is None]
    streamed = [staged for staged in plan.staged if staged.streamed is not None]
    stage = sum(_tile(plan, schedule, staged, 0, 0).size for staged in streamed)
    tiles: dict[Staged, SharedTile] = {}
    offset = _SCRATCH_BYTES
    for staged in (*fixed, *streamed):
        distance = 0 if staged.streamed is None else stage
        tiles[staged] = _tile(plan, schedule, staged, offset, distance)
        offset += tiles[staged].size
    return Arena(tiles, stage, 0, offset + stage * (schedule.stages - 1))


def _tile(
    plan: Plan, schedule: "TileSchedule", staged: Staged, offset: int, stage: int
) -> SharedTile:
    lines, width = (
        _extent(plan, schedule, label, staged.streamed) for label in (staged.lines, staged.inner)
    )
    size = DTYPES[plan.signature.args[staged.argument].dtype]
    return SharedTile(offset, lines, width, size, stage)


def _extent(plan: Plan, schedule: "TileSchedule", label: str, streamed: str | None) -> int:
    """Positions of a label that a tile holds."""
    if label == streamed:
        return schedule.chunk
    return schedule.rows if label == plan.row else -(-plan.sizes[label] // 16) * 16
