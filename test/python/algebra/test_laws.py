"""Laws of corrections: which hold, which do not, and that those that hold are true."""

import math
import random
from itertools import pairwise

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
from diagc.algebra.finite_rank import MOST_SUMS, Form, factor_name

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


S, T = symbol("s"), symbol("t")

CASCADES = [
    # summand, statistics, sums, factors
    ((A - M) * (A - M), "m", ["(a - m) * (a - m)", "2 * m - 2 * a", "2"], ["m_new - m"]),
    (A - M, "m", ["a - m", "-1"], ["m_new - m"]),
    ((A - M) * B, "m", ["b * (a - m)", "-b"], ["m_new - m"]),
    (
        exp(A - M) * (A - M),
        "m",
        ["(a - m) * exp(a - m)", "-exp(a - m)"],
        ["exp(m - m_new)", "m_new - m"],
    ),
    (
        select(K, (A - M) * (A - M), 0.0),
        "m",
        [
            "select(k, (a - m) * (a - m), 0)",
            "select(k, 2 * (m - a), 0)",
            "select(k, 2, 0)",
        ],
        ["m_new - m"],
    ),
    (exp(A - M), "m", ["exp(a - m)"], ["exp(m - m_new)"]),
    (
        exp(A - M) + exp((A - M) * 2.0),
        "m",
        ["exp(2 * a - 2 * m)", "exp(a - m)"],
        ["exp(2 * (m - m_new))", "exp(m - m_new)"],
    ),
    (
        exp(A - M) * (B - S) * (B - S),
        "ms",
        [
            "(b - s) * (b - s) * exp(a - m)",
            "(2 * s - 2 * b) * exp(a - m)",
            "2 * exp(a - m)",
        ],
        ["exp(m - m_new)", "s_new - s"],
    ),
    (A / M, "m", ["a"], []),
    (call("cos", A - M), "m", ["sin(a)", "cos(a)"], []),
    (call("tanh", M) * A, "m", ["a"], []),
]


def follows(phi: Expr, form: Form, statistics: str) -> bool:
    """Whether the sums move as the form says, on random numbers and through two moves."""
    rng = random.Random(8)
    for _ in range(10):
        fixed = {"a": rng.uniform(-2, 2), "b": rng.uniform(-2, 2), "k": 1.0}
        path = [{name: rng.uniform(0.2, 2.0) for name in statistics} for _ in range(3)]
        sums = [evaluate(term, {**fixed, **path[0]}) for term in form.terms]
        for old, new in pairwise(path):
            both = {**old, **{name + laws.NEW: value for name, value in new.items()}}
            factors = {factor_name(k): evaluate(f, both) for k, f in enumerate(form.factors)}
            sums = [sum(evaluate(c, factors) * sums[k] for k, c in row) for row in form.moves]
        weights = [evaluate(weight, path[-1]) for weight in form.weights]
        total = sum(w * d for w, d in zip(weights, sums, strict=True))
        if not math.isclose(total, evaluate(phi, {**fixed, **path[-1]}), abs_tol=1e-9):
            return False
    return True


@pytest.mark.parametrize(("phi", "statistics", "terms", "factors"), CASCADES)
def test_cascades(phi: Expr, statistics: str, terms: list[str], factors: list[str]) -> None:
    forms = laws.cascade(phi, list(statistics), "abk")
    assert [str(term) for term in forms[0].terms] == terms
    assert [str(factor) for factor in forms[0].factors] == factors
    assert all(follows(phi, form, statistics) for form in forms)


def test_sums_that_are_multiples_of_each_other_are_kept_once() -> None:
    square = (A - S - T) * (A - S - T)
    (first, *_) = laws.cascade(square, ["s", "t"], "a")
    assert len(first.terms) == 3
    assert follows(square, first, "st")


@pytest.mark.parametrize("degree", range(1, 9))
def test_the_bound_on_the_number_of_sums(degree: int) -> None:
    found = laws.cascade(call("pow", A - M, float(degree)), ["m"], "a")
    assert bool(found) == (degree < MOST_SUMS)
    assert all(len(form.terms) <= MOST_SUMS for form in found)


@pytest.mark.parametrize(
    "phi",
    [
        call("tanh", A - M),
        exp(A * M),
        select(K, (A - M) * (A - M), 1.0),
        select(call("lt", A, M), A - M, 0.0),
        1.0 / (1.0 + (A - M) * (A - M)),
        absolute(A - M),
        call("log", 1.0 + exp(A - M)),
    ],
)
def test_no_cascade(phi: Expr) -> None:
    assert laws.cascade(phi, ["m"], "abk") == []


@pytest.mark.parametrize(
    ("source", "safe"),
    [("(div m z)", True), ("(log z)", True), ("(div z m)", False), ("(log (mul z m))", False)],
)
def test_sums_of_positive_numbers_may_divide(source: str, safe: bool) -> None:
    assert laws.is_safe(parse(source), ["m", "z"], positive=["z"]) is safe
