"""Times of contenders that take turns, on rotating inputs; ceilings of the machine."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch

from gpu.variants import Variant

__all__ = ["OURS", "Ceilings", "Times", "ceilings", "input_sets", "measure"]

Call = Callable[..., Any]
Sets = Sequence[tuple[torch.Tensor, ...]]

OURS = "diagc"
_BATCH_SECONDS = 2e-3  # one reading covers so much work, or more
_MOST_CALLS, _MOST_ROUNDS, _LEAST_ROUNDS = 64, 40, 5
_L2_BYTES = 64 << 20  # where torch does not say
_MOST_SETS = 8


@dataclass(frozen=True)
class Ceilings:
    """What the machine reached in this run: bytes read and written, operations a second."""

    copy_bytes_per_second: float
    bf16_operations_per_second: float
    f32_operations_per_second: float


@dataclass(frozen=True)
class Times:
    """Medians, and by peer the median and quartiles of t(peer) / t(ours) over rounds.

    `absent` says why a peer does not take part.
    """

    milliseconds: dict[str, float]
    ratios: dict[str, tuple[float, float, float]]
    absent: dict[str, str]
    rounds: int


def input_sets(variant: Variant, device: str, small: bool) -> Sets:
    """So many sets of inputs that a round through them leaves nothing in the cache."""
    first = variant.inputs(100, device, small)
    size = sum(t.numel() * t.element_size() for t in first)
    count = min(max(2, math.ceil(2 * _cache_bytes(device) / size)), _MOST_SETS)
    return [first, *(variant.inputs(100 + i, device, small) for i in range(1, count))]


def measure(calls: Mapping[str, Call], sets: Sets, device: str, seconds: float) -> Times:
    """Let contenders take turns until the time is spent; `calls` holds ours under `OURS`.

    Every round has an order of its own: what ran before leaves its data in the cache and its heat.
    """
    batches, absent = {}, {}
    for name, call in calls.items():
        try:
            batches[name] = _batch(call, sets, device)
        except Exception as error:  # a back end that refuses, a missing compiler
            if name == OURS:
                raise
            absent[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    readings: dict[str, list[float]] = {name: [] for name in batches}
    order, names = Random(0), list(batches)
    start, rounds = perf_counter(), 0
    while rounds < _MOST_ROUNDS and (rounds < _LEAST_ROUNDS or perf_counter() - start < seconds):
        for name in order.sample(names, len(names)):
            readings[name].append(_seconds(calls[name], sets, batches[name], device))
        rounds += 1
    return Times(
        {name: median(times) * 1e3 for name, times in readings.items()},
        {name: _ratio(readings[name], readings[OURS]) for name in batches if name != OURS},
        absent,
        rounds,
    )


def ceilings(device: str, small: bool) -> Ceilings:
    """Measure a large copy and large matrix products of torch, on random data."""
    count, side = (1 << 22, 256) if small else (1 << 30, 8192)
    source = torch.randn(count // 2, device=device).to(torch.bfloat16).repeat(2)
    copy = _best(partial(torch.empty_like(source).copy_, source), device)
    rates = []
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        rates.append(2 * side**3 / _best(partial(torch.mm, a, b), device))
    return Ceilings(2 * source.numel() * source.element_size() / copy, *rates)


def _best(call: Call, device: str) -> float:
    sets: Sets = [()]
    batch = _batch(call, sets, device)
    return min(_seconds(call, sets, batch, device) for _ in range(5))


def _batch(call: Call, sets: Sets, device: str) -> int:
    """Warm up, and find how many calls make a reading."""
    for inputs in sets[:2]:
        call(*inputs)
    once = _seconds(call, sets, 1, device)
    return min(max(1, math.ceil(_BATCH_SECONDS / max(once, 1e-7))), _MOST_CALLS)


def _seconds(call: Call, sets: Sets, count: int, device: str) -> float:
    """Seconds of a call: by events of the GPU, or by the clock."""
    if device == "cpu":
        start = perf_counter()
        for i in range(count):
            call(*sets[i % len(sets)])
        return (perf_counter() - start) / count
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    for i in range(count):
        call(*sets[i % len(sets)])
    after.record()
    after.synchronize()
    return float(before.elapsed_time(after)) * 1e-3 / count


def _cache_bytes(device: str) -> int:
    if device == "cpu":
        return 0
    return int(getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0)) or _L2_BYTES


def _ratio(peer: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    rounds = [p / o for p, o in zip(peer, ours, strict=True)]
    low, _, high = quantiles(rounds, n=4)
    return median(rounds), low, high
