"""The time of a kernel: T = launch + max over levels and pipes of what each has to do.

Bytes alone decide neither a tile nor a rewrite (theory: "The cost model"); the largest of the times
that the resources take is a lower bound that none of them can hide.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from diagc.cost.accesses import Accesses
from diagc.cost.device import TENSOR_DTYPES, Device, Level
from diagc.cost.occupancy import Occupancy, occupancy_of
from diagc.cost.ops import Sizes
from diagc.cost.registers import slowdown
from diagc.cost.transfers import Decoration, LevelUse, level_uses
from diagc.cost.work import KernelWork, Work
from diagc.mlir import ir

__all__ = ["Estimate", "Estimator", "estimate", "pipe_seconds"]

LATENCY, TURNS = "latency", "turns"
"""Resources of a GPU besides pipes and levels: waits for memory that nothing hides, warps that are
too few to keep several pipes busy at a time."""


@dataclass(frozen=True)
class Estimate:
    """What a kernel needs of a device.

    Args:
        device: its name.
        launch: seconds, with what joins the parts of a stream.
        resources: seconds by pipe ("fma", "tensor", "special") and level ("memory", ...), and of
            a GPU by `LATENCY` and `TURNS`.
        levels: H and M.
        work: what is computed.
    """

    device: str
    launch: float
    resources: Mapping[str, float]
    levels: tuple[LevelUse, ...]
    work: Work

    @property
    def seconds(self) -> float:
        """T, at least."""
        return self.launch + max(self.resources.values(), default=0.0)

    @property
    def likely(self) -> float:
        """What schedules are ranked by: resources that are busy all the time disturb each other.

        Pipes and levels add up by their fourth powers: two that are equally busy take 1.2 times as
        long as one, one that is half as busy as another adds 1.5 %.
        """
        shared = (t for name, t in self.resources.items() if name not in (LATENCY, TURNS))
        waits = max(self.resources.get(LATENCY, 0.0), self.resources.get(TURNS, 0.0))
        return self.launch + max(waits, sum(t**4 for t in shared) ** 0.25)

    @property
    def bound(self) -> str:
        """The resource that takes longest; "launch" where starting takes longer than all."""
        busiest = max(self.resources, key=self.resources.__getitem__, default="launch")
        return busiest if self.resources.get(busiest, 0.0) >= self.launch else "launch"

    @property
    def intensity(self) -> float:
        """FLOPs per byte of main memory; exponentials count as one."""
        flops = self.work.flops + sum(self.work.specials.values())
        return flops / max(self.levels[-1].traffic.total, 1)


def estimate(
    kernel: ir.Operation, decoration: Decoration, device: Device, sizes: Sizes | None = None
) -> Estimate:
    """What one call of a kernel needs.

    Args:
        kernel: the function.
        decoration: how it is cut.
        device: what it runs on.
        sizes: of open axes, by label; `UNKNOWN_SIZE` for others.
    """
    return Estimator(kernel, device, sizes).estimate(decoration)


class Estimator:
    """Estimates of one kernel under many decorations; what they share is worked out once.

    Args:
        kernel: the function.
        device: what it runs on.
        sizes: of open axes, by label.
    """

    def __init__(self, kernel: ir.Operation, device: Device, sizes: Sizes | None = None) -> None:
        """Look at nothing yet."""
        self._device = device
        self._accesses = Accesses(kernel, sizes or {})
        self._whole = KernelWork(self._accesses)
        self._works: dict[object, Work] = {}
        self._levels: dict[object, tuple[LevelUse, ...]] = {}

    def estimate(self, decoration: Decoration) -> Estimate:
        """What one call needs when it is cut so."""
        work, levels = self._work(decoration), self._level_uses(decoration)
        return _estimate(self._accesses, work, levels, decoration, self._device)

    def _work(self, cut: Decoration) -> Work:
        key = _items(cut.groups), _items(cut.chunks)
        if key not in self._works:
            self._works[key] = self._whole.under(cut.groups, cut.chunks)
        return self._works[key]

    def _level_uses(self, cut: Decoration) -> tuple[LevelUse, ...]:
        sizes = _items(cut.groups), _items(cut.chunks), _items(cut.in_registers)
        key = sizes, cut.concurrent, cut.parts
        if key not in self._levels:
            self._levels[key] = level_uses(self._accesses, cut, self._device)
        return self._levels[key]


def _items(sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sizes.items())


def _estimate(
    accesses: Accesses,
    work: Work,
    levels: tuple[LevelUse, ...],
    decoration: Decoration,
    device: Device,
) -> Estimate:
    fill = occupancy_of(accesses, decoration, device)
    idle = fill.idle if decoration.groups else 1.0  # nothing is said of tasks
    factor = idle * _padding(accesses, decoration)
    pipes = {k: time * factor for k, time in pipe_seconds(work, decoration, device).items()}
    seconds = dict(pipes)
    known = 0 if decoration.in_registers else 1
    for use, level in zip(levels[known:], device.levels[known:], strict=True):
        seconds[level.name] = use.traffic.total / level.bandwidth
        if _is_by_unit(level, device):
            seconds[level.name] *= idle
    steps = accesses.steps(decoration.groups, decoration.chunks) / decoration.parts
    waits = fill.waits(steps, decoration.ahead, device.levels[-1].latency)
    turns = fill.turns(pipes, decoration.warps)
    seconds |= {name: time for name, time in ((LATENCY, waits), (TURNS, turns)) if time}
    launch = device.launch_seconds + _join_seconds(fill, decoration, device)
    return Estimate(device.name, launch, seconds, levels, work)


def _is_by_unit(level: Level, device: Device) -> bool:
    """Whether a unit gets no more of a level's bandwidth than its share, however idle others are.

    What multiprocessors read of a level behind them comes through ports of their own.
    """
    return level.shared_by == "unit" or (device.kind == "gpu" and level is not device.levels[-1])


def _join_seconds(fill: Occupancy, decoration: Decoration, device: Device) -> float:
    """What parts of a stream leave is written by all units, perhaps added by all, joined by few.

    States were just written, so that they come from the level in front of main memory. A task that
    joins them reads one part after the other.
    """
    parts, level = decoration.parts, device.levels[-2]
    if parts == 1 or not decoration.states:
        return 0.0
    tasks = Occupancy(fill.tasks // parts, fill.units, fill.concurrent, fill.counted)
    part = tasks.tasks * decoration.states / level.bandwidth
    left = 1 if decoration.summed else parts
    joined = max(left * part * tasks.idle, tasks.rounds * left * level.latency)
    added = device.launch_seconds + (parts + 1) * part if decoration.summed else 0.0
    return parts * part * fill.idle + added + device.launch_seconds + joined


def pipe_seconds(work: Work, decoration: Decoration, device: Device) -> dict[str, float]:
    """Seconds by pipe, with all units busy.

    A CPU's vector units do everything one after the other, so that there all is one pipe.
    """
    seconds = dict.fromkeys(("tensor", "fma", "special"), 0.0)
    factor = slowdown(decoration.tile_vectors, device) if decoration.tile_vectors else 1.0
    for dtype, flops in work.products.items():
        tensor = _tensor_rate(dtype, decoration, device)
        if tensor is not None and decoration.tensor and dtype != "f64":
            seconds["tensor"] += flops / tensor
        else:
            seconds["fma"] += flops / device.peak(dtype) * factor
    for dtype, count in work.additions.items():
        seconds["fma"] += 2 * count / device.peak(dtype)
    for dtype, count in work.specials.items():
        seconds["special"] += count / (device.rate("special", dtype) or device.peak(dtype))
    if device.kind == "cpu":
        return {"fma": sum(seconds.values())}
    return {pipe: time for pipe, time in seconds.items() if time}


def _tensor_rate(dtype: str, decoration: Decoration, device: Device) -> float | None:
    """FLOP/s of tensor cores; None where there are none."""
    name = TENSOR_DTYPES.get(dtype, dtype)
    if decoration.warpgroups:
        return device.rate("tensor", dtype) or device.rate("tensor", name)
    return device.rate("mma", name) or device.rate("tensor", name)


def _padding(accesses: Accesses, decoration: Decoration) -> float:
    """How much more is computed than there is, at the ends of grouped and streamed axes."""
    found = 1.0
    for axis, step in decoration.padded.items():
        size = accesses.extents.get(axis, 0)
        if size and decoration.counted:
            found *= ceil(size / step) * step / size
        elif size:
            found *= 1 + step / (2 * size)  # of a size that is only assumed, what is usual
    return found
