"""Exponentials of differences from a row's maximum, however large scores and biases are."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.tiles.lower import lower_tiles
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.attention import Attention
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import TileRun, kernels_of, run_tiles, translate_module
from diagc.testing.warpgroup_runs import TARGET, TOLERANCE, lower_diagram

Array = npt.NDArray[Any]

ROWS, KEYS, D = 72, 130, 64
FAMILIES = ("warpgroups", "tiles")
LEAST, MOST = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)


def lowered(text: str, family: str) -> tuple[ir.Module, ir.Operation, GpuModule]:
    if family == "warpgroups":
        return lower_diagram(text, 32)
    module, (kernel,) = kernels_of(text, TARGET)
    with kernel.context, ir.Location.unknown():
        schedule = TileSchedule(warps=2, chunk=32)
        return module, kernel, lower_tiles(kernel, parse_arch("sm_80"), schedule=schedule)


def run(text: str, family: str, q: Array, k: Array, v: Array, bias: Array | None = None) -> TileRun:
    _module, kernel, built = lowered(text, family)
    columns = [k, v]
    inputs = []
    for wire in built.signature.args:
        kinds = [label[0] for label in wire.labels]
        if "l" in kinds:
            inputs.append(bias if "s" in kinds else q)
        else:
            inputs.append(columns.pop(0))
    return run_tiles(kernel, built, translate_module(built), [x for x in inputs if x is not None])


def large_scores(dtype: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """Queries and keys whose scores are +-2**a, for all a, and a few units of 2**(a - 20).

    They are exact in f32; up to 2**20 the unit is 1, and keys differ by factors of e.
    """
    top, shift = (27, 13) if dtype == "f16" else (90, 20)
    exponents = rng.permutation(np.arange(ROWS) % top)
    q, k = np.zeros((1, ROWS, D)), np.zeros((1, KEYS, D))
    q[0, :, 0] = rng.choice([-1.0, 1.0], ROWS) * 2.0 ** (exponents - shift)
    k[0, :, 0] = 2.0**shift
    q[0, :, 1] = 2.0 ** np.maximum(exponents - 20, 0)
    k[0, :, 1] = rng.integers(-8, 8, KEYS)
    return q, k


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_large_scores(family: str, dtype: str) -> None:
    rng = np.random.default_rng(SEED)
    q, k = large_scores(dtype, rng)
    text = Attention(dtype=dtype, scores="S").text
    done = run(text, family, q, k, rng.standard_normal(k.shape))
    assert np.isfinite(done.found[0]).all()
    assert done.error() < TOLERANCE[dtype]


@pytest.mark.parametrize("family", FAMILIES)
def test_large_biases(family: str) -> None:
    """Whole rows of -inf are 0, whole rows of any other number are means of all values."""
    rng = np.random.default_rng(SEED)
    numbers = [-np.inf, LEAST, -3e38, -2.5e38, -1e30, 1e30, 2.5e38, MOST]
    bias = np.zeros((1, ROWS, KEYS))
    for row in range(ROWS):
        bias[0, row] = numbers[row % len(numbers)]
        if row >= 4 * len(numbers):  # all but the last chunk
            bias[0, row, 100 + row % 20 :] = 0
    q, k, v = (rng.standard_normal((1, n, D)) for n in (ROWS, KEYS, KEYS))
    text = Attention(arguments="B: h q x f32", scores="S + B").text
    done = run(text, family, q, k, v, bias)
    assert np.isfinite(done.found[0]).all()
    assert done.error() < TOLERANCE["bf16"]
    assert not done.found[0][0, 0].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_instruction(family: str) -> None:
    """Of a score there is no subtraction; products of f32 keep theirs, which is exact."""
    _module, _kernel, built = lowered(Attention(scores="S").text, family)
    text = translate_module(built)
    powers = text.count("call float @llvm.nvvm.ex2.approx.ftz.f")
    assert text.count("fsub") < powers / 3
    if family == "tiles":
        _module, _kernel, built = lowered(Attention(dtype="f32", scores="S").text, family)
        exact = translate_module(built)
        assert exact.count("fsub") >= exact.count("call float @llvm.nvvm.ex2.approx.ftz.f") > 0
