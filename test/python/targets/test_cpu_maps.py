"""Elementwise kernels on the CPU: layouts, broadcasts, gathers, positions, types."""

import numpy as np
import pytest
import torch

from diagc.testing.agreement import agreement
from diagc.testing.diagrams import BROADCASTS, LAYOUTS, diagram

SHAPES = (
    {"a": 3, "n": 45, "m": 33},
    {"a": 1, "n": 1, "m": 1},
    {"a": 2, "n": 128, "m": 16},
    {"a": 2, "n": 3, "m": 1000},
    {"a": 0, "n": 3, "m": 7},
    {"a": 2, "n": 0, "m": 4},
    {"a": 1, "n": 5, "m": 0},
)


def check(source: str, tolerance: float = 1e-6) -> None:
    both = agreement(source)
    assert both.fall_backs == []
    assert both.kernels
    assert both.worst(SHAPES) <= tolerance


@pytest.mark.parametrize("name", BROADCASTS)
def test_broadcasts(name: str) -> None:
    parameters, *body = BROADCASTS[name]
    check(diagram(parameters, *body), 3e-6)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str) -> None:
    parameters, *body = LAYOUTS[name]
    check(diagram(parameters, *body))


def test_diagonals() -> None:
    axes = "axis n, i = 24, j = 24"
    check(diagram("T: n i j", "return T[j = i] * 2 + 1", axes=axes))
    check(diagram("T: i j n", "D = T[j = i]", "return D * 2 + 1", axes=axes))


def test_positions() -> None:
    check(diagram("X: n m", "return X + n * 2 - m, where(n >= m, X, 0)"))
    check(diagram("X: n f", "return where(f < 700, X, -X) + f"))
    check(diagram("X: n m", "return where((n - m) % 3 == 0, X, 0.0)"))


def test_conditions() -> None:
    check(diagram("X: n m, Y: n m", "return X > Y, X <= Y and not (X == Y)"), 0.0)
    check(diagram("X: n m, Y: n m", "return where(X > Y, X, -Y), max(X, 0), min(Y, 0.5)"))
    check(diagram("M: n m i1, N: m i1", "return M and N, M or not N, where(M, 1.0, -1.0)"), 0.0)


def test_integers() -> None:
    check(diagram("X: n m i32, Y: n m i64", "return X * 2 + 3, Y % 5, X > 3, abs(Y)"), 0.0)
    check(diagram("X: n m i64", "return f32(X) * 0.5, i32(X) - 1, bf16(X)"), 0.0)
    check(diagram("X: n f i8, Y: n f i16", "return i32(X) * i32(Y), f32(X) / 3"), 1e-6)


@pytest.mark.parametrize(
    ("body", "tolerance"),
    [
        ("return X + Y", 1e-3),
        ("return Y * Z + X", 1e-6),
        ("return bf16(Z) * X", 4e-3),
        ("return f16(X) + 1, f64(Y) * Z", 4e-3),
        ("return exp(f64(Z)), tanh(f64(X)), f32(f64(Z) * 2)", 1e-6),
    ],
)
def test_mixed_types(body: str, tolerance: float) -> None:
    check(diagram("X: n m bf16, Y: n m f16, Z: n m", body), tolerance)


def test_f64_is_exact_to_its_last_digits() -> None:
    check(diagram("X: n m f64, Y: m f64", "return exp(X) * Y, log(1 + X * X), sin(X)"), 1e-14)


def test_tables_and_joined_arrays() -> None:
    check(diagram("X: n g", "t: g = [1, -2.5, 3]", "return X * t + 1, t * 2"))
    axes = "axis n, d = 64, e = 24, w = 88, v = 27"
    joined = ("Z = concat(X * 2, Y) along e d as w", "return Z * Z + 1")
    check(diagram("X: n e, Y: n d", *joined, axes=axes))
    check(diagram("X: n e", "Z = pad(X * 2, 1, 2) along e as v", "return Z * Z + 1", axes=axes))


def test_views_of_any_strides_are_read_in_place() -> None:
    both = agreement(diagram("X: a n d, Y: a n d", "return X * Y + 1"))
    base = torch.from_numpy(np.random.default_rng(5).standard_normal((5, 70, 3, 96))).float()
    x, y = base[:, :, 1, :64], base[:, :, 2, 16:80]
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    for pair in ((x, y), (turned, y), (x, y[:1].expand_as(x)), (x.contiguous(), y.contiguous())):
        (found,) = both.program(pair)
        assert torch.allclose(found, pair[0] * pair[1] + 1, atol=1e-6)
