"""Which tile sizes a kernel gets: enumerated here, ranked by the cost model, noted on the kernel.

`select-schedule` asks with the sizes that a program has, and the kernel carries the answer as
`diag.tiles`; a kernel without that attribute is ranked for a usual device and usual sizes when it
is lowered. Kernels of other sizes share code: they have the usual order, unless another schedule is
estimated to gain something.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from diagc.cost import UNKNOWN_BATCH, Device, Estimate, device_of_architecture
from diagc.debug import logger
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.options import current
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import GpuArch, parse_arch
from diagc.targets.nvptx.tiles.packing import packed_positions
from diagc.targets.nvptx.tiles.parts import splittable
from diagc.targets.nvptx.tiles.plan import Plan, make_plan
from diagc.targets.nvptx.tiles.ranking import RankedTile, open_labels, rank_tiles
from diagc.targets.nvptx.tiles.schedule import TileSchedule, candidates
from diagc.targets.nvptx.warpgroups.schedule import warpgroup_schedules

__all__ = [
    "TILES",
    "choose_tiles",
    "compared_tiles",
    "tile_schedules",
    "tiles_attribute",
    "tiles_beside",
]

TILES = "diag.tiles"
"""Attribute of a kernel: its tile sizes, the best first."""

GAIN = 0.95
"""Schedules are chosen for the sizes of a program where they need less than this of the time of
what is usual: otherwise programs of different sizes share a kernel."""

_MOST_TRIED = 6
"""Schedules of a kernel that are compiled at most, until one does not spill."""

_ALL_REGISTERS, _MOST_REGISTERS = 65536, 255
"""Of a multiprocessor, and of a thread at most."""

_FIELDS = (
    *("row_blocks", "warps", "chunk", "stages", "blocks_per_sm", "split"),
    *("producers", "packed", "stays", "turns", "columns", "depth", "few"),
)
_FLAGS = ("stays", "turns", "few")

FEW_ROWS = 4
"""Rows for which a form for few of them is chosen where their number is open."""

_MOST_FEW_ROWS = 128
"""Rows of a block of that form."""

_SCHEDULERS = 4
"""Of a multiprocessor: each has a warp there."""

_MOST_BESIDE = 2
"""Schedules of such forms that are tried, until one does not spill."""


def choose_tiles(
    kernel: ir.Operation, sizes: Mapping[str, int], device: Device
) -> tuple[Sequence[TileSchedule], Sequence[tuple[str, Estimate]]]:
    """Tile sizes for a kernel in the order in which they are tried, and how they were ranked.

    Args:
        kernel: with the axes open that generalize-kernels opens.
        sizes: of these axes, as far as they are known.
        device: a GPU.

    Returns:
        Nothing where the kernel does not suit tiles.
    """
    asked = _fitting(kernel, device)
    if asked is None:
        return (), ()
    plan, found = asked
    usual = rank_tiles(plan, found, device)
    ranked = rank_tiles(plan, found, device, sizes) if sizes else usual
    beside = _beside(plan, found, device, sizes)
    if beside:
        usual, ranked = _alone(usual), _alone(ranked)
    chosen = _choice(usual, ranked)
    others = [each for each in ranked if each.schedule != chosen.schedule]
    order = [*_to_try([chosen, *usual]), *(each.schedule for each in beside)]
    return order, [(words(each.schedule), each.estimate) for each in (chosen, *others)]


def _alone(ranked: Iterable[RankedTile]) -> list[RankedTile]:
    return [each for each in ranked if not each.schedule.split]


def _beside(
    plan: Plan, found: Sequence[TileSchedule], device: Device, sizes: Mapping[str, int]
) -> list[RankedTile]:
    """What stands beside schedules whose blocks do not share the stream, for few blocks.

    That is where a size is open, so that whether they are few is known at a launch only. Open sizes
    are taken to be small, but for that of the stream.
    """
    missing = [label for label in open_labels(plan) if label not in sizes]
    if splittable(plan) is None or not missing:
        return []
    tiles = [t for t in found if not t.producers and t.warps * t.blocks_per_sm >= _SCHEDULERS]
    if plan.row in missing:
        short = (tile for tile in tiles if tile.rows <= _MOST_FEW_ROWS)
        tiles = [replace(tile, packed=packed_positions(plan, tile.rows)) for tile in short]
    grid = [label for label in missing if label in plan.grid]
    few = {**dict.fromkeys(grid, 1), **dict.fromkeys(grid[-1:], UNKNOWN_BATCH), plan.row: FEW_ROWS}
    sizes = {**sizes, **{label: few[label] for label in missing if label in few}}
    shared = (
        [x for x in rank_tiles(plan, tiles, device, sizes) if x.schedule.split] if tiles else []
    )
    first = _first_of_each_kind(each.schedule for each in shared)[:_MOST_BESIDE]
    times = {each.schedule: each for each in shared}
    return [replace(times[tile], schedule=replace(tile, few=True)) for tile in first]


def compared_tiles(
    kernel: ir.Operation, sizes: Mapping[str, int], device: Device
) -> Sequence[TileSchedule]:
    """All tile sizes that a kernel may have, the fastest by estimate first; arguments as above."""
    asked = _fitting(kernel, device)
    if asked is None:
        return ()
    return [ranked.schedule for ranked in rank_tiles(*asked, device, sizes)]


def tiles_beside(
    kernel: ir.Operation, sizes: Mapping[str, int], device: Device
) -> Sequence[TileSchedule]:
    """What stands beside any of them, for calls with few blocks; arguments as above."""
    asked = _fitting(kernel, device)
    return () if asked is None else [each.schedule for each in _beside(*asked, device, sizes)]


def _fitting(kernel: ir.Operation, device: Device) -> tuple[Plan, list[TileSchedule]] | None:
    """The plan of a kernel and its candidates; None where it does not suit tiles."""
    name, _, arch = current().target.partition(":")
    try:
        plan = make_plan(kernel, kernel_signature(kernel))
        return plan, _candidates(plan, parse_arch(arch if name == "nvptx" else device.architecture))
    except UnsupportedError as error:
        logger("nvptx").info("no tiles: %s", error.message)
        return None


def _candidates(plan: Plan, arch: GpuArch, *, tf32: bool = False) -> list[TileSchedule]:
    """On warpgroups, where these suit, and on tiles.

    Raises:
        UnsupportedError: tiles do not suit.
    """
    tiles = list(candidates(plan, arch, tf32=tf32))
    try:
        return [*warpgroup_schedules(plan, arch), *tiles]
    except UnsupportedError as error:
        logger("nvptx").info("no warpgroups: %s", error.message)
        return tiles


def _choice(usual: Sequence[RankedTile], ranked: Sequence[RankedTile]) -> RankedTile:
    """The fastest one, or what is usual where that is about as fast.

    Of that, the form whose blocks stay and take turns, or not, as is better for the sizes.
    """
    times = {each.schedule: each for each in ranked}
    shared = times.get(usual[0].schedule, ranked[0])
    if ranked[0].estimate.likely < GAIN * shared.estimate.likely:
        return ranked[0]
    shape = _shape(shared.schedule)
    return next(each for each in ranked if _shape(each.schedule) == shape)


def _shape(schedule: TileSchedule) -> TileSchedule:
    return replace(schedule, stays=False, turns=False)


def _to_try(ranked: Iterable[RankedTile]) -> list[TileSchedule]:
    """The first of each size of what is in registers: what spills once, spills with more stages.

    Where the first is on warpgroups, the first on tiles is among them. Last comes what needs the
    fewest registers, if it is not among those that are tried before.
    """
    found = _first_of_each_kind(each.schedule for each in ranked)
    kinds = ([t for t in found if bool(t.producers) == bulk] for bulk in (True, False))
    bulk, tiles = (kind[:_MOST_TRIED] for kind in kinds)
    plain = [tile for tile in found if not tile.producers]
    if len(plain) > len(tiles):
        least = min(plain, key=_least_registers)
        tiles += [least] if least not in tiles else []
    return [*bulk, *tiles] if found[0].producers else tiles


def _least_registers(tile: TileSchedule) -> tuple[int, int, int]:
    """An order of tiles: by what is in registers, then by how many a thread may have."""
    return tile.row_blocks * max(tile.columns, 1), tile.chunk, -_allowed(tile)


def _allowed(tile: TileSchedule) -> int:
    """Registers of a thread, for as many blocks at a time as the schedule says."""
    return min(_MOST_REGISTERS, _ALL_REGISTERS // (tile.threads * tile.blocks_per_sm))


def _first_of_each_kind(schedules: Iterable[TileSchedule]) -> list[TileSchedule]:
    found: dict[tuple[int, ...], TileSchedule] = {}
    for tile in schedules:
        groups = tile.warps if tile.producers else 0  # which share out the registers
        sums = tile.row_blocks, tile.chunk, tile.columns
        kind = (*sums, tile.producers, groups, tile.stays, tile.turns, _allowed(tile))
        found.setdefault(kind, tile)
    return list(found.values())


def words(schedule: TileSchedule) -> str:
    """A schedule for people."""
    rows = f"{schedule.rows} rows by {schedule.warps} warps"
    if schedule.producers:
        rows += f" in {schedule.warps // 4} warpgroup{'s' if schedule.warps > 4 else ''}"
    if schedule.packed > 1:
        rows += f", {schedule.packed} heads side by side"
    if schedule.columns:
        rows += f", {schedule.columns} columns"
    parts = f", sums in pieces of {schedule.depth}" if schedule.depth else ""
    parts += f", parts of {schedule.split} or more" if schedule.split else ""
    blocks = f", {schedule.blocks_per_sm} blocks at a time" if schedule.blocks_per_sm > 1 else ""
    stays = ", blocks that take several tiles" if schedule.stays else ""
    stays += ", products in turns" if schedule.turns else ""
    return f"{rows}, chunks of {schedule.chunk}, {schedule.stages} stages{blocks}{parts}{stays}"


# ---- on the kernel -----------------------------------------------------------------------------


def tiles_attribute(schedules: Iterable[TileSchedule]) -> ir.ArrayAttr:
    """What a kernel carries; needs an ambient context."""
    i64 = ir.IntegerType.get_signless(64)
    return ir.ArrayAttr.get(
        [
            ir.DictAttr.get({x: ir.IntegerAttr.get(i64, getattr(each, x)) for x in _FIELDS})
            for each in schedules
        ]
    )


def tile_schedules(
    kernel: ir.Operation, arch: GpuArch, *, tf32: bool = False
) -> Sequence[TileSchedule]:
    """Tile sizes of a kernel in the order in which they are tried, those on warpgroups first.

    Args:
        kernel: with `diag.tiles`, or as generalize-kernels leaves it.
        arch: what it is compiled for.
        tf32: as in `TileSchedule`.

    Raises:
        UnsupportedError: the kernel does not fit into tiles; the reason says what and where.
    """
    plan = make_plan(kernel, kernel_signature(kernel))
    if TILES in kernel.attributes:
        entries = [ir.DictAttr(entry) for entry in ir.ArrayAttr(kernel.attributes[TILES])]
        fields = [
            {x: ir.IntegerAttr(each[x]).value for x in _FIELDS if x in each} for each in entries
        ]
        return [
            TileSchedule(
                **{x: bool(value) if x in _FLAGS else value for x, value in each.items()},
                tf32=tf32 and not each.get("producers"),
            )
            for each in fields
        ]
    device, found = device_of_architecture(arch.name), _candidates(plan, arch, tf32=tf32)
    usual, beside = rank_tiles(plan, found, device), _beside(plan, found, device, {})
    order = _to_try(_alone(usual) if beside else usual)
    return [*order, *(each.schedule for each in beside)]
