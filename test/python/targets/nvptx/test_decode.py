"""Decoding: few queries on many keys are one stream that blocks share, with its statistic too."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch

import diagc
from diagc.testing.seed import SEED

Tensor = torch.Tensor
Attention = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

TOLERANCE = {torch.float16: 2.0**-9, torch.bfloat16: 2.0**-6, torch.float32: 4e-6}
"""Of the largest element: scores, weights and results are rounded to the type."""


def scores_of(q: Tensor, k: Tensor, mask: str) -> Tensor:
    scores = (q @ k.transpose(-2, -1)) * (1 / math.sqrt(q.shape[-1]))
    if not mask:
        return scores
    ones = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
    outside = ones.triu(1 + k.shape[-2] - q.shape[-2])
    if mask == "window":
        outside = outside | ones.tril(k.shape[-2] - q.shape[-2] - 200)
    return scores.masked_fill(outside, float("-inf"))


def attention(mask: str, *, grouped: bool = False) -> Attention:
    """Attention and the logarithm of its sums of exponentials."""

    def decode(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if grouped:
            k, v = k.unsqueeze(-3), v.unsqueeze(-3)
        scores = scores_of(q, k, mask)
        return torch.softmax(scores, dim=-1) @ v, torch.logsumexp(scores, dim=-1)

    return decode


def inputs(
    rows: int, keys: int, dtype: torch.dtype, *, grouped: bool = False, d: int = 64
) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    heads = (2,) if grouped else (2, 3)
    for shape in ((2, 3, rows, d), (*heads, keys, d), (*heads, keys, d)):
        yield torch.randn(shape, generator=generator).to(dtype)


def check(function: Attention, arrays: tuple[Tensor, Tensor, Tensor]) -> None:
    """Compare with float64; it is one stream in two launches, and nothing stores scores."""
    compiled = diagc.compile(function, *arrays, target="nvptx")
    results, report = diagc.simulate(compiled, *arrays)
    assert report.clean, report
    assert not compiled.outside
    (kernel,) = compiled.latest.program.kernels
    first, second = (launch.symbol for launch in kernel.kernel.launches)
    assert kernel.tiles.split
    symbol = kernel.signature.symbol
    assert (first, second) == (f"{symbol}_parts", f"{symbol}_join")
    assert symbol.startswith("stream_max_exp_log_")
    assert len(report.kernels) == 2
    for found, wanted in zip(results, function(*(x.double() for x in arrays)), strict=True):
        error = (found.double() - wanted).abs().max()
        assert error < TOLERANCE[arrays[0].dtype] * wanted.abs().max()
    assert report.predicted is not None
    assert report.predicted.read == pytest.approx(report.counters.global_read_bytes, rel=0.02)
    assert report.predicted.written == pytest.approx(report.counters.global_write_bytes, rel=0.02)


@pytest.mark.parametrize("mask", ["", "bottom right", "window"])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("grouped", [False, True])
def test_statistics_come_from_the_stream_that_blocks_share(
    mask: str, rows: int, grouped: bool
) -> None:
    arrays = tuple(inputs(rows, 600, torch.float16, grouped=grouped))
    check(attention(mask, grouped=grouped), arrays)


def test_one_query_on_a_long_cache() -> None:
    check(attention("bottom right"), tuple(inputs(1, 2049, torch.float16)))


@pytest.mark.parametrize(
    ("dtype", "d"), [(torch.bfloat16, 128), (torch.float32, 64), (torch.float16, 40)]
)
def test_one_query_of_other_types_and_sizes(dtype: torch.dtype, d: int) -> None:
    check(attention("bottom right"), tuple(inputs(1, 517, dtype, d=d)))
