"""Gradients that the diagram of a function does not tell are those of eager torch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import diagc
from diagc.errors import UnsupportedError


class Twice(torch.autograd.Function):
    """Its gradient is not that of its forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 100


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


def detached(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q.detach(), k, v) * q


def unrecorded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with torch.no_grad():
        scale = attention(q, k, v)
    return attention(q, k, v) * scale


def with_data(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q, k.data, v) * k


def function_of_its_own(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out: Tensor = attention(Twice.apply(q), k, v)  # type: ignore[no-untyped-call]
    return out


FUNCTIONS = [attention, detached, unrecorded, function_of_its_own]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_are_those_of_eager(function: Callable[..., Tensor]) -> None:
    args = [torch.randn(2, 10, 8, requires_grad=True) for _ in range(3)]
    compiled = diagc.compile(function, *args)
    outs = [f(*args).square().sum() for f in (compiled, function)]
    found, wanted = (torch.autograd.grad(out, args, allow_unused=True) for out in outs)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-4, atol=1e-4)


def test_data_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"such as \.data.*use \.detach\(\)"):
        diagc.compile(with_data, *(torch.randn(2, 10, 8) for _ in range(3)))
