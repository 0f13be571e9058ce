"""Groups that issue their products in turns: numbers, what is refused, what is found."""

from dataclasses import dataclass, replace

import pytest

from diagc.cost import device_of_architecture
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.options import current, use
from diagc.simulator import SimulatorOptions
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.forms import describe_forms
from diagc.targets.nvptx.lowering import GpuModule, build_module
from diagc.targets.nvptx.selection import TILES, choose_tiles, compared_tiles, tiles_attribute
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.testing.attention import Attention
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    compiled_as,
    kernels_of,
    random_inputs,
    run_tiles,
    translate_module,
)
from diagc.testing.warpgroup_runs import TARGET, TOLERANCE


@dataclass(frozen=True)
class Form(Attention):
    """A diagram, its sizes and its blocks; with three chunks and more, tails on rows and keys."""

    scores: str = "S * 0.17"
    rows: int = 300
    keys: int = 150
    grid: int = 1
    chunk: int = 32
    stages: int = 2
    groups: int = 2
    stays: bool = False
    split: int = 0


CAUSAL = "q >= x"
FORMS = {
    "all keys": Form(),
    "three groups": Form(groups=3),
    "causal": Form(CAUSAL),
    "causal, three groups that stay": Form(CAUSAL, groups=3, rows=500, keys=217, stays=True),
    "blocks that stay": Form(grid=2, stays=True),
    "causal, blocks that stay": Form(CAUSAL, grid=2, stays=True, stages=3),
    "some rows see no key": Form("q - 150 >= x", stays=True, grid=2),
    "window, no exponentials": Form(
        "(q >= x) and (q - x < 143)", normaliser="l1", keys=300, stays=True
    ),
    "four heads as rows": Form("q + 75 >= x", "f16", group=4, rows=75, stays=True),
    "four heads as rows, three groups": Form("q + 90 >= x", group=4, rows=57, groups=3),
    "bias": Form("q + 10 >= x", arguments="B: h q x bf16", scores="S + B", keys=152),
    "mask": Form("M", arguments="M: q x i1", keys=144, stays=True),
    "d = 128": Form(CAUSAL, "f16", d=128, chunk=64, rows=140, keys=280),
    "parts": Form(split=64, keys=280),
    "one chunk": Form(keys=20, stays=True, grid=2),
    "two chunks": Form(keys=33, grid=2),
}


def schedule_of(form: Form) -> TileSchedule:
    return TileSchedule(
        warps=4 * form.groups,
        chunk=form.chunk,
        stages=form.stages,
        producers=4,
        packed=form.group or 1,
        split=form.split,
        stays=form.stays,
        turns=True,
    )


def lowered(
    form: Form, schedule: TileSchedule, text: str = ""
) -> tuple[ir.Module, ir.Operation, GpuModule]:
    module, (kernel,) = kernels_of(text or form.text, TARGET)
    with kernel.context, ir.Location.unknown():
        return module, kernel, lower_warpgroups(kernel, parse_arch("sm_90a"), schedule=schedule)


def error_of(form: Form, sizes: dict[str, int], seed: int, multiprocessors: int) -> float:
    """Of a kernel's results where warps go on in the order of a seed."""
    _module, kernel, built = lowered(form, schedule_of(form))
    inputs = random_inputs(built.signature, sizes, SEED)
    options = SimulatorOptions(seed=seed, multiprocessors=multiprocessors)
    run = run_tiles(kernel, built, translate_module(built), inputs, options=options)
    return run.error_of_averages()


@pytest.mark.parametrize("name", FORMS)
def test_kernel(name: str) -> None:
    """Copies land as late as they may (seed 0), late in any order (2), at any time (1)."""
    form, number = FORMS[name], list(FORMS).index(name)
    sizes, places = {"g": form.grid, "l": form.rows, "s": form.keys}, 64 if form.split else 2
    assert error_of(form, sizes, number % 3, places) < TOLERANCE[form.dtype]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("groups", [2, 3])
def test_any_order_of_warps(groups: int, seed: int) -> None:
    form = Form(CAUSAL, groups=groups, rows=420, keys=420, stays=True)
    assert error_of(form, {"g": 1, "l": 420, "s": 420}, seed, 1) < TOLERANCE["bf16"]


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_stages_are_released_by_one_lane_while_others_read_on(seed: int) -> None:
    """A wait for products is that of a warp: what they have read is over for the lane, too."""
    form = FORMS["mask"]
    assert error_of(form, {"g": 1, "l": 300, "s": 144}, seed, 2) < TOLERANCE["bf16"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lanes_that_read_on_are_waited_for(seed: int) -> None:
    """Behind what all lanes have read of a mask they meet before one releases its stage."""
    form = FORMS["mask"]
    _module, kernel, built = lowered(form, schedule_of(form))
    lines = translate_module(built).splitlines()
    meets = [n for n, x in enumerate(lines) if "call void @llvm.nvvm.bar.warp.sync" in x]
    del lines[meets[0]]
    inputs = random_inputs(built.signature, {"g": 1, "l": 300, "s": 144}, SEED)
    options = SimulatorOptions(seed=seed, multiprocessors=2)
    with pytest.raises(AssertionError, match=r"race: |fence: "):
        run_tiles(kernel, built, "\n".join(lines), inputs, options=options)


# ---- when groups take turns ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "turns"),
    [
        (Form(), True),
        (Form(CAUSAL, d=128), True),
        (Form(d=96), True),
        (Form(d=192, e=128), False),
        (Form(d=256), False),
        (Form(CAUSAL, normaliser="l1"), False),
        (Form(group=4, queries="q = 4"), False),
    ],
    ids=["d = 64", "causal", "d = 96", "d = 192", "d = 256", "no exponentials", "one group"],
)
def test_rule(form: Form, turns: bool) -> None:
    """Both are candidates where there are several groups; the other one comes behind."""
    _module, (kernel,) = kernels_of(form.text, TARGET)
    with use(replace(current(), target=TARGET)), kernel.context, ir.Location.unknown():
        device = device_of_architecture("sm_90a")
        first = choose_tiles(kernel, {}, device)[0][0]
        compared = compared_tiles(kernel, {}, device)
    assert first.producers
    assert first.turns == turns
    assert (replace(first, turns=not turns) in compared) == (first.warps > 4)


@pytest.mark.parametrize("turns", [True, False])
def test_reason(turns: bool) -> None:
    """What is measured may be against the rule."""
    _module, (kernel,) = kernels_of(Form(d=128).text, TARGET)
    chosen = [replace(schedule_of(Form(chunk=64)), turns=turns), TileSchedule(chunk=32)]
    with kernel.context, ir.Location.unknown():
        kernel.attributes[TILES] = tiles_attribute(chosen)
        built = build_module(kernel, parse_arch("sm_90a"))
        _, line = describe_forms(kernel, compiled_as(built, "sm_90a"))
    how = "in turns" if turns else "at any time"
    assert line == (
        f"warpgroups issue their products {how}: special functions take 51% of the time of "
        "products; turns are the rule from 45% on"
    )


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(("groups", "values"), [(1, "P . V"), (2, "P . K")])
def test_groups_that_cannot_take_turns(groups: int, values: str) -> None:
    """Keys that are values are read twice in a chunk: nothing lags."""
    form = Form(groups=groups)
    text = form.text.replace("P . V", values)
    text = text.replace(", V: h x d bf16", "") if groups > 1 else text
    with pytest.raises(UnsupportedError, match="only several groups whose last products lag"):
        lowered(form, schedule_of(form), text)


# ---- what is found -------------------------------------------------------------------------------

ARRIVE, SYNC = "barrier.cta.arrive", "barrier.cta.sync.aligned.count"
LEFT_OUT = {
    "first turn": (ARRIVE, 0, {"deadlock"}),
    "turn that is given on": (ARRIVE, 1, {"deadlock"}),
    "turn that is given on, chunks with a mask": (ARRIVE, 2, {"deadlock"}),
    "wait for a turn": (SYNC, 0, {"barrier-count", "deadlock"}),
    "last turn": (SYNC, -1, {"barrier-count"}),
}


def broken(change: str, seed: int, groups: int) -> str:
    """What the simulator says of a kernel that lacks a line."""
    form = replace(FORMS["causal, blocks that stay"], groups=groups)
    _module, kernel, built = lowered(form, schedule_of(form))
    lines = translate_module(built).splitlines()
    pattern, which, _ = LEFT_OUT[change]
    found = [n for n, x in enumerate(lines) if pattern in x and not x.startswith("declare")]
    del lines[found[which]]
    inputs = random_inputs(built.signature, {"g": 2, "l": 300, "s": 300}, SEED)
    options = SimulatorOptions(seed=seed, multiprocessors=1)
    with pytest.raises(AssertionError) as error:
        run_tiles(kernel, built, "\n".join(lines), inputs, options=options)
    return str(error.value)


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("change", LEFT_OUT)
def test_what_is_left_out_is_found(change: str, seed: int, groups: int) -> None:
    report = broken(change, seed, groups)
    assert any(f"{kind}: " in report for kind in LEFT_OUT[change][2]), report
