"""Terms: text and back, meaning, substitution, infix text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagc.algebra.expressions import (
    FUNCTIONS,
    Expr,
    call,
    constant,
    divide,
    evaluate,
    exp,
    in_order,
    is_zero,
    log,
    maximum,
    parse,
    replace,
    select,
    show,
    sqrt,
    substitute,
    symbol,
    symbols,
    text,
)

A, B, M = symbol("a"), symbol("b"), symbol("m")

LEAVES = st.one_of(
    st.sampled_from([A, B, M]),
    st.floats(allow_nan=False).map(constant),
)


def terms(depth: int = 3) -> st.SearchStrategy[Expr]:
    def grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        return st.sampled_from(sorted(FUNCTIONS)).flatmap(
            lambda op: st.tuples(*[inner] * FUNCTIONS[op]).map(lambda args: Expr(op, args))
        )

    return st.recursive(LEAVES, grow, max_leaves=2**depth)


@given(terms())
def test_text_is_read_back(term: Expr) -> None:
    assert parse(text(term)) == term


@given(terms())
def test_symbols_in_order_are_all_symbols(term: Expr) -> None:
    assert set(in_order(term)) == symbols(term)


@pytest.mark.parametrize(
    "source", ["", "(", ")", "(add a)", "(exp a b)", "(add a b) c", "(add a b", "1..2"]
)
def test_bad_texts_are_refused(source: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the reason differs
        parse(source)


@pytest.mark.parametrize(
    ("term", "shown"),
    [
        (exp(A - M) * B, "exp(a - m) * b"),
        (A - (B - M), "a - (b - m)"),
        (A * (1.0 / B), "a * (1 / b)"),
        (A / (B * M), "a / (b * m)"),
        (-(A + B), "-(a + b)"),
        (maximum(A, 0.0), "max(a, 0)"),
    ],
)
def test_infix_text_has_the_parentheses_it_needs(term: Expr, shown: str) -> None:
    assert show(term) == shown


def test_evaluation_follows_ieee() -> None:
    assert evaluate(exp(A - M), {"a": -math.inf, "m": 0.0}) == 0.0
    assert evaluate(exp(A), {"a": 1e4}) == math.inf
    assert math.isnan(evaluate(A - A, {"a": math.inf}))
    assert math.isnan(evaluate(A / B, {"a": 1.0, "b": 0.0}))
    assert evaluate(divide(A, B), {"a": 3.0, "b": 4.0}) == 0.75
    assert evaluate(sqrt(A), {"a": 2.25}) == 1.5
    assert math.isnan(evaluate(sqrt(A), {"a": -1.0}))
    assert evaluate(log(A), {"a": 0.0}) == -math.inf
    with pytest.raises(ValueError, match=r"'math\.cbrt:f32:' is not evaluated"):
        evaluate(call("math.cbrt:f32:", A), {"a": 1.0})


def test_every_function_is_evaluated() -> None:
    for name, count in FUNCTIONS.items():
        value = evaluate(call(name, *[A] * count), {"a": 0.5})
        assert math.isfinite(value), name


def test_substitution_is_simultaneous() -> None:
    assert substitute(A - B, {"a": B, "b": A}) == B - A


def test_replacement_finds_equal_subterms() -> None:
    assert replace((A - M) * (A - M), A - M, B) == B * B


def test_zero_by_form() -> None:
    assert is_zero(constant(0.0) * exp(A))
    assert is_zero(-(constant(0.0) / B))
    assert not is_zero(A - A)
    assert not is_zero(select(A, 0.0, B))


def test_unknown_functions_are_kept() -> None:
    term = call("math.cbrt:f32:", A)
    assert parse(text(term)) == term
    assert show(term) == "math.cbrt:f32:(a)"
