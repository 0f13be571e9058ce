"""Query heads that share key heads, with open sizes: only their ratio is part of the program."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

import diagc
from diagc.testing.seed import SEED

Tensor = torch.Tensor
GROUP = 4


def by_flag(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def by_division(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    return F.scaled_dot_product_attention(q, k, v)


def repeated(x: Tensor) -> Tensor:
    """As in published models."""
    batch, heads, length, width = x.shape
    wide = x[:, :, None].expand(batch, heads, GROUP, length, width)
    return wide.reshape(batch, heads * GROUP, length, width)


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ repeated(k).mT * q.shape[-1] ** -0.5
    return scores.softmax(-1) @ repeated(v)


def arguments(batch: int, heads: int, rows: int, keys: int, group: int = GROUP) -> list[Tensor]:
    shapes = (batch, group * heads, rows, 8), *[(batch, heads, keys, 8)] * 2
    return [torch.randn(shape) for shape in shapes]


def programs(compiled: diagc.CompiledFunction) -> int:
    return sum(len(group.specializations) for group in compiled._calls.groups)


@pytest.mark.parametrize(("function", "calls"), [(by_flag, 20), (by_division, 3), (by_hand, 3)])
def test_one_program_for_all_batches_heads_and_lengths(
    function: Callable[..., Tensor], calls: int
) -> None:
    generator = torch.Generator().manual_seed(SEED)
    compiled = diagc.compile(function, dynamic=True)
    for _ in range(calls):
        inputs = arguments(*torch.randint(2, 9, (4,), generator=generator).tolist())
        torch.testing.assert_close(compiled(*inputs), function(*inputs), rtol=1e-5, atol=1e-5)
    assert programs(compiled) == 1
    assert "they stay fixed" not in compiled.explain()
    (kernel,) = compiled.kernels
    assert kernel.streams


def test_another_ratio_is_another_program() -> None:
    compiled = diagc.compile(by_flag, dynamic=True)
    for count, group in enumerate((4, 2), start=1):
        for sizes in ((2, 3, 5, 6), (3, 2, 4, 7)):
            inputs = arguments(*sizes, group)
            torch.testing.assert_close(compiled(*inputs), by_flag(*inputs), rtol=1e-5, atol=1e-5)
        assert programs(compiled) == count


def test_sizes_that_cannot_be_open_are_told_with_the_reason() -> None:
    compiled = diagc.compile(lambda x: (x * 2, x.shape[0]), torch.randn(3, 4), dynamic=True)
    text = compiled.explain()
    assert "open sizes: they stay fixed, for they cannot be open: 'an open size as a result'" in (
        text
    )
