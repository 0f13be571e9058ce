"""Kernels on tensor cores: every normaliser, mask, type and shape, in the simulator."""

import numpy as np
import pytest

from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.attention import Attention
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    Placement,
    compile_tiles,
    kernels_of,
    random_inputs,
    run_tiles,
)

# of the largest element: products and results are rounded to the type, 2**-9 and 2**-12 each
TOLERANCE = {"bf16": 3 * 2.0**-9, "f16": 3 * 2.0**-12, "f32": 4e-6}
# small tiles: 2 tiles of rows, 6 or more of keys, tails on both
SMALL = {"g": 2, "l": 41, "s": 87}
BF16 = TOLERANCE["bf16"]
MASKS = {
    "none": "",
    "causal": "q >= x",
    "bottom_right": "q + 46 >= x",
    "window": "(q >= x) and (q - x < 20)",
    "dilated": "(q - x) % 3 == 0",
}


def small(text: str, *, blocks: int = 1, stages: int = 2) -> float:
    """The error of the kernel of a diagram on small tiles."""
    _module, (kernel,) = kernels_of(text)
    schedule = TileSchedule(row_blocks=blocks, warps=2, chunk=16, stages=stages)
    built, compiled = compile_tiles(kernel, schedule)
    inputs = random_inputs(built.signature, SMALL)
    return run_tiles(kernel, built, compiled, inputs).error()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("normaliser", ["softmax", "l1"])
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_normaliser_and_mask(normaliser: str, mask: str, dtype: str) -> None:
    text = Attention(MASKS[mask], dtype, 32, normaliser=normaliser).text
    assert small(text) < TOLERANCE[dtype]


@pytest.mark.parametrize("mask", ["causal", "window"])
def test_l2_with_a_mask_is_streamed(mask: str) -> None:
    assert small(Attention(MASKS[mask], d=32, normaliser="l2").text) < BF16


@pytest.mark.parametrize(
    ("d", "e"), [(16, 16), (40, 40), (64, 32), (80, 48), (128, 128), (96, 192), (256, 64)]
)
def test_sizes_of_heads(d: int, e: int) -> None:
    assert small(Attention("q >= x", d=d, e=e).text) < BF16


@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize("normaliser", ["softmax", "l1"])
def test_f32_is_exact(normaliser: str, mask: str) -> None:
    assert small(Attention(MASKS[mask], "f32", 32, normaliser=normaliser).text) < TOLERANCE["f32"]


def test_chunks_outside_of_what_rows_read_are_not_visited() -> None:
    """Integers in any order, some beyond the axis; what stands elsewhere may be anything."""
    integers = "F: q i32, G: h i32"
    _module, (kernel,) = kernels_of(Attention("F <= x and x < G", d=32, arguments=integers).text)
    built, compiled = compile_tiles(kernel, TileSchedule(warps=2, chunk=16))
    rng = np.random.default_rng(SEED)
    firsts, lasts = rng.integers(16, 62, SMALL["l"]), np.array([79, 64])
    firsts[0] = 2**31 - 1  # no key at all
    bounds = {(SMALL["l"],): firsts, (2,): lasts}
    inputs = random_inputs(built.signature, SMALL)
    inputs = [bounds.get(x.shape, x) for x in inputs]
    clean = run_tiles(kernel, built, compiled, inputs)
    assert clean.error() < TOLERANCE["bf16"]
    values = inputs[-1]
    values[:, :16], values[0, 80:], values[1, 64:] = np.nan, np.nan, np.nan
    poisoned = run_tiles(kernel, built, compiled, inputs)
    assert np.array_equal(clean.found[0], poisoned.found[0])


@pytest.mark.parametrize(("blocks", "stages"), [(2, 2), (1, 3), (2, 4)])
def test_rows_of_a_warp_and_stages(blocks: int, stages: int) -> None:
    text = Attention("q >= x").text
    assert small(text, blocks=blocks, stages=stages) < BF16


def test_a_scale_that_is_no_power_of_two_stays_in_the_stream() -> None:
    assert small(Attention(scores="S * 0.17", d=32).text) < BF16


@pytest.mark.parametrize("placement", [Placement(gap=3), Placement(offset=1), Placement(gap=8)])
def test_strides_and_alignment(placement: Placement) -> None:
    _module, (kernel,) = kernels_of(Attention("q >= x", d=32).text)
    schedule = TileSchedule(warps=2, chunk=16)
    built, compiled = compile_tiles(kernel, schedule)
    inputs = random_inputs(built.signature, SMALL)
    run = run_tiles(kernel, built, compiled, inputs, placement)
    assert run.error() < BF16


@pytest.mark.parametrize("sizes", [{"g": 1, "l": 1, "s": 1}, {"g": 1, "l": 33, "s": 0}])
def test_hardly_any_rows_or_keys(sizes: dict[str, int]) -> None:
    _module, (kernel,) = kernels_of(Attention(d=32).text)
    built, compiled = compile_tiles(kernel, TileSchedule(warps=2, chunk=16))
    inputs = random_inputs(built.signature, sizes)
    assert run_tiles(kernel, built, compiled, inputs).error() < BF16


BIASED = {
    "added per head": ("B: h q x bf16", "S * 0.125 + B", ""),
    "added per key": ("B: x f32", "S * 0.125 + B", ""),
    "kept": ("B: q x i1", "S * 0.125", "B"),
    "kept and causal": ("B: h x i1", "S * 0.125", "B and q >= x"),
}


@pytest.mark.parametrize("bias", BIASED)
def test_masks_and_biases_from_memory(bias: str) -> None:
    arguments, scores, where = BIASED[bias]
    assert small(Attention(where, d=32, arguments=arguments, scores=scores).text) < BF16


def test_keys_are_shared_by_heads() -> None:
    assert small(Attention("q >= x", d=32, heads="g = 2", group=3).text) < BF16
