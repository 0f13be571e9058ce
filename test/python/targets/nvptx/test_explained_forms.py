"""What `explain` says about the forms of a kernel: how each cuts it, and why others are not there.

A kernel for Hopper that is not on warpgroups always has a reason, whatever kept it from there.
"""

import pytest
import torch
import torch.nn.functional as F

import diagc
from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.forms import describe_forms, describe_schedule
from diagc.targets.nvptx.lowering import build_module, build_modules
from diagc.targets.nvptx.selection import TILES, tiles_attribute
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.attention import Attention
from diagc.testing.diagrams import diagram
from diagc.testing.tile_kernels import compiled_as, kernels_of
from diagc.testing.warpgroup_runs import TARGET

ARCH = parse_arch("sm_90a")
GROUP, TILES_ALONE = TileSchedule(warps=8, producers=4, chunk=32), TileSchedule(chunk=32)
ROW = ("S: b x {0} = Q . K over d", "return sum(exp(S)) over x")


def one_row(dtype: str) -> str:
    body = (line.format(dtype) for line in ROW)
    return diagram(f"Q: b d {dtype}, K: b x d {dtype}", *body, axes="axis b, x, d = 64")


TWO_VALUES = diagram(
    "Q: h q d bf16, K: h x d bf16, V: h x e bf16, W: h x e bf16",
    "S: h q x f32 = Q . K over d",
    "P = softmax(S) along x",
    "O: h q e bf16 = P . V over x",
    "U: h q e bf16 = P . W over x",
    "return O, U",
    axes="axis h, q, x, d = 64, e = 256",
)
REASONS = {
    "one row": (one_row("bf16"), "no warpgroups: there is one row"),
    "f32": (Attention(dtype="f32").text, "no warpgroups: 'arg0' is f32"),
    "values are wide": (Attention(d=320).text, "no warpgroups: it has more than 256 columns"),
    "registers": (
        TWO_VALUES,
        "no warpgroups: no tiles fit a block: sums take 308 registers of a thread, of 215 that "
        "there are",
    ),
    "walked rows": (
        Attention(d=1024, e=64, dtype="f16").text,
        "no tiles or warpgroups: no contraction is a matrix product with rows l",
    ),
    "no tiles": (one_row("f64"), "no tiles or warpgroups: elements are f64"),
    "no product": (
        diagram("X: b x bf16", "return sum(X) over x", axes="axis b, x"),
        "no tiles or warpgroups: there is no contraction whose result has rows and columns",
    ),
}


def test_warpgroups_need_no_reason() -> None:
    assert not any(line.startswith("no ") for line in described(Attention().text))


@pytest.mark.parametrize("name", REASONS)
def test_reason(name: str) -> None:
    text, reason = REASONS[name]
    assert described(text)[-1] == reason


def described(text: str) -> list[str]:
    _module, (kernel,) = kernels_of(text, TARGET)
    with kernel.context, ir.Location.unknown():
        return list(describe_forms(kernel, compiled_as(build_module(kernel, ARCH), "sm_90a")))


@pytest.mark.parametrize(
    ("tried", "reason"),
    [
        ((TILES_ALONE,), "no warpgroups: other forms are estimated to be faster"),
        (
            (GROUP, TILES_ALONE),
            "no warpgroups: they spill, or cannot be lowered: 128 rows by 8 warps in 2 warpgroups, "
            "chunks of 32, 2 stages",
        ),
    ],
)
def test_reason_of_what_fits(tried: tuple[TileSchedule, ...], reason: str) -> None:
    """It was not tried, or the compiler took what it tried behind it."""
    _module, (kernel,) = kernels_of(Attention().text, TARGET)
    with kernel.context, ir.Location.unknown():
        kernel.attributes[TILES] = tiles_attribute(tried)
        *_, last = build_modules(kernel, ARCH)
        assert list(describe_forms(kernel, compiled_as(last, "sm_90a")))[-1] == reason
        assert not any(
            form.startswith("no ") for form in describe_forms(kernel, compiled_as(last, "sm_80"))
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            Attention("q >= x", group=4).text,
            {"mode": "warpgroups", "grid": ["g0"], "block": {"l": 48, "d.4": 4}},
        ),
        (Attention(dtype="f32").text, {"mode": "tiles", "grid": ["g0"], "block": {"l": 128}}),
        (one_row("f64"), {"mode": "threads"}),
    ],
)
def test_the_schedule_is_that_of_the_form(text: str, expected: dict[str, object]) -> None:
    """Not that of a CPU, which the kernel carries, too."""
    _module, (kernel,) = kernels_of(text, TARGET)
    with kernel.context, ir.Location.unknown():
        built = build_module(kernel, ARCH)
        found = dict(describe_schedule(kernel, compiled_as(built, "sm_90a")))
    chunk = found.pop("chunk", None)
    assert found == expected
    assert chunk == (None if built.tiles is None else {"s": built.tiles.chunk})


def test_a_report_has_both() -> None:
    """Of short keys scores are stored, and values multiplied by a kernel of its own."""
    q = torch.empty(2, 40, 320, dtype=torch.bfloat16)
    compiled = diagc.compile(F.scaled_dot_product_attention, q, q, q, target=TARGET)
    text = compiled.explain()
    assert "schedule mode=warpgroups, grid=g0, block={d.40: 64}, chunk={s: " in text
    assert "schedule mode=tiles, grid=g0, block={l: " in text
    assert text.count("no warpgroups: there are 0 streams, not one") == 1
    assert "lanes" not in text
