"""Time that each kernel of a program takes, measured inside of runs of the whole program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from diagc.runtime.launch_plan import ArrayInfo
from diagc.runtime.planned_kernel import PlannedKernel

if TYPE_CHECKING:
    from diagc.runtime.program import Program

__all__ = ["KernelTime", "time_kernels"]

_MIN_ROUNDS = 9
_MAX_ROUNDS = 100
_TIME_BUDGET_SECONDS = 1.0


@dataclass(frozen=True)
class KernelTime:
    """Medians over runs of the program.

    Args:
        seconds: of all launches of the kernel in a run, each waited for.
        share: of the time of the same run, 0 to 1.
        launches: in a run.
        sizes: of the axes of its signature at the first launch.
    """

    seconds: float
    share: float
    launches: int
    sizes: Mapping[str, int]


class _TimedKernel(PlannedKernel[Any]):
    """A kernel that adds up the time of its launches."""

    def __init__(self, kernel: PlannedKernel[Any], device: str) -> None:
        super().__init__(kernel.signature)
        self.kernel = kernel
        self.seconds = 0.0
        self.launches = 0
        self.sizes: Mapping[str, int] = {}
        self._device = device

    def make_plan(self, args: Sequence[ArrayInfo], outs: Sequence[ArrayInfo] = ()) -> Any:
        """As the kernel does."""
        plan = self.kernel.make_plan(args, outs)
        self.sizes = self.sizes or plan.sizes
        return plan

    def launch(self, plan: Any, pointers: Sequence[int]) -> None:
        """Launch, and wait for it."""
        _wait(self._device)  # for what is on the stream before
        start = perf_counter()
        self.kernel.launch(plan, pointers)
        _wait(self._device)
        self.seconds += perf_counter() - start
        self.launches += 1


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def time_kernels(
    program: "Program",
    inputs: Sequence[torch.Tensor],
    *,
    least: int = _MIN_ROUNDS,
    budget: float = _TIME_BUDGET_SECONDS,
) -> list[KernelTime | None]:
    """Time every kernel of a program; None for one that is interpreted.

    Args:
        program: compiled.
        inputs: of the program.
        least: runs that are timed in any case.
        budget: seconds after which no further run is begun.
    """
    from diagc.runtime.program import Program

    kernels = [
        _TimedKernel(kernel, program.device) if isinstance(kernel, PlannedKernel) else kernel
        for kernel in program.kernels
    ]
    observed = Program(
        *(program.inputs, program.steps, program.outputs, kernels, program.externs),
        *(program.float64, program.device),
    )
    timed = [kernel for kernel in kernels if isinstance(kernel, _TimedKernel)]
    observed(inputs)  # lays the program out
    rounds = _rounds(observed, inputs, timed, least, budget)
    return [
        _medians(rounds, timed.index(kernel), kernel) if isinstance(kernel, _TimedKernel) else None
        for kernel in kernels
    ]


def _rounds(
    program: "Program",
    inputs: Sequence[torch.Tensor],
    kernels: Sequence[_TimedKernel],
    least: int,
    budget: float,
) -> list[tuple[float, list[float]]]:
    """Seconds of the program and of each kernel, run by run."""
    found: list[tuple[float, list[float]]] = []
    begun = perf_counter()
    while len(found) < _MAX_ROUNDS:
        for kernel in kernels:
            kernel.seconds, kernel.launches = 0.0, 0
        start = perf_counter()
        program(inputs)
        _wait(program.device)
        found.append((perf_counter() - start, [kernel.seconds for kernel in kernels]))
        if len(found) >= least and perf_counter() - begun > budget:
            break
    return found


def _medians(
    rounds: Sequence[tuple[float, list[float]]], number: int, kernel: _TimedKernel
) -> KernelTime:
    seconds = [parts[number] for _, parts in rounds]
    share = median(parts[number] / whole for whole, parts in rounds)
    return KernelTime(median(seconds), share, max(kernel.launches, 1), kernel.sizes)
