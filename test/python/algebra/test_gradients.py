"""Derived gradients of normalisers against autograd through `diagc.normalize`, in f64."""

from typing import Any

import numpy as np
import pytest
import torch

import diagc
from diagc.algebra.direct import numpy_library
from diagc.algebra.evaluation import interpret
from diagc.algebra.expressions import absolute, constant, evaluate, maximum, symbol
from diagc.algebra.gradients import Gradient, derivative, gradient
from diagc.algebra.normalizers import NORMALIZERS, Normalizer
from diagc.errors import UnsupportedError
from diagc.testing.registered import CASES, Case

pytestmark = pytest.mark.usefixtures("registry")
Array = np.ndarray[Any, Any]
X = symbol("x")


def value(term: Any, values: dict[str, Any]) -> Any:
    return interpret(term, values, numpy_library(np.float64).functions, np.float64)


def by_formula(
    row: Normalizer, found: Gradient, x: Array, g: Array, parameters: dict[str, float]
) -> tuple[Array, dict[str, float]]:
    """Dx and the gradients of the parameters for one row, by the formulas of the module."""
    values: dict[str, Any] = {**parameters, "x": x, "n": float(x.size)}
    names = row.formula.names()
    for name, statistic in zip(names, row.formula.statistics, strict=True):
        values[name] = np.sum(value(statistic.term, values) + 0.0 * x)
    b = value(row.formula.aggregate, values)
    share = (g * value(row.formula.numerator, values) / b).sum() / b

    def of(table: dict[str, Any], name: str) -> Any:
        return value(table[name], values) + 0.0 * x if name in table else 0.0 * x

    slopes = [value(found.aggregate[name], values) for name in names]
    dx = g * of(found.numerator, "x") / b
    for slope, table in zip(slopes, found.statistics, strict=True):
        dx = dx - share * slope * of(table, "x")
    given = {}
    for name in parameters:
        direct = value(found.aggregate[name], values) if name in found.aggregate else 0.0
        pairs = zip(slopes, found.statistics, strict=True)
        inner = sum(slope * of(statistic, name).sum() for slope, statistic in pairs)
        given[name] = (g * of(found.numerator, name) / b).sum() - share * (direct + inner)
    return dx, given


SUMS = [case for case in CASES if case.name != "greatest"]


def check(name: str, parameters: dict[str, float]) -> None:
    row = NORMALIZERS[name]
    rng = np.random.default_rng(4)
    x, g = rng.standard_normal((2, 7))
    tensor = torch.tensor(x, requires_grad=True)
    given = {
        p: torch.tensor(v, dtype=torch.float64, requires_grad=True) for p, v in parameters.items()
    }

    def function(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return diagc.normalize(x, name, params=dict(zip(given, values, strict=True)))

    assert torch.autograd.gradcheck(function, (tensor, *given.values()))
    (function(tensor, *given.values()) * torch.tensor(g)).sum().backward()
    dx, by_parameter = by_formula(row, gradient(row), x, g, parameters)
    pairs: list[tuple[Any, torch.Tensor]] = [(dx, tensor)]
    pairs += [(by_parameter[p], given[p]) for p in given]
    for mine, theirs in pairs:
        assert theirs.grad is not None
        np.testing.assert_allclose(mine, theirs.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", SUMS, ids=lambda case: case.name)
def test_registered(case: Case) -> None:
    case.register()
    check(case.name, dict(case.parameters))


@pytest.mark.parametrize("name", [n for n in NORMALIZERS if n != "layer"])
def test_built_in(name: str) -> None:
    check(name, {})


def test_printed() -> None:
    assert str(diagc.gradient("softmax")).splitlines() == [
        "d numerator / dx = exp(x)",
        "d statistic 1 / dx = exp(x)",
        "d aggregate / dz = 1",
    ]


def test_branches_have_the_slope_of_what_is_taken() -> None:
    slope = derivative(maximum(X, 0.0) * maximum(X, 0.0) + absolute(X * constant(3.0)), "x")
    assert [evaluate(slope, {"x": x}) for x in (-2.0, 2.0)] == [-3.0, 7.0]


def test_maxima_and_means_are_refused() -> None:
    next(case for case in CASES if case.name == "greatest").register()
    for name in ("greatest", "layer"):
        with pytest.raises(UnsupportedError, match=f"the gradient of {name}"):
            gradient(NORMALIZERS[name])
