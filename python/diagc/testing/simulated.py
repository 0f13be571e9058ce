"""Programs for GPUs that run on the CPU, where a finding of the simulator is a failed test."""

from collections.abc import Sequence

from diagc.runtime.program import Program
from diagc.simulator import SimulatorOptions
from diagc.simulator.kernel import SimulatedKernel, SimulatedPlan
from diagc.simulator.program import simulated_program

__all__ = ["CheckedKernel", "simulated"]


class CheckedKernel(SimulatedKernel):
    """A simulated kernel that must be clean; `reports` has one entry for each call."""

    def launch(self, plan: SimulatedPlan, pointers: Sequence[int]) -> None:
        """Simulate every launch.

        Raises:
            AssertionError: the simulator has findings.
        """
        before = len(self.reports)
        super().launch(plan, pointers)
        for report in self.reports[before:]:
            assert report.clean, str(report)


def simulated(program: Program, options: SimulatorOptions | None = None) -> Program:
    """A program on the CPU whose GPU kernels are simulated, and checked.

    Args:
        program: compiled for the target nvptx.
        options: of the simulator.
    """
    return simulated_program(program, options, CheckedKernel)
