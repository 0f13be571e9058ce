"""Decoding: few queries on many keys are one stream that blocks share, with its statistic too."""

import math
from collections.abc import Callable

import pytest
import torch

import diagc
from diagc.targets.nvptx import LoadedKernel
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.attention import Attention
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import compile_tiles, kernels_of, random_inputs, run_tiles

Tensor = torch.Tensor
Function = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

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


def attention(mask: str, *, grouped: bool = False) -> Function:
    """Attention and the logarithm of its sums of exponentials."""

    def decode(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if grouped:
            k, v = k.unsqueeze(-3), v.unsqueeze(-3)
        scores = scores_of(q, k, mask)
        return torch.softmax(scores, dim=-1) @ v, torch.logsumexp(scores, dim=-1)

    return decode


def inputs(
    rows: int, keys: int, dtype: torch.dtype, *, grouped: bool = False, d: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    heads = (1,) if grouped else (1, 3)
    shapes = (1, 3, rows, d), (*heads, keys, d), (*heads, keys, d)
    q, k, v = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return q, k, v


def check(function: Function, arrays: tuple[Tensor, Tensor, Tensor]) -> None:
    """Compare with float64; it is one stream on tiles, and nothing stores scores."""
    compiled = diagc.compile(function, *arrays, target="nvptx")
    results, report = diagc.simulate(compiled, *arrays)
    assert report.clean, report
    assert not compiled.outside
    (kernel,) = compiled.latest.program.kernels
    assert isinstance(kernel, LoadedKernel)
    assert kernel.tiles is not None
    symbol, symbols = kernel.signature.symbol, list(report.kernels)
    assert symbol.startswith("stream_max_exp_log_")
    assert symbols == ([f"{symbol}_parts", f"{symbol}_join"] if kernel.tiles.split else [symbol])
    for found, wanted in zip(results, function(*(x.double() for x in arrays)), strict=True):
        error = (found.double() - wanted).abs().max()
        assert error < TOLERANCE[arrays[0].dtype] * wanted.abs().max()
    assert report.predicted is not None
    assert report.predicted.read == pytest.approx(report.counters.global_read_bytes, rel=0.02)
    assert report.predicted.written == pytest.approx(report.counters.global_write_bytes, rel=0.02)


@pytest.mark.parametrize(
    ("mask", "rows", "grouped"),
    [
        *(("", 1, False), ("", 2, True)),
        *(("bottom right", 1, True), ("bottom right", 2, False)),
        *(("window", 1, False), ("window", 2, True)),
    ],
)
def test_statistics_come_from_the_stream(mask: str, rows: int, grouped: bool) -> None:
    check(attention(mask, grouped=grouped), inputs(rows, 600, torch.float16, grouped=grouped))


def test_heads_that_share_keys_are_rows_of_one_block() -> None:
    """Keys are read once, and states of parts, not once for each of the three heads of a group."""
    q, k, v = inputs(1, 512, torch.bfloat16, grouped=True)
    compiled = diagc.compile(attention("bottom right", grouped=True), q, k, v, target="nvptx")
    _results, report = diagc.simulate(compiled, q, k, v)
    keys = sum(x.numel() * x.element_size() for x in (k, v))
    assert keys <= report.counters.global_read_bytes < 2 * keys


def test_one_query_on_a_long_cache() -> None:
    check(attention("bottom right"), inputs(1, 2049, torch.float16))


@pytest.mark.parametrize(
    ("dtype", "d"), [(torch.bfloat16, 128), (torch.float32, 64), (torch.float16, 40)]
)
def test_one_query_of_other_types_and_sizes(dtype: torch.dtype, d: int) -> None:
    check(attention("bottom right"), inputs(1, 517, dtype, d=d))


@pytest.mark.parametrize("split", [0, 32])
@pytest.mark.parametrize("keys", [5, 64, 150])
def test_one_query_in_parts(split: int, keys: int) -> None:
    _module, (kernel,) = kernels_of(Attention(heads="b, h", queries="", dtype="f16").text)
    schedule = TileSchedule(warps=1, chunk=16, split=split)
    built, compiled = compile_tiles(kernel, schedule)
    assert len(built.launches) == (2 if split else 1)
    arrays = random_inputs(built.signature, {"g": 2, "s": keys})
    assert run_tiles(kernel, built, compiled, arrays).error() < TOLERANCE[torch.float16]


def test_blocks_share_a_long_cache() -> None:
    arrays = inputs(1, 16384, torch.float16)
    compiled = diagc.compile(attention("bottom right"), *arrays, target="nvptx")
    (kernel,) = compiled.latest.program.kernels
    assert isinstance(kernel, LoadedKernel)
    symbol = kernel.signature.symbol
    symbols = [launch.symbol for launch in kernel.kernel.launches]
    assert symbols == [f"{symbol}_parts", f"{symbol}_join"]
