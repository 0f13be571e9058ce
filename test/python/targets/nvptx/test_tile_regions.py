"""Tiles beyond attention: Gram states, what applies them, parts of a stream, refusals."""

import numpy as np
import pytest

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.simulator.program import simulated_program
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import build_module
from diagc.targets.nvptx.tiles import regions
from diagc.targets.nvptx.tiles.lower import lower_tiles
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.agreement import Agreement, agreement
from diagc.testing.attention import Attention, two_sums
from diagc.testing.tile_kernels import (
    compile_tiles,
    kernels_of,
    random_inputs,
    run_tiles,
    translate_module,
)

BF16 = 3 * 2.0**-9
SIZES = {"g": 2, "l": 41, "s": 87}


DECODE = Attention(heads="b, g = 2", group=4, queries="").text


def spherical(dtype: str, d: int = 32) -> Attention:
    return Attention(dtype=dtype, d=d, normaliser="l2", scores="S")


def error_of(kernel: ir.Operation, schedule: TileSchedule, sizes: dict[str, int]) -> float:
    built, compiled = compile_tiles(kernel, schedule)
    return run_tiles(kernel, built, compiled, random_inputs(built.signature, sizes)).error()


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
@pytest.mark.parametrize("split", [0, 48])
def test_gram_states_are_exact_in_f32(dtype: str, split: int) -> None:
    _module, kernels = kernels_of(spherical(dtype).text)
    schedule = TileSchedule(warps=2, chunk=16, split=split)
    assert error_of(kernels[0], schedule, SIZES) < 4e-6


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 2.0**-8), ("f16", 2.0**-11)])
def test_gram_states_are_applied_without_rounding_them(dtype: str, tolerance: float) -> None:
    _module, kernels = kernels_of(spherical(dtype).text)
    assert error_of(kernels[1], TileSchedule(warps=2, chunk=16), SIZES) < tolerance


ADDED = """
axis h, q, x, d = 16, e = 16
diagram added(Q: h q d bf16, K: h x d bf16, V: h x e bf16, W: h d e f32) {{
  S: h q x f32 = Q . K over d
  O: h q e f32 = where(q >= x, S, 0.0) . V over x
  R: h q e f32 = Q . W over d
  return O + R * {factor}
}}
"""


@pytest.mark.parametrize(
    ("factor", "inverse", "divides"),
    [(0.3, "3.33333325 ", True), (-4.0, "-2.500000e-01", True), (1e3, "1.000000e-03", False)],
)
def test_a_multiple_of_a_product_is_added_in_its_registers(
    factor: float, inverse: str, divides: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums begin with what is divided by the factor; not where that is far from 1.

    Against sums that begin with 0, digits of f32 alone differ; weights are rounded to bf16.
    """
    _module, (kernel,) = kernels_of(ADDED.format(factor=factor))
    runs = []
    for least in (regions._LEAST_FACTOR, float("inf")):
        monkeypatch.setattr(regions, "_LEAST_FACTOR", least)
        with kernel.context, ir.Location.unknown():
            built = lower_tiles(kernel, parse_arch("sm_80"), TileSchedule(warps=2, chunk=16))
        constants = [x for x in str(built.module).splitlines() if "arith.constant" in x]
        begins = any(f"constant {inverse}" in line for line in constants)
        assert begins == (divides and least < 1)
        text = translate_module(built)
        runs.append(run_tiles(kernel, built, text, random_inputs(built.signature, SIZES)))
        assert runs[-1].error() < BF16
    (found,), (apart,) = (run.found for run in runs)
    assert np.abs(found - apart).max() <= 1e-6 * np.abs(apart).max()


@pytest.mark.parametrize("sizes", [SIZES, {"g": 1, "l": 1, "s": 32}, {"g": 2, "l": 1, "s": 5}])
def test_parts_of_a_stream_are_joined(sizes: dict[str, int]) -> None:
    _module, (kernel,) = kernels_of(DECODE)
    assert error_of(kernel, TileSchedule(warps=1, chunk=16, split=32), sizes) < BF16


@pytest.mark.parametrize("mask", ["", "q >= x", "(q >= x) and (q - x < 20)"])
def test_blocks_of_many_rows_share_their_stream_too(mask: str) -> None:
    """Some parts have no position that a block of rows may see."""
    _module, (kernel,) = kernels_of(Attention(mask, d=32).text)
    schedule = TileSchedule(row_blocks=2, warps=1, chunk=16, stages=3, split=32)
    assert error_of(kernel, schedule, {"g": 1, "l": 70, "s": 100}) < BF16


def test_few_rows_share_their_stream_by_themselves() -> None:
    _module, (kernel,) = kernels_of(DECODE)
    with kernel.context, ir.Location.unknown():
        built = build_module(kernel, parse_arch("sm_80"))
    text = translate_module(built)
    for batch, launches in ((1, 2), (40, 1)):
        inputs = random_inputs(built.signature, {"g": batch, "s": 600})
        found = run_tiles(kernel, built, text, inputs)
        assert len(found.reports) == launches
        assert found.error() < BF16


def test_statistics_of_rows_are_results_too() -> None:
    _module, kernels = kernels_of(two_sums(32))
    streams = [k for k in kernels if any(op.name == "diag.stream" for op in _ops(k))]
    assert len(streams) == 1
    assert len(diag.function_body(streams[0]).operations) > 1
    assert error_of(streams[0], TileSchedule(warps=2, chunk=16), SIZES) < BF16


def _ops(kernel: ir.Operation) -> list[ir.Operation]:
    return list(diag.walk_ops(kernel.regions[0]))


REFUSED = {
    "no contraction": (
        """axis q, x
diagram sums(A: q x f32) {
  return softmax(A) along x
}
""",
        "rows and columns",
    ),
    "f64": (
        """axis h, q, x, d = 32
diagram double(Q: h q d f64, K: h x d f64, V: h x d f64) {
  P = softmax(Q . K over d) along x
  return P . V over x
}
""",
        "f64",
    ),
}


def test_columns_that_a_kernel_computes_are_right_or_refused() -> None:
    text = """axis h, q, x, d = 32, e = 48
diagram values(Q: q h d f32, K: x h d f32, X: x e f32, W: h d e f32) {
  V = X . W over e
  P = softmax(Q . K over d) along x where (q >= x)
  return P . V over x
}
"""
    _module, kernels = kernels_of(text)
    streams = [k for k in kernels if any(op.name == "diag.stream" for op in _ops(k))]
    assert streams
    for kernel in streams:
        try:
            built, compiled = compile_tiles(kernel)
        except UnsupportedError:
            continue
        inputs = random_inputs(built.signature, SIZES)
        assert run_tiles(kernel, built, compiled, inputs).error() < BF16


def test_a_kernel_without_a_grid() -> None:
    text = """axis q, x, d = 32
diagram alone(Q: q d bf16, K: x d bf16, V: x d bf16) {
  S: q x f32 = Q . K over d
  P = l1(S) along x where (q >= x)
  return P . V over x
}
"""
    _module, (kernel,) = kernels_of(text)
    assert error_of(kernel, TileSchedule(warps=2, chunk=16), SIZES) < BF16


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(case: str) -> None:
    text, reason = REFUSED[case]
    _module, kernels = kernels_of(text)
    with pytest.raises(UnsupportedError, match=reason):
        lower_tiles(kernels[0], parse_arch("sm_80"))


@pytest.mark.parametrize("split", [0, 32])
def test_sums_over_more_rows_than_a_block_has_are_refused(split: int) -> None:
    _module, (gram, _apply) = kernels_of(spherical("bf16", 48).text)
    few = TileSchedule(warps=1, chunk=16, split=split)
    with pytest.raises(UnsupportedError, match=r"of 48 rows.*blocks have 16") as caught:
        lower_tiles(gram, parse_arch("sm_80"), schedule=few)
    assert "warps" in str(caught.value.remedy)
    assert error_of(gram, TileSchedule(warps=3, chunk=16, split=split), SIZES) < 4e-6


def test_a_split_of_what_cannot_be_joined_is_refused() -> None:
    _module, (_gram, apply) = kernels_of(spherical("bf16").text)
    with pytest.raises(UnsupportedError, match="splits the stream"):
        lower_tiles(apply, parse_arch("sm_80"), schedule=TileSchedule(warps=2, chunk=16, split=32))


@pytest.mark.parametrize("empty", ["h", "q", "x", "d"])
def test_static_empty_axes_go_to_threads(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAGC_CACHE", "0")
    sizes = {"h": 2, "q": 5, "x": 7, "d": 32} | {empty: 0}
    axes = ", ".join(f"{label} = {size}" for label, size in sizes.items())
    source = f"""axis {axes}
diagram empty(Q: h q d f32, K: h x d f32, V: h x d f32) {{
  P = softmax(Q . K over d) along x
  return P . V over x
}}
"""
    both = agreement(source, target="nvptx")
    simulated = Agreement(simulated_program(both.program), both.reference)
    assert simulated.fall_backs == []
    assert simulated.worst([{}]) < 1e-5
