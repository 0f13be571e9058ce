"""Reductions on the CPU: any axes, streams without contractions, rows with statistics."""

import pytest

from diagc.testing.agreement import agreement

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
AXES = "axis a, n, m, d = 64, e = 24, f = 768, g = 3, h = 33, k = 5000"


def diagram(parameters: str, *body: str) -> str:
    lines = "\n  ".join(body)
    return f"{AXES}\ndiagram test({parameters}) {{\n  {lines}\n}}\n"


def check(source: str, tolerance: float = 3e-6, *, empty: bool = True, mean: float = 0.0) -> None:
    both = agreement(source)
    assert both.fall_backs == []
    assert both.kernels
    assert both.worst((*SHAPES, *(EMPTY if empty else ())), mean=mean) <= tolerance


AXES_OF = {
    "last": ("X: n m", "m"),
    "first": ("X: n m", "n"),
    "middle": ("X: a n m", "n"),
    "only": ("X: n", "n"),
    "last, static": ("X: n f", "f"),
    "first, static": ("X: f n", "f"),
    "middle, static": ("X: a d m", "d"),
    "middle of static axes": ("X: a d e", "d"),
    "only, static": ("X: f", "f"),
    "short": ("X: n g", "g"),
    "odd": ("X: n h", "h"),
    "long and static": ("X: n k", "k"),
    "two, apart": ("X: a n m", "a m"),
    "two, together": ("X: a n m", "n m"),
    "all": ("X: n m", "n m"),
    "two static": ("X: n d e", "d e"),
    "two static, apart": ("X: d n e", "d e"),
    "all static": ("X: d e", "d e"),
    "a dynamic and a static one": ("X: n m e", "m e"),
}


@pytest.mark.parametrize("name", AXES_OF)
def test_every_kind_over_every_axis(name: str) -> None:
    parameters, axes = AXES_OF[name]
    kinds = [f"{kind}(X) over {axes}" for kind in ("sum", "max", "min", "mean")]
    check(diagram(parameters, f"return {', '.join(kinds[:3])}"), mean=0.5)
    if "static" in name:
        check(diagram(parameters, f"return {kinds[3]}"), empty=False, mean=0.5)


@pytest.mark.parametrize("name", ["last", "first", "last, static", "middle, static", "two, apart"])
def test_truth_values(name: str) -> None:
    parameters, axes = AXES_OF[name]
    mask = parameters.replace("X", "M") + " i1"
    check(diagram(mask, f"return any(M) over {axes}, all(M) over {axes}"), 0.0)
    check(diagram(parameters, f"return any(X > 1.5) over {axes}, all(X > -1.5) over {axes}"), 0.0)


@pytest.mark.parametrize("name", ["last", "first", "middle, static"])
def test_integers(name: str) -> None:
    parameters, axes = AXES_OF[name]
    for dtype in ("i32", "i64"):
        kinds = [f"{kind}(X) over {axes}" for kind in ("sum", "max", "min", "prod")]
        check(diagram(f"{parameters} {dtype}", f"return {', '.join(kinds)}"), 0.0, empty=False)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 4e-3), ("f16", 5e-4), ("f64", 1e-14)])
@pytest.mark.parametrize("name", ["last", "first", "odd", "middle, static", "all"])
def test_types(name: str, dtype: str, tolerance: float) -> None:
    parameters, axes = AXES_OF[name]
    body = f"return sum(X) over {axes}, max(X) over {axes}, sum(X * X) over {axes}"
    check(diagram(f"{parameters} {dtype}", body), tolerance)


ROWS = {
    "products": ("X: n h", "return prod(X) over h"),
    "counts": ("X: n m", "return sum(where(X > 0, 1.0, 0.0)) over m"),
    "sum and sum of squares": ("X: n m", "return sum(X) over m, sum(X * X) over m"),
    "over both axes": ("X: n m", "return sum(X) over m, sum(X) over n"),
    "a weighted sum": ("X: n m, W: m", "return sum(X * W) over m"),
    "dot products of rows": ("X: n f, Y: n f", "return X . Y over f"),
    "dot products of open rows": ("X: n m, Y: n m", "return X . Y over m"),
    "a sum of shifted products": ("X: n f", "return sum(X[f = d] * X[f = d + 1]) over d"),
    "l1 rows": ("X: n f", "return l1(X) along f"),
    "l2 rows": ("X: n m", "return l2(X) along m"),
    "softmax": ("X: n m", "return softmax(X) along m"),
    "softmax of static rows": ("X: n f", "return softmax(X) along f"),
    "softmax of long rows": ("X: n k", "return softmax(X) along k"),
    "softmax of short rows": ("X: n g", "return softmax(X) along g"),
    "softmax along columns": ("X: n m", "return softmax(X) along n"),
    "softmax along the middle": ("X: a n d", "return softmax(X) along n"),
    "softmax along two axes": ("X: n d e", "return softmax(X) along d e"),
    "softmax by hand": (
        "X: n f",
        "E = exp(X - (max(X) over f))",
        "return E / (sum(E) over f)",
    ),
    "largest absolute value": ("X: n m", "return max(abs(X)) over m"),
    "group norm": ("X: a g e d", "return layer(X) along e d eps 1e-5"),
    "rms norm": ("X: n f, W: f", "return (rms(X) along f eps 1e-6) * W"),
    "layer norm": ("X: n f, W: f, B: f", "return (layer(X) along f eps 1e-5) * W + B"),
    "layer norm of odd rows": ("X: n h, W: h", "return (layer(X) along h eps 1e-5) * W"),
    "residual and layer norm": (
        "X: n f, R: n f, W: f, B: f",
        "Y = X + R",
        "return (layer(Y) along f eps 1e-5) * W + B, Y",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str) -> None:
    parameters, *body = ROWS[name]
    check(diagram(parameters, *body))


# means of nothing are no numbers, so no empty rows
STATISTICS = {
    "variance": ("X: n m", "mu = mean(X) over m", "return mean((X - mu) * (X - mu)) over m"),
    "variance of static rows": (
        "X: n f",
        "mu = mean(X) over f",
        "return mean((X - mu) * (X - mu)) over f",
    ),
    "log-sum-exp": ("X: n m", "r = max(X) over m", "return log(sum(exp(X - r)) over m) + r"),
    "pooling by softmax": (
        "X: n m",
        "return sum((softmax(X) along m) * X) over m, (sum(X * X) over m) ** 0.5",
    ),
    "entropy": (
        "X: n m",
        "P = softmax(X) along m",
        "return sum(P * X) over m",
    ),
    "centred by the mean, scaled by the largest": (
        "X: n m, Y: n m",
        "D = X - Y",
        "C = D - (mean(D) over m)",
        "return C / (max(abs(C)) over m)",
    ),
    "two means": ("X: n m", "return mean(X) over m, mean(X * X) over m, mean(X) over n"),
}


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
