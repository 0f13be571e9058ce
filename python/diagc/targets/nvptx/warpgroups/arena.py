"""Shared memory of a block of warpgroups: mbarriers, tiles that stay, rings that stream."""

from collections.abc import Mapping
from dataclasses import dataclass

from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.tiles.arena import Arena
from diagc.targets.nvptx.tiles.plan import Plan, Staged
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.shared_tile import ROW_BYTES, SharedTile

__all__ = ["BulkArena", "PanelTile", "lay_out", "packed_boxes"]

_ATOM = 1024
"""Bytes of eight lines: where the pattern of the swizzle begins."""
_MBARRIERS = 128
"""Offset of the first; before it there is room for sums over warps."""


@dataclass(frozen=True)
class PanelTile(SharedTile):
    """A tile of panels, one after the other; each is a box of a copy.

    Their lines have 128 bytes, or all of a line, which is then 32 or 64 bytes.
    """

    @property
    def pitch(self) -> int:
        """Bytes of a line of a panel."""
        return min(self.width * self.element_bytes, ROW_BYTES)

    @property
    def panel(self) -> int:
        """Bytes of a panel."""
        return self.lines * self.pitch

    @property
    def panels(self) -> int:
        """Their number."""
        return self.width * self.element_bytes // self.pitch

    @property
    def size(self) -> int:
        """Bytes of one stage."""
        return self.panels * self.panel

    def split(self, line: int, chunk: int) -> tuple[int, int]:
        """(pattern, offset in bytes) of a line, a multiple of 8, and a chunk."""
        inside = chunk & self.mask
        return inside, line * self.pitch + (chunk - inside) // (self.mask + 1) * self.panel


@dataclass(frozen=True)
class BulkArena(Arena):
    """Places; `tiles` are all panels, `stage` is 0: every streamed tile has a ring of its own.

    Args:
        streamed: tiles that stream, in the order in which they are copied and used.
        stages: of every ring.
    """

    streamed: tuple[Staged, ...] = ()
    stages: int = 2

    @property
    def fixed(self) -> tuple[Staged, ...]:
        """Tiles that stay."""
        return tuple(staged for staged in self.tiles if staged.streamed is None)

    @property
    def fixed_mbarrier(self) -> int:
        """Offset of the mbarrier of all tiles that stay."""
        return _MBARRIERS

    def full(self, staged: Staged) -> int:
        """Offset of the mbarriers, one a stage, that say that a tile is there."""
        return _MBARRIERS + 8 + 16 * self.stages * self.streamed.index(staged)

    def empty(self, staged: Staged) -> int:
        """Offset of those that say that a tile was read."""
        return self.full(staged) + 8 * self.stages


def lay_out(plan: Plan, schedule: TileSchedule, streamed: tuple[Staged, ...]) -> BulkArena:
    """Tiles at multiples of 1024 bytes; results take the place of all tiles, or come behind them.

    A single result is made when nothing reads a tile any more; of several, a later one may.
    """
    offset, tiles = _ATOM, dict[Staged, SharedTile]()
    assert _MBARRIERS + 8 + 16 * schedule.stages * len(streamed) <= _ATOM
    for staged in plan.staged:
        stages = 1 if staged.streamed is None else schedule.stages
        tile = _tile(plan, schedule, staged, offset)
        tiles[staged] = tile
        offset += stages * tile.size
    results = _result_sizes(plan, schedule)
    place = _ATOM if len(results) == 1 else offset
    end = max([offset, *(place + size for size in results.values())])
    places = dict.fromkeys(results, place)
    return BulkArena(tiles, 0, 0, end, places, streamed, schedule.stages)


def packed_boxes(plan: Plan, staged: Staged) -> int:
    """How many boxes make up the lines of a panel: rows come from every packed position."""
    if plan.packed is None or staged.lines != plan.row:
        return 1
    return plan.sizes[plan.packed]


def _tile(plan: Plan, schedule: TileSchedule, staged: Staged, offset: int) -> PanelTile:
    lines, width = (
        _extent(plan, schedule, label, staged.streamed) for label in (staged.lines, staged.inner)
    )
    size = DTYPES[plan.signature.args[staged.argument].dtype]
    stage = 0 if staged.streamed is None else lines * width * size
    return PanelTile(offset, lines, width, size, stage)


def _extent(plan: Plan, schedule: TileSchedule, label: str, streamed: str | None) -> int:
    if label == plan.walked:
        return schedule.depth
    if label == streamed:
        return schedule.chunk
    return schedule.rows if label == plan.row else plan.extent(label, schedule)


def _result_sizes(plan: Plan, schedule: TileSchedule) -> Mapping[int, int]:
    """Bytes of the results that have rows and columns, by number."""
    found = {}
    for number, wire in enumerate(plan.signature.results):
        columns = [label for label in wire.labels if label not in (*plan.grid, *plan.rows)]
        if wire.dtype in ("f16", "bf16", "f32") and plan.row in wire.labels and len(columns) == 1:
            (column,) = columns
            tile = SharedTile(0, schedule.rows, plan.extent(column, schedule), DTYPES[wire.dtype])
            found[number] = tile.size
    return found
