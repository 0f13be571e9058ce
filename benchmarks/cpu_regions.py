"""Regions that nobody listed: the same code generator, against eager torch.

Every region must compile to kernels without a fall-back, which explain() tells, and should not be
slower than eager at the sizes below: batch x heads = 8, 1024 positions, 64 features; rows of 8192.
"""

import json
import sys
from collections.abc import Callable
from functools import partial

import torch
from harness import Case, Gate, main

import diagc
from diagc.errors import UnsupportedError

HEADS, LENGTH, WIDTH, ROWS, LONG = 8, 1024, 64, 512, 8192

Tensor = torch.Tensor


def two_statistics(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scores over the sum of two norms: the stream carries two sums and the product."""
    scores = q @ k.transpose(-2, -1)
    absolute = scores.abs().sum(dim=-1, keepdim=True)
    euclidean = scores.square().sum(dim=-1, keepdim=True).sqrt()
    return (scores / (absolute + euclidean)) @ v


def three_contractions(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A gated chain: scores, values, and a second look at the keys."""
    gated = torch.relu(q @ k.transpose(-2, -1))
    mixed = (gated / (gated.sum(dim=-1, keepdim=True) + 1.0)) @ v
    return torch.sigmoid(mixed @ k.transpose(-2, -1)) @ v


def output_with_statistics(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax attention that also gives the largest score and the log of the sum."""
    scores = q @ k.transpose(-2, -1) * 0.125
    return (
        torch.softmax(scores, dim=-1) @ v,
        scores.amax(dim=-1),
        torch.logsumexp(scores, dim=-1),
    )


def no_contraction(x: Tensor) -> tuple[Tensor, Tensor]:
    """Statistics of long rows: the mean under a softmax of the same row, and the norm."""
    weights = torch.softmax(x, dim=-1)
    return (weights * x).sum(dim=-1), x.square().sum(dim=-1).sqrt()


def norm_of_difference(x: Tensor, y: Tensor) -> Tensor:
    """A cascade: centred by the mean, then scaled by the largest absolute value."""
    difference = x - y
    centred = difference - difference.mean(dim=-1, keepdim=True)
    return centred / centred.abs().amax(dim=-1, keepdim=True)


def attention_inputs() -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (torch.randn(1, HEADS, LENGTH, WIDTH) for _ in range(3))
    return q, k, v


def rows(count: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(ROWS, LONG) for _ in range(count))


def case(function: Callable[..., object], tensors: tuple[Tensor, ...]) -> Case:
    ours = diagc.compile(function, *tensors)
    report = json.loads(ours.explain("json"))
    if report["fall_back"] or not report["kernels"]:
        raise UnsupportedError(function.__name__, reason="not all of it is kernels")
    return Case(
        partial(ours, *tensors),
        {"eager": partial(function, *tensors)},
        [Gate("eager", 1.0)],
        lambda: function(*(tensor.double() for tensor in tensors)),
        None,
    )


CASES = {
    "two statistics": lambda: case(two_statistics, attention_inputs()),
    "three contractions": lambda: case(three_contractions, attention_inputs()),
    "output with statistics": lambda: case(output_with_statistics, attention_inputs()),
    "no contraction": lambda: case(no_contraction, rows(1)),
    "norm of a difference": lambda: case(norm_of_difference, rows(2)),
}

if __name__ == "__main__":
    sys.exit(main("cpu_regions", CASES, gated_threads=[1]))
