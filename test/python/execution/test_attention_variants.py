"""Masked attention of few queries, one key, or in 16 bits, compiled, against float64 and eager."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import diagc

INF = float("inf")
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def aligned_right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last query sees all keys; rows without keys give zeros."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    first = k.shape[-2] - q.shape[-2]
    later = torch.arange(k.shape[-2]) > torch.arange(q.shape[-2])[:, None] + first
    scores = (q @ k.transpose(-1, -2)).masked_fill(later, -INF)
    return torch.nan_to_num(scores.softmax(-1)) @ v


def with_weights(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The weights are a result, so the scores are needed twice."""
    weights = (q @ k.transpose(-1, -2)).softmax(-1)
    return torch.cat([weights @ v, weights], -1)


def operands(
    q: int, x: int, heads: int, key_heads: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(q * 1000 + x * 10 + heads)
    shapes = ((2, heads, q, 48), (2, key_heads, x, 48), (2, key_heads, x, 33))
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return made[0], made[1], made[2]


def assert_as_exact_as_eager(function: Attention, *inputs: Tensor) -> None:
    compiled = diagc.compile(function, *inputs)
    assert [
        kernel.fall_back for kernel in compiled.program.report.kernels if kernel.fall_back
    ] == []
    exact = function(*(t.double() for t in inputs))
    found, eager = compiled(*inputs), function(*inputs)
    assert found.dtype == eager.dtype
    error, peer = (float((t.double() - exact).abs().max()) for t in (found, eager))
    unit = torch.finfo(found.dtype).eps * float(exact.abs().max())
    assert error <= 3 * peer + unit, f"error {error:.2g}, of eager {peer:.2g}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("q", "x", "heads", "key_heads"),
    [(1, 65, 4, 2), (2, 65, 3, 1), (3, 16, 2, 2), (5, 1, 4, 2), (17, 130, 3, 1)],
)
def test_causal(q: int, x: int, heads: int, key_heads: int, dtype: torch.dtype) -> None:
    inputs = operands(q, x, heads, key_heads, dtype)
    for function in (causal, aligned_right):
        assert_as_exact_as_eager(function, *inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("q", "x"), [(2, 200), (40, 200), (40, 1)])
def test_weights_agree_with_their_sums(q: int, x: int, dtype: torch.dtype) -> None:
    assert_as_exact_as_eager(with_weights, *operands(q, x, 2, 2, dtype))


@pytest.mark.parametrize("empty_rows", ["zero", "eager"])
def test_one_masked_key(empty_rows: str) -> None:
    q, k, v = operands(4, 1, 2, 2, torch.float32)
    keep = torch.tensor([[True], [False], [True], [False]])
    compiled = diagc.compile(F.scaled_dot_product_attention, q, k, v, keep, empty_rows=empty_rows)
    expected = torch.where(keep, v.expand(2, 2, 4, 33), 0.0)
    torch.testing.assert_close(compiled(q, k, v, keep), expected)
