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


def test_one_program_for_all_batches_heads_and_lengths_of_a_ratio() -> None:
    generator = torch.Generator().manual_seed(SEED)
    compiled = diagc.compile(by_flag, dynamic=True)
    for count, group in enumerate((4, 2), start=1):
        for _ in range(10):
            batch, heads, rows, keys = torch.randint(2, 9, (4,), generator=generator).tolist()
            inputs = arguments(batch, heads, rows, keys, group)
            torch.testing.assert_close(compiled(*inputs), by_flag(*inputs), rtol=1e-5, atol=1e-5)
        assert programs(compiled) == count
        assert "they stay fixed" not in compiled.explain()
        (kernel,) = compiled.kernels
        assert kernel.streams


@pytest.mark.parametrize("function", [by_division, by_hand])
def test_groups_that_are_written_out_have_open_sizes(function: Callable[..., Tensor]) -> None:
    compiled = diagc.compile(function, *arguments(2, 3, 5, 7), dynamic=True, target="interp")
    sizes = compiled.program.inputs[0].sizes
    assert sizes.count(None) == 3
    assert GROUP in sizes
    assert "they stay fixed" not in compiled.explain()


def test_a_ratio_that_no_axis_shows_is_a_condition() -> None:
    def first(x: Tensor, y: Tensor) -> Tensor:
        return x.repeat_interleave(2, 0)[: x.shape[0] // y.shape[0]] + y.sum()

    compiled = diagc.compile(first, dynamic=True, target="interp")
    for rows in (8, 9, 12):
        x, y = torch.randn(rows, 3), torch.randn(2, 3)
        torch.testing.assert_close(compiled(x, y), first(x, y), rtol=1e-5, atol=1e-5)


def test_sizes_that_cannot_be_open_are_told_with_the_reason() -> None:
    compiled = diagc.compile(lambda x: (x * 2, x.shape[0]), torch.randn(3, 4), dynamic=True)
    text = compiled.explain()
    assert "open sizes: they stay fixed, for they cannot be open: 'an open size as a result'" in (
        text
    )
