"""What autotuning measures of a kernel for a CPU: schedules."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from diagc.cost import Device
from diagc.mlir import ir
from diagc.passes.kernels.kernel_axes import analyze_kernel
from diagc.passes.kernels.schedule_candidates import ranked_schedules
from diagc.passes.kernels.schedules import SCHEDULE, Schedule, schedule_from

__all__ = ["ScheduleChoices", "choices"]


@dataclass(frozen=True)
class ScheduleChoices:
    """Schedules as `diagc.autotune.Choices`."""

    device: Device
    attribute: str = SCHEDULE

    def candidates(self, kernel: ir.Operation) -> Sequence[Schedule]:
        """All that the target could run, the fastest by estimate first."""
        return ranked_schedules(kernel, self.device)

    def put(self, kernel: ir.Operation, choice: Schedule) -> None:
        """Give the kernel a schedule."""
        with kernel.context:
            kernel.attributes[SCHEDULE] = choice.to_attr()

    def dump(self, choice: Schedule) -> str:
        """A schedule as JSON."""
        return json.dumps(asdict(choice))

    def load(self, kernel: ir.Operation, text: str) -> Schedule:
        """The schedule of a text.

        Raises:
            ValueError, TypeError, KeyError: it is none, or not one of this kernel.
        """
        schedule = schedule_from(json.loads(text))
        if not set(schedule.axes) <= set(dict(analyze_kernel(kernel).sizes)):
            raise ValueError(f"it names the axes {schedule.axes}")
        return schedule


def choices(device: Device) -> ScheduleChoices:
    """What may be chosen for a kernel on this device."""
    return ScheduleChoices(device)
