"""Times of calls of a compiled program and of eager torch, measured in turns."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

from diagc.runtime.comparison import tensors_of

__all__ = ["Timing", "time_calls"]

_MIN_ROUNDS = 9
_MAX_ROUNDS = 200
_TIME_BUDGET_SECONDS = 2.0


@dataclass(frozen=True)
class Timing:
    """Median seconds of a call, measured in turns; `eager` is None where there is no peer."""

    compiled: float
    eager: float | None

    @property
    def ratio(self) -> float | None:
        """How many times faster than eager."""
        return None if self.eager is None else self.eager / self.compiled

    def text(self) -> str:
        """Give one line."""
        text = f"time {self.compiled * 1e3:.3f} ms"
        if self.eager is None:
            return text
        return f"{text}, eager {self.eager * 1e3:.3f} ms, time ratio {self.ratio:.2f}"


def time_calls(
    compiled: Callable[..., Any], eager: Callable[..., Any] | None, inputs: tuple[Any, ...]
) -> Timing:
    """Time both in turns, so that a slow spell of the machine hits both alike."""
    functions = [compiled] if eager is None else [compiled, eager]
    rounds: list[list[float]] = []
    with torch.no_grad():
        start = perf_counter()
        while len(rounds) < _MAX_ROUNDS:
            rounds.append([_seconds(function, inputs) for function in functions])
            if len(rounds) >= _MIN_ROUNDS and perf_counter() - start > _TIME_BUDGET_SECONDS:
                break
    medians = [median(times) for times in zip(*rounds, strict=True)]
    return Timing(medians[0], None if eager is None else medians[1])


def _seconds(function: Callable[..., Any], inputs: tuple[Any, ...]) -> float:
    start = perf_counter()
    results = tensors_of(function(*inputs))
    if any(result.is_cuda for result in results):
        torch.cuda.synchronize()  # calls only put their work on a stream
    return perf_counter() - start
