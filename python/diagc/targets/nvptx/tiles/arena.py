"""Which tile of a kernel is where in shared memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.tiles.plan import Plan, Staged
from diagc.targets.nvptx.tiles.rare_rows import rare_stream, read_again
from diagc.targets.nvptx.tiles.shared_tile import SharedTile, staged_dtype

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["Arena", "lay_out", "tile_extent"]

_FLOATS = ("f16", "bf16", "f32")

_SCRATCH_BYTES = 128
"""For sums over the warps of a block."""


@dataclass(frozen=True)
class Arena:
    """The shared memory of a block: a place for every staged argument, in bytes.

    `stage` is the distance from one stage of the streamed tiles to the next, `scratch` the place
    of a few numbers. `results` has the places of results that leave through shared memory, by
    number; these are stored last.
    """

    tiles: Mapping[Staged, SharedTile]
    stage: int
    scratch: int
    size: int
    results: Mapping[int, int]


def lay_out(plan: Plan, schedule: "TileSchedule") -> Arena:
    """Tiles that stay come first, then the stages of those that stream.

    A result takes the place of the last stages. Where they are too small, it takes that of all
    tiles, but for one of several results: the later ones may yet be made of tiles that stay. Before
    it is what is read when some rows are written again.
    """
    rare = rare_stream(plan)
    again = set() if rare is None else read_again(plan, rare)
    fixed = [staged for staged in plan.staged if staged.streamed is None]
    fixed.sort(key=lambda staged: staged not in again)
    streamed = [staged for staged in plan.staged if staged.streamed is not None]
    stage = sum(_tile(plan, schedule, staged, 0, 0).size for staged in streamed)
    tiles: dict[Staged, SharedTile] = {}
    offset = _SCRATCH_BYTES
    wide = _wide_results(plan, schedule)
    for staged in (*fixed, *streamed):
        distance = 0 if staged.streamed is None else stage
        tiles[staged] = _tile(plan, schedule, staged, offset, distance)
        offset += tiles[staged].size
    kept = _SCRATCH_BYTES + sum(tiles[staged].size for staged in again)
    first = _SCRATCH_BYTES + sum(tiles[staged].size for staged in fixed)
    end, largest = offset + stage * (schedule.stages - 1), max(wide.values(), default=0)
    if len(wide) == 1 and first + largest > end:
        first = kept
    place = max(first, end - largest)
    return Arena(tiles, stage, 0, max(end, place + largest), dict.fromkeys(wide, place))


def _wide_results(plan: Plan, schedule: "TileSchedule") -> dict[int, int]:
    """Sizes in bytes of the results that leave through shared memory: floats, rows, columns.

    Rows that are packed lie apart in memory; so threads write them.
    """
    found: dict[int, int] = {}
    if plan.packed is not None:
        return found
    for number, wire in enumerate(plan.signature.results):
        local = [label for label in wire.labels if label not in plan.grid]
        if wire.dtype in _FLOATS and plan.row in local and len(local) == 2:
            (column,) = (label for label in local if label != plan.row)
            width = tile_extent(plan, schedule, column, None)
            tile = SharedTile(0, schedule.rows, width, DTYPES[wire.dtype])
            found[number] = tile.size
    return found


def _tile(
    plan: Plan, schedule: "TileSchedule", staged: Staged, offset: int, stage: int
) -> SharedTile:
    lines, width = (
        tile_extent(plan, schedule, label, staged.streamed)
        for label in (staged.lines, staged.inner)
    )
    size = DTYPES[staged_dtype(plan.signature.args[staged.argument].dtype)]
    return SharedTile(offset, lines, width, size, stage)


def tile_extent(plan: Plan, schedule: "TileSchedule", label: str, streamed: str | None) -> int:
    """Positions of a label that a tile holds: columns are whole groups of 16."""
    if label == plan.walked:
        return schedule.depth
    if label == streamed:
        return schedule.chunk
    return schedule.rows if label == plan.row else -(-plan.extent(label, schedule) // 16) * 16
