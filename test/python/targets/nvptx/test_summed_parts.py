"""States that are plain sums: all multiprocessors add many parts before they are joined.

Both sides of the rule are run in the simulator; the workspace is poisoned.
"""

from dataclasses import replace

import numpy as np
import pytest

from diagc.mlir import ir
from diagc.runtime.numpy_launch import call_numpy
from diagc.simulator import SimulatorOptions
from diagc.simulator.kernel import SimulatedKernel
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import build_module
from diagc.targets.nvptx.selection import TILES, tiles_attribute
from diagc.targets.nvptx.tiles.lower import lower_tiles
from diagc.targets.nvptx.tiles.parts import least_summed, part_elements
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.splitting import SUM_ELEMENTS
from diagc.targets.nvptx.tiles.traffic import tile_traffic
from diagc.targets.nvptx.warpgroups.lower import warpgroup_plan_schedules
from diagc.testing.attention import Attention
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    TileRun,
    kernels_of,
    random_inputs,
    run_tiles,
    stored,
    translate_module,
)
from diagc.testing.warpgroup_runs import TOLERANCE, run_diagram

SPLIT = TileSchedule(warps=8, chunk=16, split=16, blocks_per_sm=2)
LEAST = 1 + 2 + 8  # of 8192 elements a block

MOMENTS = """
axis h, x, d = {d}, e = {e}
diagram moments(K: h x d {dtype}, V: h x e {dtype}) {{
  M: h d e f32 = K . V over x
  return M
}}
"""
DECODE = Attention(heads="b", group=16, queries="", d=256, normaliser="l1", scores="S")
CAUSAL = Attention("q + 20 >= x", heads="b", queries="q = 16", d=256, normaliser="l1", scores="S")


def lowered(text: str, schedule: TileSchedule) -> tuple[ir.Module, ir.Operation, list[str]]:
    module, (kernel, *_) = kernels_of(text, "nvptx:sm_80")
    built = lower_tiles(kernel, parse_arch("sm_80"), schedule)
    names = [launch.symbol.rpartition("_")[2] for launch in built.launches]
    return module, kernel, names


def run(text: str, schedule: TileSchedule, sizes: dict[str, int]) -> tuple[TileRun, list[str]]:
    """The first kernel of a diagram, and which of its launches ran."""
    _module, (kernel, *_) = kernels_of(text, "nvptx:sm_80")
    built = lower_tiles(kernel, parse_arch("sm_80"), schedule)
    arrays = random_inputs(built.signature, sizes, SEED)
    options = SimulatorOptions(multiprocessors=132)
    found = run_tiles(kernel, built, translate_module(built), arrays, options=options)
    named = {axis.label: sizes[axis.label[0]] for axis in built.signature.axes if not axis.size}
    plan = make_plan(kernel, kernel_signature(kernel))
    moved = tile_traffic(plan, schedule, named, multiprocessors=options.multiprocessors)
    counted = [report.counters for report in found.reports]
    assert moved.written == sum(each.global_write_bytes for each in counted)
    assert moved.read == sum(each.global_read_bytes for each in counted)
    return found, [name.rpartition("_")[2] for r in found.reports for name in r.kernels]


@pytest.mark.parametrize(
    ("keys", "launches"),
    [
        (16 * LEAST, ["parts", "sum", "join"]),
        (16 * LEAST + 48, ["parts", "sum", "join"]),  # two parts of four, and some
        (16 * (LEAST - 1), ["parts", "join"]),
        (16, ["parts", "join"]),
    ],
)
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_both_sides_of_the_rule(dtype: str, keys: int, launches: list[str]) -> None:
    text = MOMENTS.format(dtype=dtype, d=64, e=128)
    found, names = run(text, SPLIT, {"g": 2, "s": keys})
    assert names == launches
    assert found.error() < 4e-6


def test_states_that_are_no_multiple_of_a_block() -> None:
    """48 rows and 104 columns, which have places for 112: 10.5 blocks of 512."""
    schedule = TileSchedule(warps=3, chunk=16, split=16, blocks_per_sm=1)
    text = MOMENTS.format(dtype="bf16", d=128, e=104)
    _module, (kernel, *_) = kernels_of(text, "nvptx:sm_80")
    plan = make_plan(kernel, kernel_signature(kernel))
    assert part_elements(plan, schedule.warps, schedule.row_blocks) % SUM_ELEMENTS
    found, names = run(text, schedule, {"g": 1, "s": 16 * least_summed(plan, schedule)})
    assert names == ["parts", "sum", "join"]
    assert found.error() < 4e-6


@pytest.mark.parametrize("form", [DECODE, CAUSAL], ids=["decoding", "parts that are empty"])
def test_rows_and_a_statistic(form: Attention) -> None:
    """Two states, which the stream's tail divides; a mask leaves nothing to the last parts."""
    schedule = TileSchedule(warps=1, chunk=16, split=16, blocks_per_sm=1)
    found, names = run(form.text, schedule, {"g": 2, "b": 2, "s": 16 * 18})
    assert names == ["parts", "sum", "join"]
    assert found.error() < 2.0**-7


def test_warpgroups() -> None:
    few = Attention(heads="b", group=4, queries="", normaliser="l1")
    built, found = run_diagram(few.text, {"g": 1, "s": 32 * 19}, 32, split=32)
    assert [launch.least_parts for launch in built.launches] == [0, 19, 0]
    assert len(found.reports) == 3
    assert found.error_of_averages() < TOLERANCE["bf16"]


@pytest.mark.parametrize("keys", [32 * 19, 32 * 4])
def test_launches_with_tensor_maps_get_them_however_many_run(keys: int) -> None:
    text = Attention(heads="b", group=4, queries="", normaliser="l1").text
    _module, (kernel,) = kernels_of(text, "nvptx:sm_90a")
    arch = parse_arch("sm_90a")
    with kernel.context, ir.Location.unknown():
        first = replace(warpgroup_plan_schedules(kernel, arch)[0], split=32, chunk=32)
        kernel.attributes[TILES] = tiles_attribute([first, TileSchedule(warps=1)])
        built = build_module(kernel, arch)
    options = SimulatorOptions(multiprocessors=64)
    simulated = SimulatedKernel(built.as_kernel("sm_90a"), translate_module(built), options)
    inputs = random_inputs(built.signature, {"g": 1, "b": 1, "s": keys}, SEED)
    result = np.zeros((*inputs[0].shape[:-1], 64), dtype=np.uint16)
    call_numpy(simulated, [stored(x, "bf16") for x in inputs], [result])
    (report,) = simulated.reports
    assert report.clean
    names = [name.rpartition("_")[2] for name in report.kernels]
    assert names == (["parts", "sum", "join"] if keys > 32 * 4 else ["parts", "join"])


def test_states_that_are_not_sums_are_joined_alone() -> None:
    schedule = TileSchedule(warps=1, chunk=16, split=16, blocks_per_sm=1)
    text = Attention(heads="b", group=16, queries="", d=256).text
    assert lowered(text, schedule)[2] == ["parts", "join"]


def test_small_states_are_joined_alone() -> None:
    few = TileSchedule(warps=1, chunk=16, split=16)
    text = Attention(heads="b", group=4, queries="", normaliser="l1").text
    assert lowered(text, few)[2] == ["parts", "join"]
