"""Laws of corrections: which hold, which do not, and that those that hold are true."""

import math
import random

import pytest

from diagc.algebra import laws
from diagc.algebra.expressions import (
    Expr,
    absolute,
    call,
    constant,
    evaluate,
    exp,
    parse,
    select,
    sqrt,
    symbol,
    symbols,
    text,
)

A, B, C, K, L, M, Z = (symbol(name) for name in "abcklmz")

SCALES = [
    (exp(A - M), "m", "exp(m - m_new)"),
    (exp(A - M) * B, "m", "exp(m - m_new)"),
    (exp((A - M) * C), "m", "exp(c * (m - m_new))"),
    (exp(A) * exp(-M), "m", "exp(m - m_new)"),
    (exp(A - M) + exp(B - M), "m", "exp(m - m_new)"),
    (exp(absolute(A) - M) * B, "m", "exp(m - m_new)"),
    (select(K, exp(A - M), 0.0) * B, "m", "exp(m - m_new)"),
    (select(K, exp(A - M), exp(B - M)), "m", "exp(m - m_new)"),
    (exp(select(K, A, float("-inf")) - M) * B, "m", "exp(m - m_new)"),
    (exp(A - M - L), "ml", "exp(m + l - m_new - l_new)"),
    (A / sqrt(Z), "z", "sqrt(z) / sqrt(z_new)"),
]


def holds(phi: Expr, law: Expr, statistics: str, kind: str) -> bool:
    """Whether a law is true on random numbers."""
    rng = random.Random(7)
    for _ in range(20):
        old = {name: rng.uniform(0.1, 2.0) for name in symbols(phi)}
        new = {**old, **{name: rng.uniform(0.1, 2.0) for name in statistics}}
        both = {**old, **{name + laws.NEW: new[name] for name in statistics}}
        factor = evaluate(law, both)
        before, after = evaluate(phi, old), evaluate(phi, new)
        wanted = before * factor if kind == "scale" else before + factor
        if not math.isclose(after, wanted, rel_tol=1e-9):
            return False
    return True


@pytest.mark.parametrize(("phi", "statistics", "expected"), SCALES)
def test_scale(phi: Expr, statistics: str, expected: str) -> None:
    law = laws.scale(phi, list(statistics), "abk")
    assert str(law) == expected
    if "sqrt" not in expected and "select" not in text(phi):
        assert law is not None
        assert holds(phi, law, statistics, "scale")


@pytest.mark.parametrize(
    "phi",
    [
        (A - M) * (A - M),
        exp(A - M) * (A - M),
        call("tanh", A - M),
        exp(A - M) / (1.0 + exp(A - M)),
        exp(A * M),
        select(K, exp(A - M), A),
        select(call("lt", A, M), exp(A - M), 0.0),
        call("math.cbrt:f32:", A - M),
    ],
)
def test_no_scale(phi: Expr) -> None:
    assert laws.scale(phi, ["m"], "abk") is None


def test_what_no_statistic_changes_is_scaled_by_one() -> None:
    assert laws.scale(A * B, ["m"], "ab") == constant(1.0)
    assert laws.offset(A * B, ["m"], "ab") == constant(0.0)


def test_offset() -> None:
    law = laws.offset(A - M, ["m"], "a")
    assert str(law) == "m - m_new"
    assert law is not None
    assert holds(A - M, law, "m", "offset")
    assert laws.offset(A * M, ["m"], "a") is None


def test_captured_wires_may_stand_in_a_law() -> None:
    law = laws.scale(exp((A - M) * C), ["m"], "a")
    assert law is not None
    assert symbols(law) == {"c", "m", "m_new"}


def test_names_do_not_matter() -> None:
    first = laws.scale(exp(symbol("p") - symbol("q")), ["q"], ["p"])
    assert str(first) == "exp(q - q_new)"


@pytest.mark.parametrize(
    ("source", "safe"),
    [
        ("(exp (sub m m_new))", True),
        ("(div m c)", True),
        ("(div z z_new)", False),
        ("(log m)", False),
        ("(sqrt z)", False),
        ("(sqrt c)", True),
    ],
)
def test_laws_that_divide_by_a_statistic_are_not_safe(source: str, safe: bool) -> None:
    assert laws.is_safe(parse(source), ["m", "z"]) is safe


def test_cases_choose_one_branch_for_equal_conditions() -> None:
    phi = select(K, A, 0.0) * select(K, B, 1.0)
    assert list(laws.cases(phi)) == [A * B, constant(0.0) * constant(1.0)]


MOMENTS = [
    ((A - M) * (A - M), None, ["2 * (m - a)", "2"]),
    (A - M, None, ["-1"]),
    ((A - M) * B, None, ["-b"]),
    (exp(A - M) * (A - M), "exp(m - m_new)", ["-exp(a - m)"]),
    (select(K, (A - M) * (A - M), 0.0), None, ["select(k, -(2 * (a - m)), 0)", "select(k, 2, 0)"]),
    (
        (A - M) * (A - M) * (A - M),
        None,
        ["-(3 * (a - m) * (a - m))", "6 * (a - m)", "-6"],
    ),
    (exp(A - M), "exp(m - m_new)", []),
]


def moves(phi: Expr, found: laws.Moments) -> bool:
    """Whether the sum moves by Taylor's formula, on random numbers."""
    rng = random.Random(8)
    for _ in range(10):
        old = {"a": rng.uniform(-2, 2), "b": rng.uniform(-2, 2), "k": 1.0, "m": rng.uniform(-2, 2)}
        new = rng.uniform(-2.0, 2.0)
        step = new - old["m"]
        terms = [phi, *found.terms]
        total = sum(evaluate(t, old) * step**k / math.factorial(k) for k, t in enumerate(terms))
        if found.scale is not None:
            total *= evaluate(found.scale, {**old, "m_new": new})
        if not math.isclose(total, evaluate(phi, {**old, "m": new}), abs_tol=1e-9):
            return False
    return True


@pytest.mark.parametrize(("phi", "scale", "terms"), MOMENTS)
def test_moments(phi: Expr, scale: str | None, terms: list[str]) -> None:
    found = laws.moments(phi, "m", "abk")
    assert found is not None
    assert moves(phi, found)
    assert [str(term) for term in found.terms] == terms
    assert (None if found.scale is None else str(found.scale)) == scale


@pytest.mark.parametrize(
    "phi",
    [
        call("tanh", A - M),
        exp(A * M),
        exp(A - M) + exp((A - M) * 2.0),
        select(K, (A - M) * (A - M), 1.0),
        select(call("lt", A, M), A - M, 0.0),
        A / M,
    ],
)
def test_no_moments(phi: Expr) -> None:
    assert laws.moments(phi, "m", "abk") is None
