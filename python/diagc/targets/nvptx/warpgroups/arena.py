"""Shared memory of a block of warpgroups: mbarriers, tiles that stay, rings that stream."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from diagc.errors import UnsupportedError
from diagc.runtime.gpu_kernel import MAX_BOX, MAX_DIMENSIONS
from diagc.runtime.signature import DTYPES, Wire
from diagc.targets.nvptx.arch import ARCHITECTURES
from diagc.targets.nvptx.tiles.arena import Arena, tile_extent
from diagc.targets.nvptx.tiles.plan import Plan, Staged
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.shared_tile import SharedTile
from diagc.targets.nvptx.warpgroups.fit import PITCHES, column_tile, is_turned

__all__ = ["BulkArena", "PanelTile", "lay_out", "packed_boxes"]

_ATOM = 1024
"""Bytes of eight lines: where the pattern of the swizzle begins."""
_MBARRIERS = 128
"""Offset of the first; before it there is room for sums over warps."""
_FIRST_RING = _MBARRIERS + 16
_SHARED_BYTES = ARCHITECTURES["sm_90a"].block_shared_bytes


@dataclass(frozen=True)
class PanelTile(SharedTile):
    """A tile of panels, one after the other; each is a box of a copy.

    Their lines are of 128 bytes, or of 64 or 32 where no whole number of 128 makes up a line.
    """

    @property
    def pitch(self) -> int:
        """Bytes of a line of a panel: what copies and products can swizzle."""
        return next(x for x in PITCHES if self.width * self.element_bytes % x == 0)

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
        boxes: those of `results` that leave by tensor maps, as tiles.
        turned: tiles whose lines are those columns, for products that take them along k only.
    """

    streamed: tuple[Staged, ...] = ()
    stages: int = 2
    boxes: Mapping[int, PanelTile] = field(default_factory=dict)
    turned: Mapping[Staged, PanelTile] = field(default_factory=dict)

    @property
    def fixed(self) -> tuple[Staged, ...]:
        """Tiles that stay."""
        return tuple(staged for staged in self.tiles if staged.streamed is None)

    @property
    def fixed_mbarrier(self) -> int:
        """Offset of the mbarrier of all tiles that stay."""
        return _MBARRIERS

    @property
    def fixed_empty(self) -> int:
        """Offset of that which says that these were read, for a block's next tile."""
        return _MBARRIERS + 8

    @property
    def is_shared(self) -> bool:
        """Whether results take the place of other tiles."""
        end = _ATOM + sum(tile.size for tile in self.tiles.values())
        return any(place < end for place in self.results.values())

    @property
    def mixes_lines(self) -> bool:
        """Whether lines that a warp writes of one result are those of another warp in another."""
        pitches = {tile.pitch for tile in self.boxes.values()}
        return len(self.boxes) < len(self.results) or len(pitches) > 1

    def full(self, staged: Staged) -> int:
        """Offset of the mbarriers, one a stage, that say that a tile is there."""
        return _FIRST_RING + 16 * self.stages * self.streamed.index(staged)

    def empty(self, staged: Staged) -> int:
        """Offset of those that say that a tile was read."""
        return self.full(staged) + 8 * self.stages


def lay_out(plan: Plan, schedule: TileSchedule, streamed: tuple[Staged, ...]) -> BulkArena:
    """Tiles at multiples of 1024 bytes; results take the place of all tiles, or come behind them.

    A single result is made when nothing reads a tile any more; of several, a later one may. Where
    blocks stay the next tiles are on their way by then: results have a place of their own, or take
    that of the rows, where these are as large and there is too little memory.

    Raises:
        UnsupportedError: blocks cannot stay, or a tile has more lines than a box.
    """
    shared = plan.tiled is not None or plan.walked is not None
    if schedule.stays and (shared or schedule.split):
        raise _refusal(
            plan, "blocks cannot stay that share columns or a stream, or walk their rows"
        )
    offset, tiles, turned = _ATOM, dict[Staged, SharedTile](), dict[Staged, PanelTile]()
    across = {column_tile(plan, p) for p in plan.products.values() if is_turned(plan, p)}
    assert _FIRST_RING + 16 * schedule.stages * len(streamed) <= _ATOM
    for staged in sorted(plan.staged, key=lambda staged: staged.streamed is not None):
        stages = 1 if staged.streamed is None else schedule.stages
        tile = _tile(plan, schedule, staged, offset)
        if tile.lines // packed_boxes(plan, staged) > MAX_BOX:
            name = plan.signature.args[staged.argument].name
            raise _refusal(plan, f"tiles of '{name}' have {tile.lines} lines, boxes {MAX_BOX}")
        tiles[staged] = tile
        room = -(-stages * tile.size // _ATOM) * _ATOM
        offset += room
        if staged in across:
            turned[staged] = replace(tile, offset=offset, lines=tile.width, width=tile.lines)
            offset += room
    results = _results(plan, schedule)
    place = _ATOM if len(results) == 1 else offset
    if schedule.stays:
        place = _place_beside(plan, tiles, results, offset)
    end = max([offset, *(place + tile.size for tile in results.values())])
    placed = {number: replace(tile, offset=place) for number, tile in results.items()}
    boxes = {number: tile for number, tile in placed.items() if isinstance(tile, PanelTile)}
    places = dict.fromkeys(placed, place)
    return BulkArena(tiles, 0, 0, end, places, streamed, schedule.stages, boxes, turned)


def _place_beside(
    plan: Plan, tiles: Mapping[Staged, SharedTile], results: Mapping[int, SharedTile], end: int
) -> int:
    """Of results that leave while the next tiles come."""
    largest = max((tile.size for tile in results.values()), default=0)
    if end + largest <= _SHARED_BYTES:
        return end
    rows = sum(tile.size for staged, tile in tiles.items() if staged.streamed is None)
    in_boxes = all(isinstance(tile, PanelTile) for tile in results.values())
    if len(results) == 1 and in_boxes and largest <= rows:
        return _ATOM
    raise _refusal(plan, "blocks cannot stay, as results have no place beside the next tiles")


def _refusal(plan: Plan, reason: str) -> UnsupportedError:
    where = plan.kernel.location
    return UnsupportedError(plan.kernel.name, reason=f"warpgroups: {reason}", location=where)


def packed_boxes(plan: Plan, staged: Staged) -> int:
    """How many boxes make up the lines of a panel: rows come from every packed position."""
    if plan.packed is None or staged.lines != plan.row:
        return 1
    return plan.sizes[plan.packed]


def _tile(plan: Plan, schedule: TileSchedule, staged: Staged, offset: int) -> PanelTile:
    lines, width = (
        tile_extent(plan, schedule, label, staged.streamed)
        for label in (staged.lines, staged.inner)
    )
    size = DTYPES[plan.signature.args[staged.argument].dtype]
    stage = 0 if staged.streamed is None else lines * width * size
    return PanelTile(offset, lines, width, size, stage)


def _results(plan: Plan, schedule: TileSchedule) -> Mapping[int, SharedTile]:
    """The results that have rows and columns, by number; those that boxes suit are panels."""
    found = {}
    for number, wire in enumerate(plan.signature.results):
        columns = [label for label in wire.labels if label not in (*plan.grid, *plan.rows)]
        if wire.dtype in ("f16", "bf16", "f32") and plan.row in wire.labels and len(columns) == 1:
            (column,) = columns
            kind = PanelTile if _suits_boxes(plan, schedule, wire, column) else SharedTile
            width = tile_extent(plan, schedule, column, None)
            found[number] = kind(0, schedule.rows, width, DTYPES[wire.dtype])
    return found


def _suits_boxes(plan: Plan, schedule: TileSchedule, wire: Wire, column: str) -> bool:
    """Whether columns are neighbours in memory and fill panels."""
    inner = wire.unit_stride and wire.labels[-1] == column
    fills = plan.extent(column, schedule) * DTYPES[wire.dtype] % PITCHES[-1] == 0
    return inner and fills and len(wire.labels) <= MAX_DIMENSIONS
