"""Attention on f8E4M3FN with scales, in the simulator with all of its checks, against float64.

The reference takes the f8 numbers as they are. On tiles, weights are rounded to tf32. On warpgroups
they are rounded to f8, as `float8_matmul_precision="high"` allows; see `bound`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.targets.interp.rounding import float8_numbers
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import compile_module
from diagc.targets.nvptx.ptxas import disassemble, find_tool
from diagc.targets.nvptx.selection import tile_schedules
from diagc.targets.nvptx.tiles.lower import lower_tiles
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    TileRun,
    kernels_of,
    loaded,
    random_inputs,
    run_tiles,
    stored,
    translate_module,
)
from diagc.testing.wgmma_registers import lacking_registers, misuses

Array = npt.NDArray[np.float64]
HIGH = CompileOptions(target="nvptx:sm_90a", float8_matmul_precision="high")
WEIGHT = 2.0**-4
"""Relative error of a weight that is rounded to four digits."""
SMALL = 2.0**-17
"""Error of a weight relative to the largest of its row and chunk, which becomes 128 or more: half
of f8's smallest number, 2**-9."""
SUMS = 2.0**-12
"""Of everything in f32, exponentials too, relative to the sum of sizes."""


def attention(
    d: int = 64, normaliser: str = "softmax", where: str = "", values: str = "x d", heads: str = ""
) -> str:
    condition = f" where ({where})" if where else ""
    return f"""axis h, q, x, d = {d}{", r = 2" if heads else ""}
diagram attention(Q: h {heads}q d f8E4M3FN, K: h x d f8E4M3FN, V: h {values} f8E4M3FN,
                  A: h {heads}q f32, B: h x f32, C: h x f32) {{
  Y = f32(Q) * A
  Z = f32(K) * B
  W = f32(V) * C
  S: h {heads}q x f32 = Y . Z over d
  P = {normaliser}(S * 0.125) along x{condition}
  O: h {heads}q d f32 = P . W over x
  return O
}}
"""


@dataclass(frozen=True)
class Lowered:
    """A kernel on warpgroups or tiles, as the simulator reads it."""

    module: ir.Module
    kernel: ir.Operation
    built: GpuModule
    text: str

    def inputs(self, rows: int, keys: int) -> list[Array]:
        """Random numbers, as memory holds them."""
        signature = self.built.signature
        found = random_inputs(signature, {"g": 1, "l": rows, "s": keys}, SEED)
        types = [wire.dtype for wire in signature.args]
        return [loaded(stored(x, t), t) for x, t in zip(found, types, strict=True)]

    def run(self, inputs: Sequence[Array]) -> TileRun:
        """Results, and those of the interpreter."""
        return run_tiles(self.kernel, self.built, self.text, inputs)


def warpgroup_module(
    text: str, chunk: int = 64, packed: int = 1
) -> tuple[ir.Module, ir.Operation, GpuModule]:
    with use(HIGH):
        module, (kernel,) = kernels_of(text, HIGH.target)
    schedule = TileSchedule(warps=8, chunk=chunk, stages=2, producers=4, packed=packed)
    with kernel.context, ir.Location.unknown():
        return module, kernel, lower_warpgroups(kernel, parse_arch("sm_90a"), schedule=schedule)


@cache
def on_warpgroups(text: str, chunk: int = 64, packed: int = 1) -> Lowered:
    module, kernel, built = warpgroup_module(text, chunk, packed)
    return Lowered(module, kernel, built, translate_module(built))


@cache
def on_tiles(text: str) -> Lowered:
    module, (kernel,) = kernels_of(text)
    schedule = TileSchedule(row_blocks=1, warps=2, chunk=32, stages=2)
    with kernel.context, ir.Location.unknown():
        built = lower_tiles(kernel, parse_arch("sm_80"), schedule=schedule)
    return Lowered(module, kernel, built, translate_module(built))


def weights(inputs: Sequence[Array], normaliser: str, *, causal: bool) -> Array:
    """What values are multiplied by, with their scales: heads, rows, keys."""
    keys, queries, key_scales, row_scales, scales, _values = inputs
    scores = np.einsum("g...ld,gsd->g...ls", queries, keys) * row_scales[..., None]
    scores = np.moveaxis(np.moveaxis(scores, 0, -2) * key_scales, -2, 0) * 0.125
    if causal:
        seen = np.tril(np.ones(scores.shape[-2:], dtype=bool))
        scores = np.where(seen, scores, -np.inf if normaliser == "softmax" else 0.0)
    if normaliser == "softmax":
        found = np.exp(scores - scores.max(-1, keepdims=True))
        found /= found.sum(-1, keepdims=True)
    else:
        power = 1 if normaliser == "l1" else 2
        found = scores / np.linalg.norm(scores, power, axis=-1, keepdims=True)
    return np.asarray(np.moveaxis(np.moveaxis(found, 0, -2) * scales, -2, 0))


def bound(inputs: Sequence[Array], weight: Array, values: str) -> Array:
    """The largest error of every element, as rounding of weights in chunks allows."""
    columns = np.abs(inputs[5] if values == "x d" else inputs[5].swapaxes(1, 2))
    size = np.abs(weight)
    allowed = (WEIGHT + SUMS) * size + SMALL * size.max(-1, keepdims=True)
    return np.asarray(np.einsum("g...ls,gsd->g...ld", allowed, columns))


CASES = [
    ("softmax", 64, 64, "", "x d", ""),
    ("softmax", 128, 64, "q >= x", "x d", ""),
    ("softmax", 128, 64, "q >= x", "d x", ""),
    ("softmax", 64, 32, "q >= x", "d x", ""),
    ("softmax", 64, 32, "", "x d", "r "),
    ("softmax", 64, 128, "", "x d", ""),
    ("l1", 64, 64, "q >= x", "x d", ""),
    ("l1", 128, 32, "", "x d", ""),
    ("l2", 64, 64, "q >= x", "x d", ""),
]
"""Normaliser, d, chunk, condition, order of the values' axes, heads that share keys."""


@pytest.mark.parametrize(("normaliser", "d", "chunk", "where", "values", "heads"), CASES)
def test_errors_are_those_of_rounded_weights(
    normaliser: str, d: int, chunk: int, where: str, values: str, heads: str
) -> None:
    """Stages of a ring are used three times, the last chunk and tile of rows are partly filled."""
    text = attention(d, normaliser, where, values, heads)
    made = on_warpgroups(text, chunk, packed=2 if heads else 1)
    keys = 4 * chunk + (16 if values == "d x" else 7)
    inputs = made.inputs(keys if where else 139, keys)
    run = made.run(inputs)
    weight = weights(inputs, normaliser, causal=bool(where))
    (found,), (expected,) = run.found, run.expected
    assert (np.abs(found - expected) <= bound(inputs, weight, values)).all()
    assert run.error() < 2.0**-4


@pytest.mark.parametrize("values", ["x d", "d x"])
def test_weights_that_f8_holds_are_not_rounded(values: str) -> None:
    """All scores are 0 and scales powers of two: every position is in its place."""
    made = on_warpgroups(attention(values=values))
    inputs = made.inputs(70, 208)
    inputs[1][:] = 0.0
    inputs[4] = np.exp2(np.random.default_rng(SEED).integers(-5, 6, inputs[4].shape))
    assert made.run(inputs).error() < 2.0**-20


@pytest.mark.parametrize("exponents", [(-60, 60), (-115, -105), (90, 100)])
def test_scales_of_any_size(exponents: tuple[int, int]) -> None:
    """The scale of a row and chunk brings weights into range."""
    made = on_warpgroups(attention())
    inputs = made.inputs(70, 150)
    inputs[4] = np.exp2(np.random.default_rng(SEED).uniform(*exponents, inputs[4].shape))
    inputs[4] = inputs[4].astype(np.float32).astype(np.float64)
    run = made.run(inputs)
    allowed = bound(inputs, weights(inputs, "softmax", causal=False), "x d")
    assert (np.abs(run.found[0] - run.expected[0]) <= allowed + 2.0**-149 * 150).all()


def test_what_is_no_number_stays_where_it_belongs() -> None:
    made = on_warpgroups(attention())
    clean, row, column, endless = (made.inputs(70, 150) for _ in range(4))
    row[3][0, 7] = np.nan
    column[5][0, 3, 5] = np.nan
    endless[4][0, 11] = np.inf
    expected = made.run(clean).found[0]
    found = made.run(row).found[0]
    assert np.isnan(found[0, 7]).all()
    np.testing.assert_array_equal(np.delete(found, 7, 1), np.delete(expected, 7, 1))
    found = made.run(column).found[0]
    assert np.isnan(found[..., 5]).all()
    np.testing.assert_array_equal(np.delete(found, 5, 2), np.delete(expected, 5, 2))
    assert not np.isfinite(made.run(endless).found[0]).any()


def test_all_weights_zero() -> None:
    made = on_warpgroups(attention())
    inputs = made.inputs(3, 5)
    inputs[4][:] = 0.0
    assert (made.run(inputs).found[0] == 0.0).all()


@pytest.mark.parametrize(("normaliser", "values"), [("softmax", "d x"), ("l1", "x d")])
def test_tiles_convert_to_f16(normaliser: str, values: str) -> None:
    """Scores are exact, weights have 11 digits; the last chunk of `d x` is copied one by one."""
    made = on_tiles(attention(64, normaliser, "q >= x", values))
    assert made.run(made.inputs(101, 101)).error() < 3 * 2.0**-11


def test_every_number_of_f8_in_tiles() -> None:
    """NaN, subnormal numbers and the largest, through shared memory as f16."""
    made = on_tiles(attention())
    inputs = made.inputs(1, 64)
    inputs[1][:] = 0.0
    inputs[4][:] = 0.0
    inputs[4][0, 5] = 64.0  # the weight of every key is 1 / 64
    every = float8_numbers(np.arange(256, dtype=np.uint8))
    for part in np.split(every, 4):
        inputs[5][0, 5] = part
        np.testing.assert_array_equal(made.run(inputs).found[0][0, 0], part)


def test_one_query_on_tiles() -> None:
    """Rows that are one vector are read straight from memory."""
    made = on_tiles(attention().replace("h q", "h"))
    assert made.run(made.inputs(1, 75)).error() < 3 * 2.0**-11


REFUSED = {
    "as precise": (attention(), CompileOptions(target="nvptx:sm_90a")),
    "not along": (attention().replace("K: h x d", "K: h d x"), HIGH),
    "computed": (attention().replace("Y = f32(Q) * A", "Y = exp(f32(Q)) * A"), HIGH),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_does_not_suit_warpgroups(reason: str) -> None:
    text, options = REFUSED[reason]
    with use(options):
        _module, (kernel,) = kernels_of(text, options.target)
    with kernel.context, ir.Location.unknown(), pytest.raises(UnsupportedError, match=reason):
        lower_warpgroups(kernel, parse_arch("sm_90a"), schedule=TileSchedule(warps=8, producers=4))


@pytest.mark.parametrize("d", [64, 128])
def test_warpgroups_come_first(d: int) -> None:
    with use(HIGH):
        _module, (kernel,) = kernels_of(attention(d, where="q >= x"), HIGH.target)
        with kernel.context, ir.Location.unknown():
            first = tile_schedules(kernel, parse_arch("sm_90a"))[0]
    assert (first.producers, first.warps, first.chunk) == (4, 8, 64)


@pytest.mark.skipif(find_tool() is None, reason="NOT TESTED: registers, for there is no ptxas")
@pytest.mark.parametrize("d", [64, 128])
def test_gates(d: int) -> None:
    """Nothing spills or is serialised, which is an error of `assemble`; arithmetic overlaps."""
    _module, kernel, built = warpgroup_module(attention(d, where="q >= x"))
    with kernel.context, ir.Location.unknown():
        made = compile_module(built.module)
    (launch,) = built.launches
    used = made.resources[launch.symbol]
    assert used.spills == 0
    assert not lacking_registers(made.ptx, launch.symbol, launch.threads, used.registers)
    assert misuses(made.ptx) == []
    assert "e4m3.e4m3" in made.ptx
    assert made.cubin is not None
    sass = disassemble(made.cubin)
    if sass is None:
        pytest.skip("NOT TESTED: machine code, for there is neither nvdisasm nor cuobjdump")
    order = re.findall(r"QGMMA|MUFU\.EX2|STSM|WARPGROUP\.DEPBAR", sass)
    loops = " ".join(order).split("WARPGROUP.DEPBAR")
    wanted = re.compile(r"^ (QGMMA )+(STSM )+(MUFU\.EX2 ){32,}(QGMMA )+(MUFU\.EX2 )*$")
    assert any(wanted.match(part) for part in loops)
