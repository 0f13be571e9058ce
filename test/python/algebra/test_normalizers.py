"""The table of normalisers: its rows keep their promises, and no pass knows a row by name."""

import ast
import math
from pathlib import Path

import pytest

from diagc.algebra import normalizers
from diagc.algebra.expressions import Expr, call, constant, exp, show, symbol
from diagc.algebra.normalizers import NORMALIZERS, Normalizer
from diagc.dialects import diag
from diagc.dialects.diag import normalize_op

ROOT = Path(__file__).resolve().parents[3]
X, Z, N = symbol("x"), symbol("z"), symbol("n")


def number(expr: Expr, **values: float) -> float:
    """The value of a term that may use roots."""
    if expr.op == "sqrt":
        return math.sqrt(number(expr.args[0], **values))
    from diagc.algebra.expressions import evaluate

    return evaluate(expr, values)


def test_every_row_is_a_kind_of_the_dialect() -> None:
    assert set(NORMALIZERS) == set(diag.registered_kinds())


@pytest.mark.parametrize("row", NORMALIZERS.values(), ids=lambda row: row.name)
def test_the_excluded_value_changes_nothing(row: Normalizer) -> None:
    if row.excluded is None:
        return
    shifted = constant(row.excluded) if row.shift is None else constant(row.excluded) - 2.5
    assert number(row.numerator(shifted)) == 0.0
    if row.statistic is not None:
        assert number(row.statistic(shifted)) == 0.0
    if row.shift is not None:
        assert diag.MONOIDS[row.shift.kind].float_identity == row.excluded


@pytest.mark.parametrize("row", NORMALIZERS.values(), ids=lambda row: row.name)
def test_the_shift_of_an_empty_row_is_finite(row: Normalizer) -> None:
    if row.shift is None:
        return
    empty = diag.MONOIDS[row.shift.kind].float_identity
    assert empty is not None
    assert math.isfinite(number(row.shift.value(Z, N), z=empty, n=1.0))


def test_eps_stands_where_it_is_said() -> None:
    row = normalizers.find("l2")
    eps = constant(0.5)
    assert show(row.aggregate(Z, N, None)) == "sqrt(z)"
    assert show(row.aggregate(Z, N, eps, "inside")) == "sqrt(z + 0.5)"
    assert show(row.aggregate(Z, N, eps, "outside")) == "sqrt(z) + 0.5"


def test_rows_that_divide_by_the_size_say_so() -> None:
    needing = {name for name, row in NORMALIZERS.items() if row.needs_size()}
    assert needing == {"rms", "layer"}


def test_registered_rows_become_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalizers, "NORMALIZERS", dict(NORMALIZERS))
    monkeypatch.setattr(normalize_op, "_KINDS", list(diag.registered_kinds()))
    row = Normalizer("softmax-one", numerator=exp, statistic=exp, inner=lambda z, n: z + 1.0)
    kinds = diag.registered_kinds()
    normalizers.register(row)
    assert normalizers.find("softmax-one") is row
    assert diag.registered_kinds() == (*kinds, "softmax-one")
    with pytest.raises(ValueError, match="normaliser 'softmax-one' exists already"):
        normalizers.register(row)


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


def test_formulas_read_like_the_table() -> None:
    row = normalizers.find("softmax")
    assert show(row.numerator(X - symbol("c"))) == "exp(x - c)"
    assert row.shift is not None
    assert show(row.shift.value(symbol("m"), N)) == "select(m == -inf, 0, m)"
    assert call("exp", X) == row.numerator(X)
