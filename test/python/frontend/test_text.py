"""The language of .diag files: what expressions mean, where ops are located."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diagc.dialects import diag
from diagc.errors import DiagcError
from diagc.frontend.text import parse
from diagc.frontend.text.printer import print_module
from diagc.mlir import ir
from diagc.targets.interp import evaluate

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.diag"))
SIZES = {"q": 3, "x": 5, "d": 4, "n": 6, "m": 3, "k": 2}
HEADER = "axis q, x = 5, d = 4, n = 6, m = 3, k = 2, z = 11, y = 9\n"
WIRES = "A: q d, B: x d, C: q, N: n, I: q i32, M: q x i1, H: q d bf16"
LABELS = {"A": "qd", "B": "xd", "C": "q", "N": "n", "I": "q", "M": "qx", "H": "qd"}

Array = np.ndarray[Any, Any]


def inputs() -> dict[str, Array]:
    """Give one array for each wire of `WIRES`; values that bf16 holds exactly for H."""
    rng = np.random.default_rng(7)
    arrays: dict[str, Array] = {
        n: rng.standard_normal(tuple(SIZES[a] for a in ls)) for n, ls in LABELS.items()
    }
    arrays["I"] = rng.integers(-9, 9, SIZES["q"])
    arrays["M"] = arrays["M"] > 0
    arrays["H"] = np.asarray(rng.integers(-8, 8, arrays["H"].shape) / 4)
    return arrays


def run(statements: str, results: str = "Y") -> list[Array]:
    text = f"{HEADER}diagram f({WIRES}) {{\n{statements}\n  return {results}\n}}\n"
    return evaluate(parse(text), list(inputs().values()), function="f")


def gelu(x: Array) -> Array:
    from math import erf

    return np.asarray(0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2))))


Meaning = Callable[..., Any]

EXPRESSIONS: dict[str, Meaning] = {
    "A . B over d": lambda A, B, **_: A @ B.T,
    "A . B over d . B over x": lambda A, B, **_: A @ B.T @ B,
    "C . B over ()": lambda C, B, **_: np.einsum("q,xd->qxd", C, B),
    "A . A over q d acc f64": lambda A, **_: (A * A).sum(),
    "-A . B over d * 0.5 + C": lambda A, B, C, **_: -(A @ B.T) * 0.5 + C[:, None],
    "2 - A * A / 4 - 1": lambda A, **_: 2 - A * A / 4 - 1,
    "A - (C - A)": lambda A, C, **_: A - (C[:, None] - A),
    "2 ** A ** 2": lambda A, **_: 2 ** (A**2),
    "A ** 3 + abs(A) ** 0.5 + (1 + abs(A)) ** -1": lambda A, **_: (
        A**3 + np.abs(A) ** 0.5 + 1 / (1 + np.abs(A))
    ),
    "max(A, 0.25) + min(A, C)": lambda A, C, **_: np.maximum(A, 0.25) + np.minimum(A, C[:, None]),
    "where(A > 0 and not A > 1, A, -1)": lambda A, **_: np.where((A > 0) & ~(A > 1), A, -1),
    "where(q >= x or x == 4, 1, 0)": lambda **_: np.where(
        (np.arange(3)[:, None] >= np.arange(5)) | (np.arange(5) == 4), 1.0, 0.0
    ),
    "A * q - d": lambda A, **_: A * np.arange(3)[:, None] - np.arange(4),
    "f32(I / 2 + I % 3)": lambda I, **_: np.trunc(I / 2) + np.fmod(I, 3),  # noqa: E741
    "gelu(A)": lambda A, **_: gelu(A),
    "silu(A) + sigmoid(A)": lambda A, **_: (A + 1) / (1 + np.exp(-A)),
    "relu(A) + sign(A) + square(A)": lambda A, **_: np.maximum(A, 0) + np.sign(A) + A * A,
    "softplus(A) + clamp(A, -0.5, C)": lambda A, C, **_: (
        np.log1p(np.exp(A)) + np.minimum(np.maximum(A, -0.5), C[:, None])
    ),
    "exp(log(abs(A))) + rsqrt(A * A) + tanh(A)": lambda A, **_: (
        np.abs(A) + 1 / np.abs(A) + np.tanh(A)
    ),
    "sum(A * C) over q": lambda A, C, **_: (A * C[:, None]).sum(0),
    "mean(A) over q d": lambda A, **_: A.mean(),
    "mean(B) over x": lambda B, **_: B.mean(0),
    "max(A) over d": lambda A, **_: A.max(1),
    "min(A) over d + prod(A) over d": lambda A, **_: A.min(1) + A.prod(1),
    "any(M) over x": lambda M, **_: M.any(1),
    "all(M) over q": lambda M, **_: M.all(0),
    "softmax(A) along d": lambda A, **_: np.exp(A) / np.exp(A).sum(1, keepdims=True),
    "l2(A . B over d) along x": lambda A, B, **_: (
        A @ B.T / np.linalg.norm(A @ B.T, axis=1, keepdims=True)
    ),
    "l1(A) along d eps 0.5 outside": lambda A, **_: A / (np.abs(A).sum(1, keepdims=True) + 0.5),
    "rms(A) along d eps 0.5 inside": lambda A, **_: (
        A / np.sqrt((A * A).mean(1, keepdims=True) + 0.5)
    ),
    "N[n = 2 * m + 1]": lambda N, **_: N[1::2],
    "N[n = 5 - n]": lambda N, **_: N[::-1],
    "N[n = m + k]": lambda N, **_: N[np.arange(3)[:, None] + np.arange(2)],
    "N[n = 3 * k + m] * m": lambda N, **_: N.reshape(2, 3) * np.arange(3),
    "N[n = (n + 1) % 6] - N": lambda N, **_: np.roll(N, -1) - N,
    "A[d = q]": lambda A, **_: np.diagonal(A),
    "pad(N, 1, 2, -inf) along n as y": lambda N, **_: np.pad(N, (1, 2), constant_values=-np.inf),
    "f64(H * H) + 1 / 8": lambda H, **_: H * H + 0.125,
    "map { t = A + C; u = t * t; u - t }": lambda A, C, **_: (
        (A + C[:, None]) ** 2 - (A + C[:, None])
    ),
    "true and A > inf": lambda A, **_: np.zeros_like(A, dtype=bool),
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_means(expression: str) -> None:
    (found,) = run(f"  Y = {expression}")
    expected = np.asarray(EXPRESSIONS[expression](**inputs()))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_concat_joins_axes() -> None:
    (found,) = run("  B1 = sum(B) over d\n  Y = concat(N, B1) along n x as z")
    arrays = inputs()
    np.testing.assert_allclose(found, np.concatenate([arrays["N"], arrays["B"].sum(1)]))


def test_a_mask_excludes_positions() -> None:
    (found,) = run("  S = A . B over d\n  Y = softmax(S) along x where (q >= x and M)")
    arrays = inputs()
    keep = (np.arange(3)[:, None] >= np.arange(5)) & arrays["M"]
    weights = np.where(keep, np.exp(arrays["A"] @ arrays["B"].T), 0)
    total = weights.sum(1, keepdims=True)
    np.testing.assert_allclose(found, weights / np.where(total == 0, 1, total), rtol=1e-6)


def test_an_annotation_orders_broadcasts_and_converts() -> None:
    text = "  T: d q = A\n  U: x d q = T\n  V: q d f64 = A\n  W: x q = A . B over d\n  ones: x = 1"
    found = run(text, "T, U, V, W, ones")
    A, B = inputs()["A"], inputs()["B"]
    expected = [A.T, np.broadcast_to(A.T, (5, 4, 3)), A, B @ A.T, np.ones(5)]
    for value, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-6)


def test_tables_and_names_for_numbers() -> None:
    found = run("  T: m k = [[1, 2.5], [-3, inf], [0, 1e-3]]\n  s = 1 / 4\n  Y = T * s", "Y, s")
    np.testing.assert_allclose(found[0], np.array([[1, 2.5], [-3, np.inf], [0, 1e-3]]) / 4)
    np.testing.assert_allclose(found[1], 0.25)


def test_a_half_expression_is_rounded_once() -> None:
    (found,) = run("  Y = (H + 256) - 256")  # bf16 has 8 bits: each step alone would lose them
    np.testing.assert_allclose(found, inputs()["H"])


def test_broadcast_is_by_label_not_by_position() -> None:
    text = "axis a = 3, b = 3\ndiagram f(X: a b, Y: b a) { return X + Y }"
    X, Y = (np.random.default_rng(1).standard_normal((3, 3)) for _ in range(2))
    (found,) = evaluate(parse(text), [X, Y], function="f")
    np.testing.assert_allclose(found, X + Y.T)


def test_each_diagram_is_a_public_function_with_named_arguments() -> None:
    module = parse(
        "axis q, h = 2, d = 4\n"
        "diagram one(X: q (h d), Y: () q) -> q (h d) { return X }\n"
        "axis d = 8\n"
        "diagram two(X: q d) { Z = X + 1; return Z, X * 2 }\n"
    )
    one, two = diag.functions(module)
    assert [str(f.attributes["sym_name"]) for f in (one, two)] == ['"one"', '"two"']
    first, second = one.attributes["arg_attrs"]
    assert str(first["diag.dims"]) == '[["q"], ["h", "d"]]'
    assert str(second["diag.dims"]) == '[[], ["q"]]'
    assert str(first["diag.kind"]) == '"user"'
    assert str(one.attributes["res_attrs"][0]["diag.dims"]) == '[["q"], ["h", "d"]]'
    assert [str(a["diag.name"]) for a in two.attributes["res_attrs"]] == ['"Z"', '"out1"']
    assert diag.dims(diag.function_body(two).arguments[0])["d"] == 8


def test_every_op_has_its_place_and_its_name() -> None:
    text = "axis q, d = 4\ndiagram f(A: q d) {\n  S = sum(A * 2) over d\n  return exp(S)\n}\n"
    module = parse(text, "here.diag")
    places = {
        op.name: str(op.location)
        for function in diag.functions(module)
        for op in diag.walk_ops(function.regions[0])
    }
    assert places["diag.reduce"] == 'loc("S"("here.diag":3:7))'
    assert places["arith.mulf"] == 'loc("S_mul"("here.diag":3:13))'
    assert places["math.exp"] == 'loc("out_exp"("here.diag":4:10))'
    assert places["func.return"] == 'loc("here.diag":4:3)'
    assert all("here.diag" in place for place in places.values())


def test_line_breaks_end_statements_only_where_they_can() -> None:
    with pytest.raises(DiagcError, match="expected 'over', found the end of the line"):
        run("  Y = A . B\n    over d")
    (found,) = run("  Y = (A\n    + A) *\n    2 // twice\n  # a remark\n")
    np.testing.assert_allclose(found, inputs()["A"] * 4)


def test_an_example_exists() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_survive_printing(path: Path) -> None:
    module = parse(path.read_text(encoding="utf-8"), str(path))
    printed = print_module(module)
    again = parse(printed)
    assert generic(again) == generic(module)


def generic(module: ir.Module) -> str:
    return str(module.operation.get_asm(print_generic_op_form=True))
