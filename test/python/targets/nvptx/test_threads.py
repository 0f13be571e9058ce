"""Kernels as groups of threads: every region in the simulator against the interpreter.

The simulator checks every access, barrier and race besides, and that every result is written.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from diagc.errors import UnsupportedError
from diagc.simulator.program import program_report, simulated_program
from diagc.targets.nvptx.tiles import lower as tiles
from diagc.testing.agreement import Agreement, agreement
from diagc.testing.diagrams import (
    BROADCASTS,
    LAYOUTS,
    REDUCED_AXES,
    ROWS,
    STATISTICS,
    diagram,
)

SHAPES = ({"a": 3, "n": 45, "m": 33}, {"a": 2, "n": 3, "m": 1000}, {"a": 1, "n": 1, "m": 1})
EMPTY = ({"a": 0, "n": 3, "m": 7}, {"a": 2, "n": 0, "m": 4}, {"a": 2, "n": 4, "m": 0})


@pytest.fixture(autouse=True)
def only_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tiles, and nothing from the cache, where kernels may be made of tiles."""

    def refuse(*_args: Any, **_options: Any) -> None:
        raise UnsupportedError("tiles", reason="this tests what works without")

    for name in ("lower_tiles", "tile_schedules"):
        monkeypatch.setattr(tiles, name, refuse, raising=False)
    monkeypatch.setenv("DIAGC_CACHE", "0")


def simulated(source: str) -> Agreement:
    both = agreement(source, target="nvptx")
    assert both.fall_backs == []
    return Agreement(simulated_program(both.program), both.reference)


def check(
    source: str,
    tolerance: float = 3e-6,
    shapes: Sequence[dict[str, int]] = SHAPES,
    *,
    findings: bool = True,
) -> None:
    both = simulated(source)
    assert both.kernels
    assert both.worst(shapes) <= tolerance
    if findings:
        report = program_report(both.program)
        assert not report.findings, str(report)


@pytest.mark.parametrize("name", BROADCASTS)
def test_broadcasts(name: str) -> None:
    parameters, *body = BROADCASTS[name]
    check(diagram(parameters, *body), shapes=(*SHAPES, *EMPTY))


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str) -> None:
    parameters, *body = LAYOUTS[name]
    check(diagram(parameters, *body))


def test_diagonals() -> None:
    axes = "axis n, i = 24, j = 24"
    check(diagram("T: n i j", "return T[j = i] * 2 + 1", axes=axes))


def test_positions_and_conditions() -> None:
    check(diagram("X: n m", "return X + n * 2 - m, where((n - m) % 3 == 0, X, 0.0)"))
    check(diagram("M: n m i1, N: m i1", "return M and N, M or not N, where(M, 1.0, -1.0)"), 0.0)
    check(diagram("X: n m, Y: n m", "return X > Y, where(X > Y, X, -Y), max(X, 0)"), 0.0)


def test_integers() -> None:
    check(diagram("X: n m i32, Y: n m i64", "return X * 2 + 3, Y % 5, X > 3, abs(Y)"), 0.0)
    check(diagram("X: n m i64", "return f32(X) * 0.5, i32(X) - 1, bf16(X)"), 0.0)
    check(diagram("X: n f i8, Y: n f i16", "return i32(X) * i32(Y), f32(X) / 3"))


@pytest.mark.parametrize(
    ("body", "tolerance"),
    [
        ("return X + Y", 1e-3),
        ("return Y * Z + X", 1e-6),
        ("return f16(X) + 1, f64(Y) * Z", 4e-3),
        ("return exp(f64(Z)), tanh(f64(X)), f32(f64(Z) * 2)", 1e-6),
    ],
)
def test_mixed_types(body: str, tolerance: float) -> None:
    check(diagram("X: n m bf16, Y: n m f16, Z: n m", body), tolerance)


def test_f64_is_exact_to_its_last_digits() -> None:
    check(
        diagram("X: n m f64, Y: m f64", "return exp(X) * Y, log(1 + X * X), tanh(X), sin(X)"), 1e-14
    )


@pytest.mark.parametrize("name", REDUCED_AXES)
def test_reductions(name: str) -> None:
    parameters, axes = REDUCED_AXES[name]
    kinds = [f"{kind}(X) over {axes}" for kind in ("sum", "max", "min")]
    # the sum of one long row may be close to 0
    check(diagram(parameters, f"return {', '.join(kinds)}"), 1e-3 if "long" in name else 3e-6)
    check(diagram(parameters, f"return {', '.join(kinds)}"), shapes=EMPTY)


@pytest.mark.parametrize("name", ["last", "first", "middle, static", "two, apart"])
def test_reductions_of_truth_values_and_integers(name: str) -> None:
    parameters, axes = REDUCED_AXES[name]
    mask = parameters.replace("X", "M") + " i1"
    check(diagram(mask, f"return any(M) over {axes}, all(M) over {axes}"), 0.0)
    kinds = [f"{kind}(X) over {axes}" for kind in ("sum", "max", "min", "prod")]
    for dtype in ("i32", "i64"):
        check(diagram(f"{parameters} {dtype}", f"return {', '.join(kinds)}"), 0.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 4e-3), ("f16", 5e-4), ("f64", 1e-13)])
@pytest.mark.parametrize("name", ["last", "first", "odd", "middle, static", "all"])
def test_reductions_in_other_types(name: str, dtype: str, tolerance: float) -> None:
    parameters, axes = REDUCED_AXES[name]
    body = f"return sum(X) over {axes}, max(X) over {axes}, sum(X * X) over {axes}"
    check(diagram(f"{parameters} {dtype}", body), tolerance)


@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str) -> None:
    parameters, *body = ROWS[name]
    check(diagram(parameters, *body), shapes=(*SHAPES[:2], *EMPTY))


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics(name: str) -> None:
    parameters, *body = STATISTICS[name]
    check(diagram(parameters, *body), 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 8e-3), ("f16", 1e-3), ("f64", 1e-13)])
@pytest.mark.parametrize("name", ["layer norm of odd rows", "rms norm", "softmax of static rows"])
def test_rows_in_other_types(name: str, dtype: str, tolerance: float) -> None:
    parameters, *body = ROWS[name]
    typed = ", ".join(f"{part} {dtype}" for part in parameters.split(", "))
    check(diagram(typed, *body), tolerance)


def test_views_of_any_strides_are_read_in_place() -> None:
    both = simulated(diagram("X: a n d, Y: a n d", "return X * Y + 1"))
    base = torch.from_numpy(np.random.default_rng(5).standard_normal((5, 70, 3, 96))).float()
    x, y = base[:, :, 1, :64], base[:, :, 2, 16:80]
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    unaligned = base[:, :, 0, 1:65]
    for pair in ((x, y), (turned, y), (x, y[:1].expand_as(x)), (x.contiguous(), unaligned)):
        (found,) = both.program(pair)
        assert torch.allclose(found, pair[0] * pair[1] + 1, atol=1e-6)
    assert not program_report(both.program).findings


# ---- contractions ------------------------------------------------------------------------------

ATTENTION = """
axis b, h, q, x, d = 32, e = 24
diagram attention(Q: b h q d {dtype}, K: b h x d {dtype}, V: b h x e {dtype}) {{
  S = (Q . K over d) * 0.2
  P = {weights} along x{mask}
  return P . V over x
}}
"""
LENGTHS = (
    {"b": 1, "h": 2, "q": 70, "x": 150},
    {"b": 2, "h": 1, "q": 5, "x": 3},
    {"b": 1, "h": 1, "q": 1, "x": 200},
    {"b": 1, "h": 2, "q": 3, "x": 0},
)


@pytest.mark.parametrize("mask", ["", " where (q >= x)", " where (q >= x and x > q - 20)"])
@pytest.mark.parametrize("kind", ["softmax", "l2", "l1", "sigmoid", "none"])
def test_streamed_contractions(kind: str, mask: str) -> None:
    source = ATTENTION.format(dtype="f32", weights=f"{kind}(S)", mask=mask)
    check(source, 5e-6, LENGTHS)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 8e-3), ("f16", 1e-3), ("f64", 1e-13)])
def test_streamed_contractions_in_other_types(dtype: str, tolerance: float) -> None:
    check(ATTENTION.format(dtype=dtype, weights="softmax(S)", mask=""), tolerance, LENGTHS)


EXAMPLES = {
    "gated_mlp": ({"n": 5}, {"n": 33}),
    "kv_cache_decode": ({"b": 2, "past": 70},),
    "layer_norm_linear": ({"n": 7},),
    "self_attention": ({"n": 7}, {"n": 34}),
    "sliding_window": ({"b": 1, "n": 20, "q": 20, "x": 20},),
    "spherical_attention": ({"q": 20, "x": 150},),
    "two_statistics": ({"q": 20, "x": 150},),
    "depthwise_convolution": ({},),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str, pytestconfig: pytest.Config) -> None:
    source = (pytestconfig.rootpath / "examples" / f"{name}.diag").read_text(encoding="utf-8")
    check(source, 1e-5, EXAMPLES[name])
