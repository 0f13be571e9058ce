"""Products in tiles of rows and columns, in the simulator with all of its checks, against float64.

Every case has two tiles of rows and of columns, the last ones partly filled, and more chunks of the
summed axis than stages, the last one partly filled.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.selection import tile_schedules
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.product_runs import (
    kernels_with_products,
    lower_products,
    on_tiles,
    on_warpgroups,
    run_products,
)
from diagc.testing.tile_kernels import Placement

# of the largest element: rows are rounded once more in front of a product, results at the end
TOLERANCE = {"bf16": 3 * 2.0**-8, "f16": 3 * 2.0**-11}

AXES = "axis b, n, c = 256, o = 512\n"
TEXTS = {
    "alone": "diagram f(X: n c {t}, W: o c {t}) {{ return X . W over c }}",
    "across": "diagram f(X: n c {t}, W: c o {t}) {{ return X . W over c }}",
    "scaled rows": """diagram f(X: n c {t}, G: c {t}, W: o c {t}) {{
  Y: n c {t} = rms(X) along c eps 1e-5 inside * G
  return Y . W over c
}}""",
    "rows over their norm": """diagram f(X: n c {t}, W: o c {t}) {{
  Y: n c {t} = rms(X) along c
  return Y . W over c
}}""",
    "two products": """diagram f(X: n c {t}, G: c {t}, W: o c {t}, V: o c {t}) {{
  Y: n c {t} = rms(X) along c eps 1e-5 inside * G
  A: n o {t} = Y . W over c
  B: n o {t} = Y . V over c
  return silu(A) * B
}}""",
    "maps behind": """diagram f(X: b n c {t}, W: b c o {t}, B: o {t}, R: b n o {t}) {{
  Y: b n o {t} = X . W over c
  return relu(Y + B) + R
}}""",
    "f32": """diagram f(X: n c {t}, W: o c {t}) {{
  Y: n o f32 = X . W over c
  return Y * 0.5
}}""",
}


def text_of(name: str, dtype: str = "bf16") -> str:
    return AXES + TEXTS[name].format(t=dtype)


def sizes_of(schedule: TileSchedule, tail: int = 8) -> dict[str, int]:
    """Rows, summed positions, columns, positions of the grid."""
    summed = schedule.chunk * (schedule.stages + 1) + tail
    return {"g0": 2, "l": 128 + 7, "s": summed, "s.1": schedule.columns + 3 * tail}


def check(name: str, dtype: str, schedule: TileSchedule) -> None:
    sizes = sizes_of(schedule)
    predicted, run = run_products(text_of(name, dtype), sizes, schedule)
    assert run.error() < TOLERANCE[dtype]
    counters = run.reports[0].counters
    assert predicted.read == pytest.approx(counters.global_read_bytes, rel=0.02)
    assert predicted.written == counters.global_write_bytes


@pytest.mark.parametrize(
    ("name", "dtype", "columns", "stages"),
    [
        ("alone", "bf16", 128, 3),
        ("alone", "f16", 256, 2),
        ("across", "bf16", 64, 4),
        ("scaled rows", "bf16", 128, 2),
        ("rows over their norm", "f16", 64, 3),
        ("two products", "bf16", 64, 2),
        ("maps behind", "bf16", 64, 3),
        ("f32", "f16", 64, 2),
    ],
)
def test_on_warpgroups(name: str, dtype: str, columns: int, stages: int) -> None:
    check(name, dtype, on_warpgroups(columns, stages=stages))


@pytest.mark.parametrize("name", TEXTS)
def test_on_tiles(name: str) -> None:
    check(name, ("bf16", "f16")[name == "across"], on_tiles(64, 32, 2 + (name == "alone")))


WALKED = """axis n, c = {c}, v
diagram f(X: n c bf16, W: {columns} bf16) {{
  S: n v f32 = X . W over c
  M: n f32 = max(S) over v
  Z: n f32 = sum(exp(S - M)) over v
  return M + log(Z)
}}"""


@pytest.mark.parametrize(("c", "columns"), [(328, "v c"), (192, "c v")])
@pytest.mark.parametrize("make", [on_warpgroups, on_tiles])
@pytest.mark.parametrize("split", [0, 128])
def test_rows_that_are_walked(
    make: Callable[..., TileSchedule], c: int, columns: str, split: int
) -> None:
    """Logits of every chunk are sums over pieces of rows and columns; blocks may share chunks."""
    schedule = replace(make(0), chunk=64, stages=2, depth=64, split=split)
    sizes = {"l": 128 + 7, "s": 3 * 64 + 8}
    predicted, run = run_products(WALKED.format(c=c, columns=columns), sizes, schedule)
    assert run.error() < 1e-5
    counters = [report.counters for report in run.reports]
    assert predicted.read == sum(each.global_read_bytes for each in counters)
    assert predicted.written == sum(each.global_write_bytes for each in counters)


def test_rows_are_walked_where_they_are_too_long_to_stay() -> None:
    """Not on warpgroups while they fit; tiles may have either."""
    for c, walks in ((256, False), (4096, True)):
        _module, (kernel,) = kernels_with_products(WALKED.format(c=c, columns="v c"))
        with kernel.context, ir.Location.unknown():
            found = tile_schedules(kernel, parse_arch("sm_90a"))
        assert {schedule.depth > 0 for schedule in found} == {walks}
        assert any(schedule.producers for schedule in found)


def test_lines_that_are_not_aligned() -> None:
    """Odd sizes and gaps between lines: what tensor maps cannot describe, tiles take."""
    sizes = {"l": 70, "s": 99, "s.1": 71}
    for name in ("alone", "across"):
        _, run = run_products(text_of(name), sizes, on_tiles(64, 32), Placement(1, 3))
        assert run.error() < TOLERANCE["bf16"]


def test_an_odd_number_of_columns_in_aligned_lines() -> None:
    sizes = {"l": 16, "s": 64, "s.1": 71}
    _, run = run_products(text_of("alone"), sizes, on_tiles(64, 32), Placement(0, 1))
    assert run.error() < TOLERANCE["bf16"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("diagram f(X: c n bf16, W: o c bf16) { return X . W over c }", "lines of 'arg0' go along"),
    ],
)
def test_what_warpgroups_refuse(text: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        lower_products(AXES + text, on_warpgroups(128))


def streams(text: str, library: str = "none") -> list[str]:
    """Which of a diagram's kernels have products in tiles, as texts."""
    _module, kernels = kernels_with_products(AXES + text, library)
    return [str(kernel) for kernel in kernels if "diag.tiled" in str(kernel)]


@pytest.mark.parametrize(
    "text",
    [
        "diagram f(X: n c, W: o c) { return X . W over c }",  # f32
        "axis m = 32\ndiagram f(X: n c bf16, W: m c bf16) { return X . W over c }",
        "axis m = 32\ndiagram f(X: n m bf16, W: o m bf16) { return X . W over m }",
        "diagram f(X: n c o bf16, W: c o bf16) { return X . W over c, o }",
    ],
)
def test_products_that_are_left(text: str) -> None:
    assert not streams(text)


def test_the_library_keeps_a_lone_product() -> None:
    text = "diagram f(X: n c bf16, W: o c bf16) { return X . W over c }"
    assert streams(text)
    assert not streams(text, "auto")


def test_a_statistic_that_is_subtracted_stays_in_front() -> None:
    """Its sum and the product's would cancel."""
    text = """diagram f(X: n c bf16, G: c bf16, B: c bf16, W: o c bf16) {
  Y: n c bf16 = layer(X) along c eps 1e-5 inside * G + B
  return Y . W over c
}"""
    (kernel,) = streams(text)
    assert "math.sqrt" not in kernel
    assert kernel.count("diag.contract") == 1


def test_rows_that_others_read_are_not_made_again() -> None:
    text = """diagram f(X: n c bf16, W: o c bf16) {
  Y: n c bf16 = rms(X) along c
  return Y . W over c, Y
}"""
    (kernel,) = streams(text)
    assert "math.sqrt" not in kernel


def test_functions_in_front_are_not_computed_for_every_tile() -> None:
    text = """diagram f(X: n c bf16, W: o c bf16) {
  Y: n c bf16 = exp(X)
  return Y . W over c
}"""
    (kernel,) = streams(text)
    assert "math.exp" not in kernel
