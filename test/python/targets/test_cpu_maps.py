"""Elementwise kernels on the CPU: layouts, broadcasts, gathers, positions, types."""

import numpy as np
import pytest
import torch

from diagc.testing.agreement import agreement

SHAPES = (
    {"a": 3, "n": 45, "m": 33},
    {"a": 1, "n": 1, "m": 1},
    {"a": 2, "n": 128, "m": 16},
    {"a": 2, "n": 3, "m": 1000},
    {"a": 0, "n": 3, "m": 7},
    {"a": 2, "n": 0, "m": 4},
    {"a": 1, "n": 5, "m": 0},
)
AXES = "axis a, n, m, d = 64, e = 24, f = 768, g = 3, h = 33"


def diagram(parameters: str, *body: str, axes: str = AXES) -> str:
    lines = "\n  ".join(body)
    return f"{axes}\ndiagram test({parameters}) {{\n  {lines}\n}}\n"


def check(source: str, tolerance: float = 1e-6) -> None:
    both = agreement(source)
    assert both.fall_backs == []
    assert both.kernels
    assert both.worst(SHAPES) <= tolerance


# parameters, then the body
BROADCASTS = {
    "chain": ("X: n m, Y: n m", "return X * 2 + Y / (1 + exp(X)) - tanh(Y)"),
    "chain of static axes": ("X: f e, Y: f e", "return gelu(X) * Y"),
    "short static rows": ("X: n g, Y: n g", "return X * Y + X"),
    "along rows": ("X: n m, Y: m", "return X * Y + 1"),
    "along columns": ("X: n m, Y: n", "return X * Y + 1"),
    "bias of short rows": ("X: n g, Y: g", "return X * Y + 1"),
    "bias of odd rows": ("X: a n h, Y: h", "return tanh(X + Y)"),
    "bias of long rows": ("X: n f, Y: f", "return gelu(X + Y)"),
    "outer product": ("X: n, Y: m", "return X * Y + 1"),
    "outer product, static": ("X: n, Y: d", "return X * Y + 1"),
    "one vector": ("X: n", "return exp(X) - X"),
    "three results": ("X: n m, Y: n m", "return X + Y, X - Y * 2, X * Y"),
    "equal results and an input": ("X: n m, Y: n m", "Z = X * Y - Y", "return X, Z, Z"),
    "gates": ("X: n f, G: n f", "return silu(G) * X"),
    "rank 4": ("X: a n m g", "return max(X * 0.125, 0) - X"),
    "a scalar of a reduction": ("X: n m, Y: n m", "s = sum(X) over n m", "return Y * s + 1"),
}


@pytest.mark.parametrize("name", BROADCASTS)
def test_broadcasts(name: str) -> None:
    parameters, *body = BROADCASTS[name]
    check(diagram(parameters, *body), 3e-6)


LAYOUTS = {
    "transposed": ("X: n m, Y: m n", "Z: n m = X * 2 + Y", "return Z"),
    "transposed, static": ("X: d e, Y: e d", "Z: d e = X * 2 + Y", "return Z"),
    "only transposed": ("X: n m", "Z: m n = X * 2 + 1", "return Z"),
    "rotated": ("X: n a m, Y: m a n", "Z: a n m = X + Y * 2", "return Z"),
    "two results in two orders": ("X: n m", "Z: m n = X * 2 + 1", "return Z, X - 1"),
    "short rows turned": ("X: n g, Y: g n", "Z: n g = X * 2 + Y", "return Z"),
    "slices": ("X: n f", "return X[f = 2 * d + 5] * 2 + 1"),
    "shifted views": ("X: n f", "return (X[f = d + 1] - X[f = d]) * 0.5"),
    "slices as columns": ("X: f n", "return (X[f = d + 1] - X[f = d]) * 0.5"),
    "several slices": ("X: d g", "return X[d = e] + 1, X[d = e * 2] - 1"),
}


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
