"""Chunks of streams that a mask excludes are not visited: what stands there cannot matter."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import diagc
from diagc.testing.seed import SEED

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
ROWS, WIDTH = 384, 16
POISONED = 64
"""Positions of the streamed axis that hold NaN: one chunk."""
SAFE = 256
"""Rows from here on keep only positions of later chunks, whatever the tile."""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(SEED)


def absolute(s: Tensor, v: Tensor) -> Tensor:
    return s / s.abs().sum(-1, keepdim=True) @ v


def later(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Row i keeps positions from i on: the first one grows with the row."""
    return absolute((q @ k.transpose(-2, -1)).triu(), v)


def window(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Row i keeps positions i - 100 to i + 3."""
    return absolute((q @ k.transpose(-2, -1)).tril(3).triu(-100), v)


def opposite(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Row i keeps positions from the end - i on: the first one falls, which bounds no tile."""
    rows = torch.arange(ROWS)
    keep = rows[None, :] >= ROWS - 1 - rows[:, None]
    return absolute(torch.where(keep, q @ k.transpose(-2, -1), 0.0), v)


def draw() -> list[Tensor]:
    return [torch.randn(2, ROWS, WIDTH) for _ in range(3)]


def exact(function: Function, tensors: list[Tensor]) -> Tensor:
    return function(*(tensor.double() for tensor in tensors))


@pytest.mark.parametrize("function", [later, window])
def test_chunks_below_the_first_kept_position_are_skipped(function: Function) -> None:
    tensors = draw()
    compiled = diagc.compile(function, *tensors)
    wanted = exact(function, tensors)
    torch.testing.assert_close(compiled(*tensors).double(), wanted, rtol=1e-4, atol=1e-4)
    tensors[2][:, :POISONED] = torch.nan
    found = compiled(*tensors)
    rows = slice(SAFE, None)
    torch.testing.assert_close(found[:, rows].double(), wanted[:, rows], rtol=1e-4, atol=1e-4)
    assert found[:, :POISONED].isnan().all()


def test_positions_that_fall_with_the_row_bound_nothing() -> None:
    tensors = draw()
    compiled = diagc.compile(opposite, *tensors)
    wanted = exact(opposite, tensors)
    torch.testing.assert_close(compiled(*tensors).double(), wanted, rtol=1e-4, atol=1e-4)


def test_gradients_of_keys_skip_queries_before_them() -> None:
    """Under a causal mask the stream over queries begins at the first key of the tile."""
    tensors = [tensor.requires_grad_() for tensor in draw()]

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return absolute((q @ k.transpose(-2, -1)).tril(8), v)

    compiled = diagc.compile(causal, *tensors)
    cotangent = torch.randn(2, ROWS, WIDTH)
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    wanted = torch.autograd.grad(causal(*wide), wide, cotangent.double())
    out = compiled(*tensors)
    poisoned = cotangent.clone()
    poisoned[:, :POISONED] = torch.nan
    found = torch.autograd.grad(out, tensors[1:], poisoned)
    for ours, right in zip(found, wanted[1:], strict=True):
        rows = slice(SAFE, None)
        torch.testing.assert_close(ours[:, rows].double(), right[:, rows], rtol=1e-4, atol=1e-4)
