"""Warpgroups: several results share one place, whatever their lines and the way they leave."""

import pytest

from diagc.mlir import ir
from diagc.simulator import SimulatorOptions
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.tiles.lower import lower_tiles
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import kernels_of, random_inputs, run_tiles, translate_module
from diagc.testing.warpgroup_runs import TARGET, TOLERANCE

TEXT = """axis h, q, x, d = 32, e = {e}, f = {f}
diagram two(Q: h q d bf16, K: h x d bf16, V: h x e bf16, W: h x f bf16) {{
  S: h q x f32 = Q . K over d
  P = relu(S)
  O: {o} = P . V over x
  U: {u} = P . W over x
  return O, U
}}
"""
BOX, PLAIN = "h q {} bf16", "h {} q bf16"
"""A result whose lines a tensor map describes, and one whose lines go along rows."""
KINDS = {
    "other lines": (BOX, BOX),
    "box, then plain": (BOX, PLAIN),
    "plain, then box": (PLAIN, BOX),
}


@pytest.mark.parametrize(
    ("kind", "stays"), [*((kind, False) for kind in KINDS), ("other lines", True)]
)
def test_results_of_other_lines(kind: str, stays: bool) -> None:
    """Lines of 128 and of 64 bytes: those of a warp are another warp's of the other result."""
    first, second = KINDS[kind]
    text = TEXT.format(e=64, f=96, o=first.format("e"), u=second.format("f"))
    _module, (kernel,) = kernels_of(text, TARGET)
    schedule = TileSchedule(warps=8, chunk=32, stages=2, producers=4, stays=stays)
    with kernel.context, ir.Location.unknown():
        built = lower_warpgroups(kernel, parse_arch("sm_90a"), schedule=schedule)
    inputs = random_inputs(built.signature, {"g": 1, "l": 270 if stays else 130, "s": 40}, SEED)
    options = SimulatorOptions(multiprocessors=1, seed=2)
    run = run_tiles(kernel, built, translate_module(built), inputs, options=options)
    assert run.error_of_averages() < 4 * TOLERANCE["bf16"]


CHANGED = """axis h, q, x, d = {d}, e = 32
diagram changed(Q: h q d {dtype}, G: d {dtype}, K: h x d {dtype}, V: h x e {dtype}) {{
  R: h q d {dtype} = Q * G
  S: h q x f32 = R . K over d
  P = relu(S)
  O: h q e f32 = P . V over x
  return O, R
}}
"""


@pytest.mark.parametrize(
    ("arch", "dtype"), [("sm_90a", "bf16"), ("sm_80", "bf16"), ("sm_80", "f32")]
)
def test_rows_that_a_map_changes_are_a_result_too(arch: str, dtype: str) -> None:
    """They do not take the place of what they are made of, or the result would be changed twice."""
    _module, (kernel,) = kernels_of(CHANGED.format(d=128, dtype=dtype), TARGET)
    wide = arch == "sm_90a"
    schedule = TileSchedule(warps=8 if wide else 2, chunk=32, producers=4 if wide else 0)
    lower = lower_warpgroups if wide else lower_tiles
    with kernel.context, ir.Location.unknown():
        built = lower(kernel, parse_arch(arch), schedule)
    inputs = random_inputs(built.signature, {"g": 1, "l": 40, "s": 40}, SEED)
    run = run_tiles(kernel, built, translate_module(built), inputs)
    assert run.error_of_averages() < 4 * TOLERANCE["bf16"]
