"""The table of normalisers: its rows keep their promises, and no pass knows a row by name."""

import ast
import math
from dataclasses import replace
from pathlib import Path

import pytest

from diagc.algebra import normalizers
from diagc.algebra.expressions import (
    Expr,
    constant,
    evaluate,
    exp,
    log,
    maximum,
    show,
    sqrt,
    symbol,
)
from diagc.algebra.normalizers import NORMALIZERS, Normalizer
from diagc.algebra.stable_form import Formula, Statistic, derive_form
from diagc.dialects import diag

ROOT = Path(__file__).resolve().parents[3]
X, Z = symbol("x"), symbol("z")


def test_every_row_is_a_kind_of_the_dialect() -> None:
    assert set(NORMALIZERS) == set(diag.registered_kinds())


@pytest.mark.parametrize("row", NORMALIZERS.values(), ids=lambda row: row.name)
def test_the_excluded_value_changes_nothing(row: Normalizer) -> None:
    form = row.form
    if form.excluded is None:
        return
    for c in (-2.5, 0.0, 7.0):
        values = {"x": form.excluded, "c": c}
        assert evaluate(form.numerator, values) == 0.0
        assert all(evaluate(s.term, values) == 0.0 for s in form.statistics)
    if form.kind is not None:
        assert evaluate(form.reference, {"x": form.excluded}) == diag.MONOIDS["max"].float_identity


@pytest.mark.parametrize("row", NORMALIZERS.values(), ids=lambda row: row.name)
def test_the_shift_of_an_empty_row_is_finite(row: Normalizer) -> None:
    if row.form.kind is None:
        return
    empty = diag.MONOIDS[row.form.kind].float_identity
    assert empty is not None
    assert math.isfinite(evaluate(row.form.shift, {"m": empty, "n": 1.0}))


def test_eps_stands_where_it_is_said() -> None:
    form = normalizers.find("l2").form
    eps = constant(0.5)
    assert show(form.aggregate()) == "sqrt(z)"
    assert show(form.aggregate(eps, "inside")) == "sqrt(z + 0.5)"
    assert show(form.aggregate(eps, "outside")) == "sqrt(z) + 0.5"


def test_rows_that_divide_by_the_size_say_so() -> None:
    needing = {name for name, row in NORMALIZERS.items() if row.needs_size()}
    assert needing == {"rms", "layer"}


def test_registered_rows_become_kinds_until_they_are_removed() -> None:
    kinds = diag.registered_kinds()
    row = Normalizer("softmax-one", Formula(exp(X), (Statistic("add", exp(X)),), 1.0 + Z))
    normalizers.register(row)
    try:
        assert normalizers.find("softmax-one") is row
        assert diag.registered_kinds() == (*kinds, "softmax-one")
        with pytest.raises(ValueError, match="normaliser 'softmax-one' exists already"):
            normalizers.register(row)
    finally:
        normalizers.unregister("softmax-one")
    assert diag.registered_kinds() == kinds
    with pytest.raises(KeyError, match="no normaliser 'l2' was registered"):
        normalizers.unregister("l2")
    with pytest.raises(ValueError, match="normaliser 'l2' exists already"):
        normalizers.register(replace(row, name="l2"), replace=True)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(KeyError, match="no normaliser 'max'; known: softmax, l2"):
        normalizers.find("max")


def texts(path: Path) -> set[str]:
    """String literals of a file that are no docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value
    }


def test_no_pass_and_no_law_knows_a_normaliser_by_name() -> None:
    files = [*(ROOT / "passes").glob("*.py"), *(ROOT / "python/diagc/algebra").glob("*.py")]
    named = {
        f"{path.name}: {name}"
        for path in files
        if path.name != "normalizers.py"
        for name in texts(path) & (set(NORMALIZERS) - {"none"})  # an ordinary word
    }
    assert named == set()


def test_the_form_of_softmax_is_derived_from_its_formula() -> None:
    form = normalizers.find("softmax").form
    assert show(form.numerator) == "exp(x - c)"
    assert [show(s.term) for s in form.statistics] == ["exp(x - c)"]
    assert show(form.shift) == "select(m == -inf, 0, m)"
    assert show(form.aggregate()) == "z"
    assert form.cancels()
    assert form.excluded == -math.inf


Z1 = "select(z == 0, 1, z)"  # z, and 1 for a row without elements
FINITE = "select(m == -inf, 0, m)"


@pytest.mark.parametrize(
    ("aggregate", "numerator", "derived", "shift"),
    [
        (1.0 + Z, exp(X), "exp(-c) + z", "max(m, 0)"),
        (sqrt(Z * Z + 4.0), exp(X), "sqrt(z * z + 4 * exp(-2 * c))", "max(m, 0)"),
        (Z + exp(symbol("sink")), exp(X), "z + exp(sink - c)", "max(m, 0)"),
        (sqrt(Z), exp(X) / exp(0.5 * X), None, None),
        (maximum(Z, 1.0), exp(X), "max(z, exp(-c))", "max(m, 0)"),
        (Z * log(Z), exp(X), f"select(z == 0, 0, {Z1} * (log({Z1}) + c))", FINITE),
    ],
)
def test_factors_are_pushed_to_where_they_cancel(
    aggregate: Expr, numerator: Expr, derived: str | None, shift: str | None
) -> None:
    form = derive_form(Formula(numerator, (Statistic("add", exp(X)),), aggregate))
    if derived is not None:
        assert show(form.aggregate()) == derived
        assert show(form.shift) == shift
    for m in (-3.0, 0.5, 4.0):  # exp(rate c) takes the place of exp(c) in the kept statistic
        c = evaluate(form.shift, {"m": m})
        kept = {"z": 1.7 * math.exp(-form.rates[0] * c), "c": c, "sink": 0.3}
        whole = evaluate(aggregate, {"z": 1.7, "sink": 0.3})
        found = evaluate(form.aggregate(), kept) * math.exp(form.rate * c)
        assert math.isclose(found, whole, rel_tol=1e-12)
        at = {"x": 0.8, "c": c}
        moved = evaluate(form.numerator, at) * math.exp(form.rate * c)
        assert math.isclose(moved, evaluate(numerator, at), rel_tol=1e-12)
