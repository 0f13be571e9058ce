"""Gradients of normalised rows as large or small as numbers are: no factor leaves the range alone.

The gradient of x / |x| has |x|^-3 in it. That is no number of f32 below 1e-13 and above 1e13, where
the gradient is one. Allowed is four times the error of eager torch, where that is finite.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import diagc
from diagc.testing.seed import SEED

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
ROWS, DEPTH = 96, 32
SCALES = (1e-17, 1e-15, 1e-13, 1.0, 1e12, 1e13, 1e15)


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT
    return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v


def causal_spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.mT).tril()
    return (scores * torch.rsqrt(scores.square().sum(-1, keepdim=True))) @ v


def absolute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT
    return (scores / scores.abs().sum(-1, keepdim=True)) @ v


def layer_norm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return nn.functional.layer_norm(q, (DEPTH,), k[0], v[0], eps=0.0)


def rms_norm(q: Tensor, k: Tensor, _v: Tensor) -> Tensor:
    return q * torch.rsqrt(q.square().mean(-1, keepdim=True)) * k


def cube_norm(q: Tensor, k: Tensor, _v: Tensor) -> Tensor:
    """Of a power that is no square: (sum |x|^3)^(1/3)."""
    return q / q.abs().pow(3.0).sum(-1, keepdim=True).pow(1.0 / 3.0) * k


CASES = [
    *(
        (f, scale)
        for f in (spherical, causal_spherical, absolute, layer_norm, rms_norm)
        for scale in SCALES
    ),
    *((cube_norm, scale) for scale in (1e-9, 1.0, 1e9)),  # cubes leave the range before
]


def _gradients(function: Callable[..., Tensor], inputs: list[Tensor], g: Tensor) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    result = function(*leaves)
    found = torch.autograd.grad((result * g.to(result.dtype)).sum(), leaves, allow_unused=True)
    return [result.detach(), *(x for x in found if x is not None)]


def _error(found: Tensor, exact: Tensor) -> float:
    """Largest difference over the largest value; infinite where a number is none."""
    return float(((found - exact).abs().max() / exact.abs().max()).nan_to_num(math.inf))


@pytest.mark.parametrize(("function", "scale"), CASES)
def test_rows_of_any_size(function: Function, scale: float) -> None:
    generator = torch.Generator().manual_seed(SEED)
    q, k, v, g = (torch.randn(ROWS, DEPTH, generator=generator) for _ in range(4))
    inputs = [q * scale, k, v]
    exact = _gradients(function, [x.double() for x in inputs], g)
    eager = _gradients(function, inputs, g)
    found = _gradients(diagc.compile(function), inputs, g)
    for ours, theirs, right in zip(found, eager, exact, strict=True):
        peer = _error(theirs, right)
        assert _error(ours, right) <= 4 * (peer if math.isfinite(peer) else 0.0) + 1e-6


def test_long_rows_are_reassociated_in_range() -> None:
    """The streams of gradients that run over all keys at once, beside those that do not."""
    generator = torch.Generator().manual_seed(SEED)
    q, k, v, g = (torch.randn(2, 2048, DEPTH, generator=generator) for _ in range(4))
    inputs = [q * 1e-15, k, v]
    exact = _gradients(spherical, [x.double() for x in inputs], g)
    found = _gradients(diagc.compile(spherical, dynamic=False), inputs, g)
    assert max(map(_error, found, exact)) <= 1e-5
