"""How tasks fill the units of a device: units that are idle, waits and turns that nothing hides."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

from diagc.cost.accesses import Accesses
from diagc.cost.device import Device
from diagc.cost.transfers import Decoration

__all__ = ["Occupancy", "occupancy_of"]

SCHEDULERS = 4
"""Of a multiprocessor; each issues for one warp at a time (CUDA C++ Programming Guide, Compute
Capabilities 8.0 to 9.0)."""


@dataclass(frozen=True)
class Occupancy:
    """Tasks on units.

    Args:
        tasks: of one call, those of parts of a stream among them.
        units: of the device.
        concurrent: tasks that fit on one unit at a time.
        counted: whether the number of tasks is known; otherwise it is about so many.
    """

    tasks: int
    units: int
    concurrent: int = 1
    counted: bool = True

    @property
    def idle(self) -> float:
        """Time of the unit with most tasks, over the time that all would take if evenly loaded.

        Where tasks cannot be counted, that of a last round which is half full.
        """
        if not self.counted:
            return 1.0 + self.units / (2 * max(self.tasks, 1))
        return ceil(self.tasks / self.units) * self.units / max(self.tasks, 1)

    @property
    def rounds(self) -> float:
        """Tasks that a place on a unit works through one after the other."""
        rounds = self.tasks / (self.units * self.concurrent)
        return float(ceil(rounds)) if self.counted else rounds + 0.5

    @property
    def together(self) -> int:
        """Tasks that share the busiest unit at a time."""
        if not self.counted:
            return self.concurrent
        return min(self.concurrent, max(1, ceil(self.tasks / self.units)))

    def waits(self, steps: float, ahead: int, latency: float) -> float:
        """Seconds that a task at a time waits for what it loads (Little's law).

        The first load of a task hides behind nothing of its own, of later ones `ahead` are on
        their way at a time.

        Args:
            steps: chunks of one task.
            ahead: chunks on their way.
            latency: seconds of one load.
        """
        return self.rounds * latency * (1 + steps / ahead) if ahead else 0.0

    def turns(self, pipes: Mapping[str, float], warps: int) -> float:
        """Seconds that warps need which do one thing after the other.

        A warp waits for each of its results, so that pipes overlap only between warps: with n of
        them on every scheduler all pipes' times together are divided by n.

        Args:
            pipes: seconds by pipe, with all units busy.
            warps: of one task.
        """
        return sum(pipes.values()) * SCHEDULERS / (self.together * warps) if warps else 0.0


def occupancy_of(accesses: Accesses, decoration: Decoration, device: Device) -> Occupancy:
    """The tasks of a kernel that is cut so; nothing is known of those of one that is not cut."""
    extents = accesses.extents
    groups = decoration.groups.items()
    tasks = decoration.parts * prod(
        ceil(extents[axis] / step) for axis, step in groups if axis in extents
    )
    return Occupancy(tasks, device.units, decoration.concurrent, decoration.counted)
