"""The interpreter on normalisers, against a loop over rows in plain Python."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from diagc import normalizer_meaning
from diagc.context import make_context
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.targets import interp

Array = npt.NDArray[Any]
KINDS = ("softmax", "l2", "l1", "relu-sum", "sigmoid", "none", "rms", "layer")


@pytest.fixture(autouse=True)
def context() -> Iterator[ir.Context]:
    with make_context() as ctx, ir.Location.unknown():
        yield ctx


def normalize(
    kind: str, x: Any, keep: Any = None, eps: float | None = None, place: str | None = None
) -> Array:
    """Normalise a matrix over its second axis through the interpreter."""
    wire, mask = 'tensor<?x?xf32, ["q","x"]>', 'tensor<?x?xi1, ["x","q"]>'
    attributes = f'along = ["x"], kind = "{kind}"'
    attributes += "" if eps is None else f", eps = {eps:.17e} : f64"
    attributes += "" if place is None else f', eps_place = "{place}"'
    operands, types = ("%x, %k", f"{wire}, {mask}") if keep is not None else ("%x", wire)
    module = ir.Module.parse(f"""func.func @main(%x: {wire}, %k: {mask}) -> {wire} {{
      %y = "diag.normalize"({operands}) {{{attributes}}} : ({types}) -> {wire}
      return %y : {wire}
    }}""")
    module.operation.verify()
    x = np.asarray(x, dtype=float)
    mask_array = np.ones(x.T.shape, bool) if keep is None else np.asarray(keep, bool).T
    (y,) = interp.evaluate(module, [x, mask_array])
    return y


def row_reference(kind: str, row: list[float], kept: list[bool], eps: float, place: str) -> Any:
    """The definitions of theory §3, one row, with Python floats; n is the size of the axis."""
    values = [v for v, k in zip(row, kept, strict=True) if k]
    n = len(row)
    square = math.fsum(v * v for v in values)
    mean = math.fsum(values) / n if n else 0.0
    variance = math.fsum((v - mean) ** 2 for v in values) / n if n else 0.0

    top = max(values, default=0.0)

    def root(z: float) -> float:
        return math.sqrt(z + eps) if place == "inside" else math.sqrt(z) + eps

    table: dict[str, tuple[Callable[[float], float], float]] = {
        "softmax": (
            lambda v: math.exp(v - top),
            math.fsum(math.exp(v - top) for v in values) + eps,
        ),
        "l2": (lambda v: v, root(square)),
        "l1": (lambda v: v, math.fsum(abs(v) for v in values) + eps),
        "relu-sum": (lambda v: max(v, 0.0), math.fsum(max(v, 0.0) for v in values) + eps),
        "sigmoid": (lambda v: 1 / (1 + math.exp(-v)), 1.0),
        "none": (lambda v: v, 1.0),
        "rms": (lambda v: v, root(square / n if n else 0.0)),
        "layer": (lambda v: v - mean, root(variance)),
    }
    numerator, denominator = table[kind]
    return [
        numerator(v) / denominator if k and denominator else 0.0
        for v, k in zip(row, kept, strict=True)
    ]


def reference(kind: str, x: Array, keep: Array, eps: float, place: str) -> Array:
    rows = [
        row_reference(kind, row.tolist(), kept.tolist(), eps, place)
        for row, kept in zip(x, keep, strict=True)
    ]
    return np.array(rows).reshape(x.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("eps", "place"), [(None, None), (1e-2, "inside"), (1e-2, "outside")])
@pytest.mark.parametrize("masked", [False, True])
def test_normalizer_is_its_definition(
    kind: str, eps: float | None, place: str | None, masked: bool
) -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(6, 9)) + 0.3
    x[4] = 0.0
    keep = rng.random(size=x.shape) < 0.6 if masked else np.ones(x.shape, bool)
    if masked:
        keep[2] = False
    y = normalize(kind, x, keep if masked else None, eps, place)
    np.testing.assert_allclose(
        y, reference(kind, x, keep, eps or 0.0, place or "inside"), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 0), (0, 4), (2, 1)])
def test_empty_axes(kind: str, shape: tuple[int, int]) -> None:
    y = normalize(kind, np.full(shape, 1.5))
    assert y.shape == shape
    assert np.isfinite(y).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fully_masked_rows_are_zero_whatever_they_hold(kind: str) -> None:
    x = np.array([[np.nan, np.inf, 1.0], [1.0, 2.0, 3.0]])
    y = normalize(kind, x, [[False] * 3, [True] * 3])
    assert y[0].tolist() == [0.0, 0.0, 0.0]
    assert np.isfinite(y[1]).all()


@pytest.mark.parametrize("kind", ["softmax", "l2", "l1", "relu-sum", "rms", "layer"])
def test_nan_propagates_along_its_row_only(kind: str) -> None:
    y = normalize(kind, [[np.nan, 1.0], [2.0, 1.0]])
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()


def test_excluded_nan_and_infinity_count_in_no_statistic() -> None:
    keep = [[False, True, True, False]]
    for kind in KINDS:
        y = normalize(kind, [[np.nan, 1.0, 2.0, np.inf]], keep)
        assert np.isfinite(y).all()
        np.testing.assert_allclose(
            y, reference(kind, np.array([[0.0, 1.0, 2.0, 0.0]]), np.array(keep), 0.0, "inside")
        )


def test_softmax_of_huge_scores_and_of_minus_infinity() -> None:
    y = normalize("softmax", [[1e4, 1e4, -1e4], [-np.inf] * 3, [-np.inf, 5.0, -np.inf]])
    assert y.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def test_layer_of_a_large_mean_keeps_its_digits() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 64))
    np.testing.assert_allclose(normalize("layer", x + 1e6), normalize("layer", x), rtol=1e-7)


def test_unknown_meaning_is_named_and_users_can_add_theirs() -> None:
    keep = np.ones((1, 2), bool)
    with pytest.raises(UnsupportedError, match=r"'diag\.normalize cube'"):
        normalizer_meaning.normalize("cube", np.ones((1, 2)), (1,), keep=keep)
    with pytest.raises(ValueError, match="'l2' has a meaning already"):
        normalizer_meaning.register_meaning("l2", lambda x, *others: x)


def test_sigmoid_keeps_its_digits_far_from_zero() -> None:
    far = [-700.0, -60.0, -1.0, 0.0, 1.0, 60.0, -math.inf, math.inf]
    exact = [math.exp(x) / (1.0 + math.exp(x)) for x in far[:-2]] + [0.0, 1.0]
    np.testing.assert_allclose(normalize("sigmoid", [far])[0], exact, rtol=1e-15)
