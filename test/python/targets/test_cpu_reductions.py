"""Reductions on the CPU: any axes, streams without contractions, rows with statistics."""

import pytest

from diagc.testing.agreement import agreement
from diagc.testing.diagrams import REDUCED_AXES, ROWS, STATISTICS, diagram

SHAPES = (
    {"a": 3, "n": 45, "m": 33},
    {"a": 1, "n": 1, "m": 1},
    {"a": 2, "n": 16, "m": 128},
    {"a": 2, "n": 3, "m": 1500},
    {"a": 2, "n": 300, "m": 3},
)
EMPTY = (
    {"a": 0, "n": 3, "m": 7},
    {"a": 2, "n": 0, "m": 4},
    {"a": 2, "n": 4, "m": 0},
)


def check(source: str, tolerance: float = 3e-6, *, empty: bool = True, mean: float = 0.0) -> None:
    both = agreement(source)
    assert both.fall_backs == []
    assert both.kernels
    assert both.worst((*SHAPES, *(EMPTY if empty else ())), mean=mean) <= tolerance


@pytest.mark.parametrize("name", REDUCED_AXES)
def test_every_kind_over_every_axis(name: str) -> None:
    parameters, axes = REDUCED_AXES[name]
    kinds = [f"{kind}(X) over {axes}" for kind in ("sum", "max", "min", "mean")]
    check(diagram(parameters, f"return {', '.join(kinds[:3])}"), mean=0.5)
    if "static" in name:
        check(diagram(parameters, f"return {kinds[3]}"), empty=False, mean=0.5)


@pytest.mark.parametrize("name", ["last", "first", "last, static", "middle, static", "two, apart"])
def test_truth_values(name: str) -> None:
    parameters, axes = REDUCED_AXES[name]
    mask = parameters.replace("X", "M") + " i1"
    check(diagram(mask, f"return any(M) over {axes}, all(M) over {axes}"), 0.0)
    check(diagram(parameters, f"return any(X > 1.5) over {axes}, all(X > -1.5) over {axes}"), 0.0)


@pytest.mark.parametrize("name", ["last", "first", "middle, static"])
def test_integers(name: str) -> None:
    parameters, axes = REDUCED_AXES[name]
    for dtype in ("i32", "i64"):
        kinds = [f"{kind}(X) over {axes}" for kind in ("sum", "max", "min", "prod")]
        check(diagram(f"{parameters} {dtype}", f"return {', '.join(kinds)}"), 0.0, empty=False)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 4e-3), ("f16", 5e-4), ("f64", 1e-14)])
@pytest.mark.parametrize("name", ["last", "first", "odd", "middle, static", "all"])
def test_types(name: str, dtype: str, tolerance: float) -> None:
    parameters, axes = REDUCED_AXES[name]
    body = f"return sum(X) over {axes}, max(X) over {axes}, sum(X * X) over {axes}"
    check(diagram(f"{parameters} {dtype}", body), tolerance)


@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str) -> None:
    parameters, *body = ROWS[name]
    check(diagram(parameters, *body))


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics(name: str) -> None:
    parameters, *body = STATISTICS[name]
    check(diagram(parameters, *body), 1e-5, empty=False)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 8e-3), ("f16", 1e-3), ("f64", 1e-13)])
@pytest.mark.parametrize(
    "name", ["layer norm of odd rows", "rms norm", "softmax of static rows", "softmax"]
)
def test_rows_in_other_types(name: str, dtype: str, tolerance: float) -> None:
    parameters, *body = ROWS[name]
    typed = ", ".join(f"{part} {dtype}" for part in parameters.split(", "))
    check(diagram(typed, *body), tolerance)


def test_rows_with_a_mean_far_from_zero() -> None:
    both = agreement(diagram("X: n f, B: f", "return layer(X + 100) along f eps 1e-5"))
    assert both.worst(SHAPES) <= 2e-4
