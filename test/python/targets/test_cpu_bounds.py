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


# ---- bounds that are read ----------------------------------------------------------------------


def between(q: Tensor, k: Tensor, v: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Row i keeps positions from first[i] to last[i]."""
    x = torch.arange(ROWS)
    keep = (first[..., None] <= x) & (x <= last[..., None])
    return absolute(torch.where(keep, q @ k.transpose(-2, -1), 0.0), v)


def inside(q: Tensor, k: Tensor, v: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """As `between`, but for the ends, by integers that are computed."""
    return between(q, k, v, first * 2 - first + 1, last - 1)


@pytest.mark.parametrize(
    ("function", "dtype", "batch"),
    [(between, torch.int32, ()), (between, torch.int64, (2,)), (inside, torch.int32, (2,))],
)
def test_rows_read_their_bounds(
    function: Callable[..., Tensor], dtype: torch.dtype, batch: tuple[int, ...]
) -> None:
    """In any order, also outside of the axis."""
    tensors = draw()
    first = torch.randint(-50, ROWS - 60, (*batch, ROWS), dtype=dtype)
    last = first + torch.randint(1, 200, first.shape, dtype=dtype)
    first[..., :SAFE] = torch.randint(POISONED, ROWS, (SAFE,), dtype=dtype)
    last[..., :SAFE] = ROWS + 5
    last[..., 7] = torch.iinfo(dtype).max
    first[..., -9] = torch.iinfo(dtype).min
    compiled = diagc.compile(function, *tensors, first, last)
    wanted = function(*(tensor.double() for tensor in tensors), first, last)
    wanted = wanted.nan_to_num(0.0)  # rows without a position
    found = compiled(*tensors, first, last)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)
    (kernel,) = compiled.kernels
    assert "bounded" in kernel.name
    tensors[2][:, :POISONED] = torch.nan
    found = compiled(*tensors, first, last)
    rows = slice(0, SAFE - POISONED)
    torch.testing.assert_close(found[:, rows].double(), wanted[:, rows], rtol=1e-4, atol=1e-4)


def test_batches_are_padded_to_lengths() -> None:
    """One integer for all rows of a sequence: its padding is not read."""
    q, k, v = draw()
    lengths = torch.tensor([100, ROWS])

    def padded(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
        keep = torch.arange(ROWS) < lengths[:, None, None]
        return absolute(torch.where(keep, q @ k.transpose(-2, -1), 0.0), v)

    compiled = diagc.compile(padded, q, k, v, lengths)
    wanted = padded(q.double(), k.double(), v.double(), lengths)
    k[0, 100:], v[0, 100:] = torch.nan, torch.nan
    torch.testing.assert_close(compiled(q, k, v, lengths).double(), wanted, rtol=1e-4, atol=1e-4)
