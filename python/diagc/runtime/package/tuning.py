"""Times the variants of a package, in turns, on tensors of one call."""

from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter

import torch

from diagc.debug import logger
from diagc.errors import DiagcError
from diagc.runtime.program import Program

__all__ = ["device_of", "is_capturing", "measure_variants"]

_TURNS = 5
_LEAST_SECONDS = 2e-3
"""So long one reading takes at least, unless it has so many calls: waiting costs microseconds."""
_MOST_CALLS = 50


def measure_variants(
    programs: Mapping[str, Program], tensors: Sequence[torch.Tensor]
) -> dict[str, float]:
    """Seconds of a call of each program, medians of turns; one that fails is left out.

    Args:
        programs: by name; they take the same tensors and write into none.
        tensors: inputs of the programs.
    """
    calls = {}
    for name, program in programs.items():
        try:
            once = _seconds(program, tensors, 1)  # loads code and lays the program out
            once = _seconds(program, tensors, 1)
        except (DiagcError, RuntimeError) as error:  # too little memory, for one
            logger("tuned").warning("variant %r does not run: %s", name, str(error))
            continue
        calls[name] = min(max(1, round(_LEAST_SECONDS / max(once, 1e-7))), _MOST_CALLS)
    readings: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_TURNS):  # in turns, so that a slow spell of the machine hits all alike
        for name, count in calls.items():
            readings[name].append(_seconds(programs[name], tensors, count))
    return {name: median(times) for name, times in readings.items()}


def device_of(program: Program, tensors: Sequence[torch.Tensor]) -> torch.device:
    """Where a call runs: on the device of its tensors, if it has any."""
    return tensors[0].device if tensors else torch.device(program.device)


def is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured, on a device or the current one: nothing can be timed.

    Waiting is an error while this thread captures, on whatever device.
    """
    if device.type != "cuda":
        return False
    if torch.cuda.is_current_stream_capturing():
        return True
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def _seconds(program: Program, tensors: Sequence[torch.Tensor], count: int) -> float:
    """Of one of some calls, which are waited for together."""
    device = device_of(program, tensors)
    _wait(device)
    start = perf_counter()
    for _ in range(count):
        program(tensors)
    _wait(device)
    return (perf_counter() - start) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # by default of the current one, where nothing runs
