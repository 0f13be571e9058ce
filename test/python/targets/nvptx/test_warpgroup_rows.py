"""Warpgroups: arrays with rows and keys, rows of several heads, few rows, streams in parts."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.warpgroups.lower import warpgroup_plan_schedules
from diagc.testing.attention import Attention
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    Placement,
    kernels_of,
    random_inputs,
    run_tiles,
    translate_module,
)
from diagc.testing.warpgroup_runs import TARGET, TOLERANCE, lower_diagram, run_diagram

CHUNK, STAGES = 32, 2


@dataclass(frozen=True)
class Form(Attention):
    """A diagram, and its sizes."""

    chunk: int = 32
    sizes: dict[str, int] = field(default_factory=lambda: {"g": 1, "l": 137, "s": 152})


BIASED = "S * 0.125 + B"
LONG = {"g": 1, "l": 130, "s": 5 * 128}
MASKED = {"g": 1, "l": 137, "s": 144}
FORMS = {
    "bias of each head": Form(arguments="B: h q x bf16", scores=BIASED),
    "bias of all heads, f16": Form(
        dtype="f16",
        arguments="B: q x f16",
        scores=BIASED,
        sizes={"g": 2, "l": 129, "s": 136},
    ),
    "bias in f32": Form(
        arguments="B: q x f32", scores="S + B", chunk=64, sizes={"g": 1, "l": 130, "s": 284}
    ),
    "bias and causal": Form("q + 10 >= x", arguments="B: h q x bf16", scores=BIASED),
    "factor": Form(arguments="B: q x bf16", scores="S * B", normaliser="l1"),
    "bias, no exponential": Form(arguments="B: h q x bf16", scores="S + B", normaliser="relu_sum"),
    "mask of each head": Form("M", arguments="M: h q x i1", sizes=MASKED),
    "mask of all heads, causal": Form(
        "M and q + 5 >= x", arguments="M: q x i1", scores="S * 0.17", sizes=MASKED
    ),
    "mask, chunks of a panel": Form("M", arguments="M: q x i1", chunk=128, sizes=LONG),
    "mask, l2": Form("M", arguments="M: q x i1", scores="S", normaliser="l2", sizes=MASKED),
    "bias and mask": Form("M", arguments="B: q x bf16, M: h q x i1", scores=BIASED, sizes=MASKED),
    "two biases": Form(arguments="B: q x bf16, C: h q x f32", scores="S * 0.125 + B + C"),
}


@pytest.mark.parametrize("name", FORMS)
def test_rows_and_keys(name: str) -> None:
    form = FORMS[name]
    _built, run = run_diagram(form.text, form.sizes, form.chunk, STAGES)
    assert run.error_of_averages() < TOLERANCE[form.dtype]


# ---- query heads that share keys -----------------------------------------------------------------


@dataclass(frozen=True)
class Heads(Attention):
    """Heads that are rows of a block, and how many rows and keys."""

    rows: int = 64 + 7
    keys: int = 2 * 2 * 32 + 17


HEADS = {
    "2 heads": Heads(group=2),
    "4 heads, causal": Heads("q + 110 >= x", group=4, rows=32 + 5),
    "8 heads, window": Heads("(q + 128 >= x) and (q - x < 1)", group=8, rows=16 + 3),
    "16 heads": Heads(group=16, rows=8 + 1),
    "heads behind queries": Heads(group=4, rows=32 + 9, group_last=True),
    "bias of all heads": Heads(group=4, rows=40, keys=152, arguments="B: q x bf16", scores=BIASED),
    "bias of each head": Heads(
        group=8, rows=17, keys=152, arguments="B: r q x bf16", scores=BIASED
    ),
    "slopes of heads": Heads(group=4, rows=37, arguments="B: r f32", scores=BIASED),
    "mask of keys by head": Heads("M", group=4, rows=37, arguments="M: h r x i1"),
    "mask of each head": Heads("M", group=2, rows=66, keys=144, arguments="M: r q x i1"),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_as_rows(name: str) -> None:
    heads = HEADS[name]
    built, run = run_diagram(heads.text, {"g": 1, "l": heads.rows, "s": heads.keys}, CHUNK)
    assert built.tiles is not None
    assert built.tiles.packed == heads.group
    assert run.error_of_averages() < TOLERANCE["bf16"]


def test_heads_of_one_array_of_keys() -> None:
    """No axis is shared by queries and keys but the summed one."""
    built, run = run_diagram(Attention(heads="", group=4).text, {"l": 45, "s": 140}, CHUNK)
    assert built.tiles is not None
    assert built.tiles.packed == 4
    assert run.error_of_averages() < TOLERANCE["bf16"]


@pytest.mark.parametrize("r", [3, 32])
def test_what_is_not_packed(r: int) -> None:
    """Heads that do not divide the rows of a block, or leave each too few, are blocks' own."""
    built, run = run_diagram(Heads(group=r).text, {"g": 1, "l": 10, "s": 40}, CHUNK)
    assert built.tiles is not None
    assert built.tiles.packed == 1
    assert run.error_of_averages() < TOLERANCE["bf16"]


# ---- bounds that rows read -----------------------------------------------------------------------


READ = {"each head": (0, 0), "heads as rows": (2, 0), "streams in parts": (0, 2 * CHUNK)}


@pytest.mark.parametrize("name", READ)
def test_chunks_outside_of_what_rows_read_are_not_visited(name: str) -> None:
    """Integers in any order, some beyond the axis; what stands elsewhere may be anything."""
    group, split = READ[name]
    form = Attention("F <= x and x < G", d=32, arguments="F: q i32, G: h i32", group=group)
    _module, kernel, built = lower_diagram(form.text, CHUNK, split=split)
    text, rows, keys = translate_module(built), 130, 8 * CHUNK
    rng = np.random.default_rng(SEED)
    firsts, lasts = rng.integers(2 * CHUNK, 3 * CHUNK, rows), np.array([6 * CHUNK, 5 * CHUNK - 7])
    firsts[3] = 2**31 - 1  # no key at all
    firsts[-2:] = keys - 2 * CHUNK, -5  # of the last tile
    bounds = {(rows,): firsts, (2,): lasts}
    inputs = random_inputs(built.signature, {"g": 2, "l": rows, "s": keys}, SEED)
    inputs = [bounds.get(x.shape, x) for x in inputs]
    clean = run_tiles(kernel, built, text, inputs)
    assert clean.error_of_averages() < TOLERANCE["bf16"]
    values = inputs[-1]
    values[0, 6 * CHUNK :], values[1, 5 * CHUNK :] = np.nan, np.nan
    values[:, : 2 * CHUNK] = np.nan
    found = run_tiles(kernel, built, text, inputs).found[0]
    whole = slice(None, 128 // max(group, 1))  # tiles of which no row reads less
    assert np.array_equal(clean.found[0][..., whole, :], found[..., whole, :])
    assert np.isnan(found[..., whole.stop :, :]).any()


def test_blocks_do_not_stay_whose_length_is_not_known() -> None:
    text = Attention("F <= x", arguments="F: q i32").text
    _module, (kernel,) = kernels_of(text, TARGET)
    with kernel.context, ir.Location.unknown():
        schedules = warpgroup_plan_schedules(kernel, parse_arch("sm_90a"))
    assert schedules
    assert not any(schedule.stays for schedule in schedules)


# ---- few rows ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Few(Attention):
    """Rows of known number, how many keys, and the length of a part, 0 for one block a stream."""

    heads: str = "b"
    group: int = 4
    queries: str = ""
    keys: int = 5 * 32 + 9
    split: int = 64


FEW_ROWS = {
    "in one part": Few(split=0),
    "in parts": Few(),
    "a part of five chunks": Few(group=8, split=160, keys=200),
    "f16": Few(group=2, split=96, dtype="f16"),
    "wide": Few(d=128),
    "l1": Few(normaliser="l1"),
    "relu_sum": Few(group=8, normaliser="relu_sum"),
    "masked keys": Few("M", arguments="M: b x i1"),
    "bias": Few(keys=168, arguments="B: b r x bf16", scores=BIASED),
}


@pytest.mark.parametrize("name", FEW_ROWS)
def test_few_rows(name: str) -> None:
    few = FEW_ROWS[name]
    built, run = run_diagram(few.text, {"g": 2, "s": few.keys}, CHUNK, split=few.split)
    assert built.tiles is not None
    assert built.tiles.warps == 4
    assert len([x for x in built.launches if not x.least_parts]) == (2 if few.split else 1)
    assert run.error_of_averages() < TOLERANCE[few.dtype]


def test_few_queries_of_several_heads() -> None:
    """Twenty rows of one block; the last part is empty for it."""
    text = Attention("q + 130 >= x", heads="b", group=4, queries="q = 5").text
    built, run = run_diagram(text, {"g": 2, "s": 200}, CHUNK, split=64)
    assert built.tiles is not None
    assert (built.tiles.packed, built.tiles.warps) == (4, 4)
    assert run.error_of_averages() < TOLERANCE["bf16"]


def test_lines_further_apart() -> None:
    _built, run = run_diagram(
        HEADS["bias of each head"].text,
        {"g": 1, "l": 17, "s": 152},
        CHUNK,
        placement=Placement(gap=8),
    )
    assert run.error_of_averages() < TOLERANCE["bf16"]
