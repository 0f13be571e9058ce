"""The time of a kernel: T = launch + max over levels and pipes of what each has to do.

Bytes alone decide neither a tile nor a rewrite (theory: "The cost model"); the largest of the times
that the resources take is a lower bound that none of them can hide.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

from diagc.cost.accesses import Accesses
from diagc.cost.device import Device
from diagc.cost.ops import Sizes
from diagc.cost.registers import slowdown
from diagc.cost.transfers import Decoration, LevelUse, level_uses
from diagc.cost.work import KernelWork, Work
from diagc.mlir import ir

__all__ = ["Estimate", "Estimator", "estimate", "pipe_seconds"]

_TENSOR_DTYPES = {"f32": "tf32"}
"""What tensor cores take for a dtype."""


@dataclass(frozen=True)
class Estimate:
    """What a kernel needs of a device.

    Args:
        device: its name.
        launch: seconds.
        resources: seconds by pipe ("fma", "tensor", "special") and level ("memory", ...).
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
        self._work = KernelWork(self._accesses)

    def estimate(self, decoration: Decoration) -> Estimate:
        """What one call needs when it is cut so."""
        return _estimate(self._accesses, self._work, decoration, self._device)


def _estimate(
    accesses: Accesses, whole: KernelWork, decoration: Decoration, device: Device
) -> Estimate:
    work = whole.under(decoration.groups, decoration.chunks)
    levels = level_uses(accesses, decoration, device)
    idle = _idle(accesses.extents, decoration, device)
    padding = _padding(accesses.extents, decoration)
    seconds = {
        pipe: time * idle * padding for pipe, time in pipe_seconds(work, decoration, device).items()
    }
    known = 0 if decoration.in_registers else 1
    for use, level in zip(levels[known:], device.levels[known:], strict=True):
        factor = idle if level.shared_by == "unit" else 1.0
        seconds[level.name] = use.traffic.total / level.bandwidth * factor
    return Estimate(device.name, device.launch_seconds, seconds, levels, work)


def pipe_seconds(work: Work, decoration: Decoration, device: Device) -> dict[str, float]:
    """Seconds by pipe, with all units busy.

    A CPU's vector units do everything one after the other, so that there all is one pipe.
    """
    seconds = dict.fromkeys(("tensor", "fma", "special"), 0.0)
    factor = slowdown(decoration.tile_vectors, device) if decoration.tile_vectors else 1.0
    for dtype, flops in work.products.items():
        tensor = device.rate("tensor", _TENSOR_DTYPES.get(dtype, dtype))
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


def _idle(extents: Mapping[str, int], decoration: Decoration, device: Device) -> float:
    """How much longer it takes because the last round of tasks does not fill all units."""
    if not decoration.groups:
        return 1.0  # nothing is said of tasks
    groups = decoration.groups.items()
    tasks = decoration.parts * prod(
        ceil(extents[axis] / step) for axis, step in groups if axis in extents
    )
    slots = device.units * decoration.concurrent
    return ceil(tasks / slots) * slots / max(tasks, 1)


def _padding(extents: Mapping[str, int], decoration: Decoration) -> float:
    """How much more is computed than there is, at the ends of grouped axes."""
    found = 1.0
    for axis in decoration.padded:
        size, step = extents.get(axis, 0), decoration.groups[axis]
        if size:
            found *= ceil(size / step) * step / size
    return found
