"""Products of f32 on tensor cores: with all digits in three products, or one in tf32."""

from dataclasses import replace

import numpy as np
import pytest

from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.dialects import diag
from diagc.errors import DiagcError
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.targets.nvptx import lower_kernel
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.selection import tile_schedules
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.attention import Attention
from diagc.testing.tile_kernels import Array, kernels_of, run_tiles, translate_tiles

PRODUCT = """axis n, c = {c}, m = {m}
diagram product(A: n c {a}, B: m c {b}) {{
  S: n m f32 = A . B over c
  return S * 1.0
}}
"""
ATTENTION = Attention("q >= x", "f32", 32, scores="S * 0.17677669529663687").text


def hard(shape: tuple[int, ...], kind: str, seed: int) -> Array:
    """Numbers whose products cancel, or whose last digits are all cut the same way."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if kind == "far apart":
        x *= 2.0 ** rng.integers(-20, 20, shape)
    elif kind == "just below":  # tf32 that is cut loses nearly one unit of the last place, always
        x = np.sign(x) * (1.0 + 2.0**-10 - 2.0**-20)
    return x.astype(np.float32).astype(np.float64)


def product_error(a: Array, b: Array, types: tuple[str, str], *, tf32: bool) -> float:
    """Largest error of an element, relative to the sum of the sizes of its terms."""
    text = PRODUCT.format(c=a.shape[1], m=b.shape[0], a=types[0], b=types[1])
    with use(CompileOptions(library="none")):
        _module, (kernel,) = kernels_of(text)
    schedule = tile_schedules(kernel, parse_arch("sm_80"), tf32=tf32)[0]
    assert schedule.tf32 == tf32
    run = run_tiles(kernel, *translate_tiles(kernel, replace(schedule, warps=2)), [a, b])
    return float((np.abs(run.found[0] - a @ b.T) / (np.abs(a) @ np.abs(b).T)).max())


@pytest.mark.parametrize("kind", ["normal", "far apart"])
def test_a_product_has_the_digits_that_were_asked_for(kind: str) -> None:
    """Each operand in tf32 is within 2**-11; of two parts, cut, what is missing is below 2**-21."""
    a, b = hard((40, 32), kind, 0), hard((32, 32), kind, 1)
    highest = product_error(a, b, ("f32", "f32"), tf32=False)
    rounded = product_error(a, b, ("f32", "f32"), tf32=True)
    assert highest < 3 * 2.0**-21
    assert 2.0**-14 < rounded < 2.0**-10 * 1.01


def test_what_is_rounded_to_tf32_is_rounded_to_nearest() -> None:
    """Cut to tf32, these numbers lose 2**-10 each; the nearest number is 2**-20 away."""
    a, b = hard((40, 32), "just below", 0), hard((32, 32), "just below", 1)
    assert product_error(a, b, ("f32", "f32"), tf32=True) < 2.0**-18


def test_products_of_bf16_by_f32_keep_all_digits() -> None:
    """Only f32 by f32 is what the setting is about: a Gram state of bf16 arrays is no such."""
    a = (np.round(hard((40, 32), "normal", 0) * 16) / 16).clip(-4, 4)
    b = hard((32, 32), "normal", 1)
    assert product_error(a, b, ("bf16", "f32"), tf32=True) < 3 * 2.0**-21


def test_attention_in_tf32() -> None:
    """Scores are off by 2**-10 of a standard deviation or so, results by as much."""
    _module, (kernel,) = kernels_of(ATTENTION)
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal((1, n, 32)) for n in (19, 37, 37)]
    errors = {}
    for tf32 in (False, True):
        schedule = TileSchedule(warps=2, chunk=16, tf32=tf32)
        errors[tf32] = run_tiles(kernel, *translate_tiles(kernel, schedule), arrays).error()
    assert errors[False] < 4e-6
    assert 2.0**-15 < errors[True] < 2.0**-9


def test_the_option_is_part_of_the_key_and_reaches_the_code() -> None:
    counts, keys = {}, set()
    for precision in ("highest", "high", "medium"):
        options = CompileOptions(target="nvptx", float32_matmul_precision=precision)
        with use(options), make_context(), ir.Location.unknown():
            module = parse(ATTENTION)
            run_pipeline(module, options)
            (kernel,) = [op for op in diag.functions(module) if diag.is_kernel(op)]
            loaded = lower_kernel(kernel, options)
            counts[precision] = loaded.kernel.ptx.count("mma.sync")
            keys.add(loaded.key)
    assert counts["highest"] == 3 * counts["high"] == 3 * counts["medium"]
    assert len(keys) == 2


def test_a_precision_that_torch_does_not_know_is_refused() -> None:
    with pytest.raises(DiagcError, match="highest, high, medium"):
        CompileOptions(float32_matmul_precision="exact")
