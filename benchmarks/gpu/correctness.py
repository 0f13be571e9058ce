"""Whether a package computes what its function means: against float64, on fresh poisoned memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from gpu.variants import Variant

__all__ = ["Check", "check", "graph_replays", "peer_error", "poisoned", "results_of"]

Tensor = torch.Tensor
Call = Callable[..., Any]

FACTOR = 2.0
"""Our error may be this many times eager's: right orders of summation differ by less."""

FLOOR = 1.0
"""Where eager is exact by luck, so many machine epsilons (`torch.finfo(dtype).eps`, two units
roundoff) of the largest value are no error: a result off by one unit in its last place."""


@dataclass(frozen=True)
class Check:
    """Largest errors over the largest value of the reference; over two sets of random inputs.

    `problem` says what is wrong, or is None.
    """

    error: float
    eager_error: float
    allowed: float
    repeatable: bool
    problem: str | None


def check(variant: Variant, ours: Call, device: str, small: bool) -> Check:
    """Run a package on two sets of random inputs, each twice.

    Few slices are compared with float64; all results are finite, and the same in both runs.
    """
    worst = [0.0, 0.0, 0.0]
    repeatable, finite, problem = True, True, None
    for seed in (1, 2):
        inputs = variant.inputs(seed, device, small)
        few = variant.few(inputs)
        reference = variant.reference(few)
        with poisoned():
            runs = [results_of(ours(*inputs)) for _ in range(2)]
        first = variant.few(runs[0], arguments=False)
        eager = results_of(variant.eager(*few))
        problem = problem or _other_form(first, eager)
        if problem is None:
            repeatable &= all(map(torch.equal, *runs))
            finite &= all(bool(t.isfinite().all()) for t in runs[0])
            found = (_error(first, reference), _error(eager, reference), _floor(eager))
            worst = [max(pair) for pair in zip(worst, found, strict=True)]
    error, eager_error, floor = worst
    allowed = max(FACTOR * eager_error, floor)
    if problem is None and not error <= allowed:
        problem = f"error {error:.2e}, allowed {allowed:.2e}"
    if problem is None and not finite:
        problem = "slices that are not compared are not finite"
    if problem is None and not repeatable:
        problem = "two runs on the same inputs differ"
    return Check(error, eager_error, allowed, repeatable, problem)


def peer_error(
    variant: Variant, peer: Call, inputs: Sequence[Tensor], reference: Sequence[Tensor]
) -> float:
    """Largest error of a peer over the largest value of the reference, where ours is compared."""
    return _error(variant.few(results_of(peer(*inputs)), arguments=False), reference)


def graph_replays(variant: Variant, ours: Call, small: bool) -> str | None:
    """Capture a package in a CUDA graph and replay it on other data; what is wrong, or None."""
    inputs, fresh = (variant.inputs(seed, "cuda", small) for seed in (3, 4))
    expected = results_of(ours(*fresh))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = results_of(ours(*inputs))
    for target, source in zip(inputs, fresh, strict=True):
        target.copy_(source)
    graph.replay()
    torch.cuda.synchronize()
    equal = all(map(torch.equal, captured, expected))
    return None if equal else "the replay of a graph differs"


def results_of(value: Any) -> list[Tensor]:
    """The tensors of a result."""
    return [value] if isinstance(value, Tensor) else list(value)


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that `torch.empty` gives is full of NaN, so that what nobody writes shows."""
    plain = torch.empty

    def empty(*args: Any, **kwargs: Any) -> Tensor:
        tensor = plain(*args, **kwargs)
        return tensor.fill_(math.nan if tensor.is_floating_point() else 1)

    torch.empty = empty
    try:
        yield
    finally:
        torch.empty = plain


def _other_form(found: Sequence[Tensor], eager: Sequence[Tensor]) -> str | None:
    ours, theirs = ([(tuple(t.shape), t.dtype) for t in part] for part in (found, eager))
    return None if ours == theirs else f"results {ours}, expected {theirs}"


def _error(found: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    return max(_largest(a, b) for a, b in zip(found, reference, strict=True))


def _largest(found: Tensor, exact: Tensor) -> float:
    difference = (found.double() - exact).abs()
    if not bool(difference.isfinite().all()):
        return math.inf
    return float(difference.max() / exact.abs().max().clamp_min(1e-300))


def _floor(results: Sequence[Tensor]) -> float:
    floats = [t.dtype for t in results if t.is_floating_point()]
    return max((FLOOR * torch.finfo(dtype).eps for dtype in floats), default=0.0)
