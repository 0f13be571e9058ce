"""Products that lag a chunk behind, and blocks of three groups that compute."""

from dataclasses import replace

import pytest

from diagc.mlir import ir
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.tiles.plan import Plan, make_plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lagging_plan import early_products, lagging_products
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.targets.nvptx.warpgroups.schedule import warpgroup_schedules
from diagc.testing.attention import Attention
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import kernels_of, random_inputs, run_tiles, translate_module
from diagc.testing.warpgroup_runs import TARGET, TOLERANCE

FORM = Attention("q + 20 >= x", scores="S * 0.17")


def plan_of(text: str) -> tuple[ir.Module, Plan]:
    module, (kernel,) = kernels_of(text, TARGET)
    return module, make_plan(kernel, kernel_signature(kernel))


@pytest.mark.parametrize("normaliser", ["softmax", "l1", "l2"])
def test_products_that_are_added_to_states_lag(normaliser: str) -> None:
    _module, plan = plan_of(replace(FORM, normaliser=normaliser).text)
    (number,) = lagging_products(plan)
    assert number == (2 if normaliser == "softmax" else 1)
    assert len(early_products(plan)) == 1


def test_keys_that_are_values_do_not_lag() -> None:
    """Their stage would be read in two chunks."""
    _module, plan = plan_of(FORM.text.replace("P . V", "P . K").replace(", V: h x d bf16", ""))
    assert early_products(plan) == []
    assert lagging_products(plan) == {}


def test_products_that_are_read_in_the_stream_do_not_lag() -> None:
    _module, plan = plan_of(replace(FORM, normaliser="l1").text)
    (product,) = lagging_products(plan).values()
    (use,) = product.op.results[0].uses
    with plan.kernel.context, ir.Location.unknown(), ir.InsertionPoint(use.owner):
        use.owner.clone()  # a second reader
    assert lagging_products(plan) == {}


def test_registers_choose_the_number_of_groups() -> None:
    """Three share out as much as two: where sums are many, two alone remain."""
    arch = parse_arch("sm_90a")
    found = {}
    for d in (64, 256):
        _module, plan = plan_of(replace(FORM, d=d).text)
        found[d] = {schedule.warps for schedule in warpgroup_schedules(plan, arch)}
    assert found == {64: {8, 12}, 256: {8}}


@pytest.mark.parametrize(
    ("normaliser", "r", "rows", "keys"),
    [("softmax", 1, 199, 217), ("l2", 1, 300, 100), ("softmax", 4, 57, 150)],
)
def test_three_groups(normaliser: str, r: int, rows: int, keys: int) -> None:
    """192 rows of a block, also of several heads."""
    _module, (kernel,) = kernels_of(replace(FORM, group=r, normaliser=normaliser).text, TARGET)
    schedule = TileSchedule(warps=12, chunk=32, stages=2, producers=4, packed=r)
    with kernel.context, ir.Location.unknown():
        built = lower_warpgroups(kernel, parse_arch("sm_90a"), schedule=schedule)
    assert built.launches[0].threads == 512
    inputs = random_inputs(built.signature, {"g": 1, "l": rows, "s": keys}, SEED)
    run = run_tiles(kernel, built, translate_module(built), inputs)
    assert run.error_of_averages() < TOLERANCE["bf16"]
