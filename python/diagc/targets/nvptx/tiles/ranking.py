"""The order in which the tile sizes of a kernel are tried: that of the times that are estimated.

Every schedule that fits is a candidate, and where blocks may share a stream also the same with
parts of it. Sizes that are open are assumed: a kernel with open rows is taken to fill the device,
one whose rows are few and known is judged at several numbers of blocks and lengths of the stream.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, inf, log, prod

from diagc.cost import UNKNOWN_BATCH, UNKNOWN_SIZE, Device, Estimate, Estimator
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.nvptx.tiles.decoration import tile_decoration
from diagc.targets.nvptx.tiles.packing import pack
from diagc.targets.nvptx.tiles.parts import splittable
from diagc.targets.nvptx.tiles.plan import Plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = [
    *("TURNS_FROM", "RankedTile", "open_labels", "rank_tiles"),
    *("should_take_turns", "special_share"),
]

_BATCHES = (UNKNOWN_BATCH, 8 * UNKNOWN_BATCH)
_MANY_ROWS = 4 * UNKNOWN_SIZE
_LENGTHS = (UNKNOWN_SIZE, 16 * UNKNOWN_SIZE)
"""What open axes of the grid, rows, and streamed axes of kernels with few rows are taken for."""

_ALIKE = 1.02
"""Times that differ by less than this are as good as equal."""

_LEAST_STAYING_CHUNK = 0.75
"""Of the longest chunk: what blocks that stay gain is not worth much shorter ones."""

_MOST_STAGED = 8
"""Of the best schedules with few stages, more stages are tried."""

TURNS_FROM = 0.45
"""Groups take turns to issue products where special functions take this part of the time of
products, or more: FlashAttention-3 has turns up to d = 128, where exponentials take half of it."""

_GROUP_WARPS = 4

_FEW_TILES = 4
"""So many for each block that a device has room for, and blocks stay though all are equal."""

_OPEN_PART = 256
"""Positions of a part at least, where sizes are open: states of 64 rows are a quarter of keys
and values of so many."""


@dataclass(frozen=True)
class RankedTile:
    """A schedule, and what it needs; of several sizes that are assumed, at the first."""

    schedule: TileSchedule
    estimate: Estimate


def rank_tiles(
    plan: Plan,
    schedules: Iterable[TileSchedule],
    device: Device,
    sizes: Mapping[str, int] | None = None,
) -> list[RankedTile]:
    """Schedules, also with parts of the stream, the fastest first; of equal ones the first.

    Args:
        plan: of the kernel.
        schedules: that fit.
        device: that the kernel is to run on.
        sizes: of open axes, as far as they are known.
    """
    cases = _Cases.of(plan, sizes or {})
    shapes: dict[TileSchedule, list[TileSchedule]] = {}
    for schedule in schedules:
        shapes.setdefault(_shape(schedule), []).append(schedule)
    with plan.kernel.context, ir.Location.unknown():
        judge = _Judge(plan, device, cases)
        first = [alike[0] for alike in shapes.values()]
        found = [judge.judge(each) for each in judge.with_parts(first)]
        best = [judged.ranked.schedule for judged in sorted(found)[:_MOST_STAGED]]
        for each in best:
            alike = [x for x in shapes[_shape(each)][1:] if not (x.stays and each.split)]
            found += [judge.judge(replace(other, split=each.split)) for other in alike]
    return [judged.ranked for judged in _longer_chunks_first(sorted(found), len(cases.sizes))]


def _shape(schedule: TileSchedule) -> TileSchedule:
    """What schedules of one shape have in common."""
    return replace(schedule, stages=0, blocks_per_sm=0, split=0, stays=False, turns=False)


def _longer_chunks_first(found: list["_Judged"], cases: int) -> list["_Judged"]:
    """Of schedules on warpgroups that are about as fast as the best, longer chunks come first.

    What a chunk costs besides (waits, branches, sums that are scaled again) hides in part behind
    products, in part it does not, and the end of an assumed size decides about a percent. Before
    all others come those whose blocks stay, and take turns, or do not, as they should, unless
    chunks are short.
    """
    limit = found[0].cost + cases * log(_ALIKE)
    alike = [each for each in found if each.cost <= limit]
    bulk = [each for each in alike if each.ranked.schedule.producers]
    if alike[0] not in bulk:
        return found
    longest = max((each.ranked.schedule.chunk for each in bulk), default=0)

    def order(each: _Judged) -> tuple[int, int]:
        chunk = each.ranked.schedule.chunk
        return max(each.unwanted, chunk < _LEAST_STAYING_CHUNK * longest), -chunk

    first = sorted(bulk, key=order)
    return [*first, *(each for each in found if each not in bulk)]


@dataclass(frozen=True)
class _Cases:
    """Sizes of open axes for which schedules are judged.

    Args:
        sizes: in each case.
        counted: whether blocks can be counted: by chance one size that is only assumed leaves
            multiprocessors idle or not.
        known: whether nothing is assumed.
    """

    sizes: tuple[Mapping[str, int], ...]
    counted: bool
    known: bool

    @classmethod
    def of(cls, plan: Plan, sizes: Mapping[str, int]) -> "_Cases":
        """Those of a plan, some of whose open sizes are known."""
        missing = [label for label in open_labels(plan) if label not in sizes]
        if not missing:
            return cls((sizes,), counted=True, known=True)
        if plan.row in missing:
            assumed = {x: _BATCHES[-1] if x in plan.grid else _MANY_ROWS for x in missing}
            return cls(({**sizes, **assumed},), counted=False, known=False)
        cases = [
            {**sizes, **{x: batch if x in plan.grid else length for x in missing}}
            for batch, length in product(_BATCHES, _LENGTHS)
        ]
        unique = {tuple(case.items()): case for case in cases}
        return cls(tuple(unique.values()), counted=True, known=False)


def open_labels(plan: Plan) -> list[str]:
    """The open axes of a kernel's arguments."""
    arguments = diag.function_body(plan.kernel).arguments
    dims = [pair for value in arguments for pair in diag.dims(value).items()]
    return list(dict.fromkeys(label for label, size in dims if size == diag.DYNAMIC))


def should_take_turns(schedule: TileSchedule, estimate: Estimate) -> bool:
    """Whether groups of warpgroups had better take turns, if they can."""
    several = schedule.producers > 0 and schedule.warps > _GROUP_WARPS
    return several and special_share(estimate) >= TURNS_FROM


def special_share(estimate: Estimate) -> float:
    """The time of special functions over that of products on tensor cores."""
    return estimate.resources.get("special", 0.0) / estimate.resources.get("tensor", inf)


@dataclass(frozen=True)
class _Judged:
    """A cost that orders schedules; of equal ones the first stays first."""

    cost: float
    ranked: RankedTile
    unwanted: int = 0
    """What had better be the other way round: whether blocks stay, whether groups take turns."""

    def __lt__(self, other: "_Judged") -> bool:
        return (self.cost, self.unwanted) < (other.cost, other.unwanted)


class _Judge:
    """Estimates schedules of one kernel for all cases."""

    def __init__(self, plan: Plan, device: Device, cases: _Cases) -> None:
        self.plan, self.device, self.cases = plan, device, cases
        self.estimators = [Estimator(plan.kernel, device, sizes) for sizes in cases.sizes]

    def judge(self, schedule: TileSchedule) -> _Judged:
        """The product of the times of all cases: none counts more because it takes longer."""
        estimates = [
            estimator.estimate(
                tile_decoration(
                    self.plan,
                    schedule,
                    sizes,
                    counted=self.cases.counted,
                    multiprocessors=self.device.units,
                )
            )
            for sizes, estimator in zip(self.cases.sizes, self.estimators, strict=True)
        ]
        cost = sum(log(estimate.likely) for estimate in estimates)
        wanted = self._should_stay(schedule), should_take_turns(schedule, estimates[0])
        unwanted = (schedule.stays != wanted[0]) + (schedule.turns != wanted[1])
        return _Judged(cost, RankedTile(schedule, estimates[0]), unwanted)

    def _should_stay(self, schedule: TileSchedule) -> bool:
        """Where blocks are not equal, or few tiles come after each other on a multiprocessor.

        The first loads of a tile are then beside the stores of the one before, and tiles are shared
        out more evenly than in the order of blocks; many equal tiles gain nothing by it.
        """
        if self.plan.is_uneven or not self.cases.known:
            return self.plan.is_uneven
        places = self.device.units * schedule.blocks_per_sm
        return places < self._blocks(schedule) <= _FEW_TILES * places

    def _blocks(self, schedule: TileSchedule) -> int:
        """Tiles of rows, of all positions of the grid, where all sizes are known."""
        (sizes,) = self.cases.sizes
        known = {**self.plan.sizes, **sizes}
        rows = ceil(known[self.plan.row] / schedule.row_extent)
        return rows * prod(known[label] for label in pack(self.plan, schedule).grid)

    def with_parts(self, schedules: Iterable[TileSchedule]) -> Iterator[TileSchedule]:
        """Each, and the same with parts of the stream, where its blocks may not fill the device."""
        splits = self.cases.counted and splittable(self.plan) is not None
        for schedule in schedules:
            yield schedule
            for length in self._lengths(schedule) if splits and not schedule.stays else ():
                yield replace(schedule, split=length)

    def _lengths(self, schedule: TileSchedule) -> Iterator[int]:
        """Least lengths of parts that are tried: chunks times powers of two, shared by sizes."""
        if not self.cases.known:
            yield ceil(_OPEN_PART / schedule.chunk) * schedule.chunk
            return
        (sizes,), (axis,) = self.cases.sizes, self.plan.streamed
        known = {**self.plan.sizes, **sizes}
        blocks = self._blocks(schedule)
        places = self.device.units * schedule.blocks_per_sm
        length = schedule.chunk
        while 2 * length <= known[axis] and blocks < places:
            if self.device.units <= 8 * blocks * ceil(known[axis] / length) <= 16 * places:
                yield length
            length *= 2
