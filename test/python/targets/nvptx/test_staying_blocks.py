"""Warpgroups in blocks that take several tiles: their order, their memory, when they are chosen."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest

from diagc.context import make_context
from diagc.cost import device_of_architecture
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.options import current, use
from diagc.simulator import SimulatorOptions
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.selection import choose_tiles
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.traffic import tile_traffic
from diagc.targets.nvptx.warpgroups import arena
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.targets.nvptx.warpgroups.order import TileOrder
from diagc.targets.nvptx.warpgroups.schedule import warpgroup_schedules
from diagc.testing.attention import Attention
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import kernels_of, random_inputs, run_tiles, translate_module
from diagc.testing.warpgroup_runs import TARGET, TOLERANCE

SEEN = 2 * 2 * 32 + 15


@pytest.fixture(name="code")
def emitter_of_nothing() -> Code:
    """Numbers in Python need no code, but its types need a context."""
    with make_context(), ir.Location.unknown():
        return Code()


# ---- the order -----------------------------------------------------------------------------------


def order(
    code: Code, tiles: int, heads: int, blocks: int, *, grows: bool = True
) -> list[list[tuple[int, int]]]:
    """(tile, head) of every block, in order."""
    found = []
    for block in range(blocks):
        one = TileOrder(code, tiles, heads, blocks, block, grows)
        assert isinstance(one.sections, int)
        mine = []
        for section in range(one.sections):
            rounds = one.rounds(section)
            assert isinstance(rounds, int)
            mine += [one.tile(section, turn) for turn in range(rounds)]
        found.append([(int(str(tile)), int(str(head))) for tile, head in mine])
    return found


@pytest.mark.parametrize("grows", [True, False])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (3, 5, 2), (8, 24, 132), (8, 256, 132), (128, 16, 132), (7, 13, 5)]
)
def test_every_tile_is_taken_once(code: Code, sizes: tuple[int, int, int], grows: bool) -> None:
    tiles, heads, _blocks = sizes
    taken = Counter(x for mine in order(code, *sizes, grows=grows) for x in mine)
    assert taken == Counter((t, h) for t in range(tiles) for h in range(heads))


@pytest.mark.parametrize(
    ("tiles", "heads"), [(8, 256), (16, 128), (32, 64), (64, 32), (128, 16), (256, 8), (24, 40)]
)
def test_causal_tiles_are_shared_out_evenly(code: Code, tiles: int, heads: int) -> None:
    """At most 4 % more than the average, but for the longest tile of few rounds."""
    loads = [sum(tile + 1 for tile, _ in mine) for mine in order(code, tiles, heads, 132)]
    mean = sum(loads) / len(loads)
    assert max(loads) <= 1.04 * mean
    # in the order of numbers, block by block, it would be far worse
    plain = [0] * 132
    for number in range(tiles * heads):
        plain[number % 132] += tiles - number % tiles
    assert max(plain) > 1.07 * mean


def test_blocks_work_on_few_heads_at_a_time(code: Code) -> None:
    """A section has about four tiles for each of 132 blocks: 512 of 4096, of 32 of 256 heads."""
    heads = {head for mine in order(code, 16, 256, 132) for _, head in mine[:3]}
    assert heads == set(range(32))


# ---- kernels -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form(Attention):
    """A diagram and its sizes: 300 rows are three tiles of 128, the last one partly filled."""

    scores: str = "S * 0.17"
    rows: int = 300
    keys: int = SEEN
    grid: int = 2
    chunk: int = 32
    stages: int = 2


CAUSAL, WINDOW = "q >= x", "(q >= x) and (q - x < 143)"
FORMS = {
    "all keys": Form(),
    "causal": Form(CAUSAL),
    "causal, three stages": Form(CAUSAL, "f16", stages=3, keys=2 * 3 * 32 + 7),
    "some rows see no key": Form("q - 150 >= x"),
    "window, l1": Form(WINDOW, normaliser="l1", keys=300),
    "l2, causal": Form(CAUSAL, normaliser="l2", scores="S"),
    "values of 128 columns": Form(CAUSAL, e=128),
    "d = 128, f16": Form(CAUSAL, "f16", d=128, e=128, chunk=64, grid=1, keys=280),
    "d = 192 and 128": Form(CAUSAL, d=192, e=128, rows=140, keys=150),
    "d = 256": Form(CAUSAL, d=256, e=256, rows=140, keys=90),
    "results in f32": Form(CAUSAL, result="f32"),
    "statistics": Form(scores="S", normaliser="l1", statistic="sum(abs(S)) over x"),
    "four heads as rows": Form(CAUSAL, group=4, rows=75, grid=1),
    "sixteen heads as rows": Form("q + 110 >= x", group=16, rows=21, grid=1),
    "bias": Form("q + 10 >= x", arguments="B: h q x bf16", scores="S + B", keys=152),
    "mask": Form("M", arguments="M: q x i1", keys=144),
    "one row": Form(rows=1),
    "one key": Form(keys=1),
}


def lowered(
    form: Form, *, stays: bool = True, split: int = 0
) -> tuple[ir.Module, ir.Operation, GpuModule]:
    schedule = TileSchedule(
        warps=8, chunk=form.chunk, stages=form.stages, producers=4, packed=form.group or 1
    )
    schedule = replace(schedule, stays=stays, split=split)
    module, (kernel,) = kernels_of(form.text, TARGET)
    with kernel.context, ir.Location.unknown():
        return module, kernel, lower_warpgroups(kernel, parse_arch("sm_90a"), schedule=schedule)


def judge(form: Form, *runs: tuple[int, int]) -> GpuModule:
    """Right numbers, no findings, the traffic that was predicted; `runs` are (seed, blocks)."""
    _module, kernel, built = lowered(form)
    assert built.launches[0].stays
    sizes = {"g": form.grid, "l": form.rows, "s": form.keys}
    inputs, text = random_inputs(built.signature, sizes, SEED), translate_module(built)
    plan = make_plan(kernel, kernel_signature(kernel))
    open_sizes = {x.label: sizes[x.label[0]] for x in built.signature.axes if x.size is None}
    assert built.tiles is not None
    expected = tile_traffic(plan, built.tiles, open_sizes)
    for seed, blocks in runs:
        options = SimulatorOptions(seed=seed, multiprocessors=blocks)
        run = run_tiles(kernel, built, text, inputs, options=options)
        assert run.error_of_averages() < TOLERANCE[form.dtype]
        counted = run.reports[0].counters
        assert counted.global_write_bytes == expected.written
        assert counted.global_read_bytes == pytest.approx(expected.read, rel=0.02)
    return built


@pytest.mark.parametrize("name", FORMS)
def test_kernel(name: str) -> None:
    number = list(FORMS).index(name)
    judge(FORMS[name], (number % 3, 1 + number % 2))


def test_any_number_of_blocks() -> None:
    judge(FORMS["causal"], (1, 3), (2, 5), (0, 132))


@pytest.mark.parametrize("name", ["causal", "four heads as rows"])
def test_results_in_the_place_of_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no other: the next rows wait for the stores, keys do not."""
    monkeypatch.setattr(arena, "_SHARED_BYTES", 0)
    form = FORMS[name]
    built = judge(form, (2, 2))
    alone = lowered(form, stays=False)[2]
    assert built.launches[0].shared_bytes == alone.launches[0].shared_bytes


@pytest.mark.parametrize("name", ["values of 128 columns", "results in f32"])
def test_results_without_a_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "_SHARED_BYTES", 0)
    with pytest.raises(UnsupportedError, match="have no place beside the next tiles"):
        lowered(FORMS[name])


def test_blocks_that_share_a_stream_do_not_stay() -> None:
    with pytest.raises(UnsupportedError, match="blocks cannot stay that share columns or a stream"):
        lowered(FORMS["all keys"], split=64)


CHANGES = {
    "release of rows": ("mbarrier.arrive.shared", -1, {"deadlock"}),
    "wait before results are written again": (
        "bulk.wait.group",
        0,
        {"source-overwritten", "race"},
    ),
    "wait at the end": ("bulk.wait.group", -1, {"in-flight"}),
    "meeting behind that wait": ("bar.warp.sync", -2, {"race", "source-overwritten"}),
}


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_left_out_is_found(name: str, seed: int) -> None:
    form = FORMS["causal"]
    _module, kernel, built = lowered(form)
    lines = translate_module(built).splitlines()
    pattern, which, kinds = CHANGES[name]
    found = [n for n, x in enumerate(lines) if pattern in x and not x.startswith("declare")]
    del lines[found[which]]
    inputs = random_inputs(built.signature, {"g": 2, "l": 300, "s": 150}, SEED)
    options = SimulatorOptions(seed=seed, multiprocessors=1)
    with pytest.raises(AssertionError) as error:
        run_tiles(kernel, built, "\n".join(lines), inputs, options=options)
    assert any(f"{kind}: " in str(error.value) for kind in kinds), str(error.value)


# ---- when blocks stay ----------------------------------------------------------------------------


def first_choice(form: Form, sizes: dict[str, int] | None = None) -> TileSchedule:
    _module, (kernel,) = kernels_of(form.text, TARGET)
    known = {}
    for axis in kernel_signature(kernel).axes:
        if axis.size is None and sizes:
            known[axis.label] = sizes[axis.label[0]]
    options = replace(current(), target=TARGET)
    with use(options), kernel.context, ir.Location.unknown():
        chosen, _ = choose_tiles(kernel, known, device_of_architecture("sm_90a"))
    return chosen[0]


@pytest.mark.parametrize(
    ("form", "sizes", "stays"),
    [
        (Form(CAUSAL), None, True),
        (Form(WINDOW), None, True),
        (Form(CAUSAL, d=128, e=128), None, True),
        (Form(d=128, e=128), None, False),
        (Form(d=128, e=128), {"g": 32, "l": 1024, "s": 1024}, True),
        (Form(d=128, e=128), {"g": 512, "l": 1024, "s": 1024}, False),
        (Form(CAUSAL, d=256, e=256), None, False),
    ],
    ids=["causal", "window", "d = 128", "all open", "few tiles", "many tiles", "registers"],
)
def test_rule(form: Form, sizes: dict[str, int] | None, stays: bool) -> None:
    chosen = first_choice(form, sizes)
    assert chosen.producers
    assert chosen.stays == stays


def test_few_rows_have_a_block_each() -> None:
    text = FORMS["all keys"].text.replace("axis h, q,", "axis h, q = 16,")
    _module, (kernel,) = kernels_of(text, TARGET)
    with kernel.context, ir.Location.unknown():
        plan = make_plan(kernel, kernel_signature(kernel))
        assert not any(each.stays for each in warpgroup_schedules(plan, parse_arch("sm_90a")))
