"""Registering normalisers: what is derived and printed, and what is refused and why."""

import ast
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diagc
from diagc.algebra.normalizers import NORMALIZERS
from diagc.context import make_context
from diagc.dialects import diag
from diagc.errors import DiagcError, UnsupportedError, UserError
from diagc.frontend.text import parse
from diagc.scalars import exp, sign, square, where

pytestmark = pytest.mark.usefixtures("registry")


def one_plus(z: Any) -> Any:
    return 1 + z


def logistic(x: Any) -> Any:
    return exp(x) / (1 + exp(x))


def test_a_derivation_is_a_short_proof() -> None:
    proof = diagc.register_normalizer("softmax1", exp, [exp], one_plus)
    assert str(proof).splitlines() == [
        "softmax1(x) = exp(x) / (1 + sum(exp(x)))",
        "  law         range lemma; m = max(x), c = max(m, 0)",
        "  state       m, z",
        "  init        m = -inf, z = 0",
        "  body        m' = max(m, x)",
        "              c' = max(m', 0)",
        "              z' = z * exp(c - c') + exp(x - c')",
        "  correction  z by exp(c - c')",
        "  tail        exp(x - c) / (exp(-c) + z)",
        "  proved      exp(x - c') = exp(c - c') * exp(x - c) for all x, c, c'",
    ]
    assert str(diagc.derivation("softmax1")) == str(proof)


def test_softmax_goes_through_the_same_engine() -> None:
    diagc.register_normalizer("mine", exp, [exp])
    ours, users = (str(diagc.derivation(name)) for name in ("softmax", "mine"))
    assert ours.replace("softmax(x)", "mine(x)") == users


def test_signs_keep_a_reference_of_absolute_values() -> None:
    proof = diagc.register_normalizer(
        "spread", lambda x: where(x < 0, -exp(-x), exp(x)), [lambda x: exp(abs(x))]
    )
    assert "z" in proof.state
    assert "m" in proof.state
    assert NORMALIZERS["spread"].form.excluded is None


@pytest.mark.parametrize(
    ("numerator", "statistics", "aggregate", "options", "message"),
    [
        (exp, [("median", exp)], None, {}, "no monoid.*expected a function.*found 'median'"),
        (exp, [3.0], None, {}, "no sum, maximum or minimum of a scalar function"),
        (exp, [("max", exp)], None, {}, "only a sum can follow the maximum"),
        (lambda x: x, [square], exp, {}, "an aggregate in the range of float32, found .inf"),
        (exp, [exp], lambda z: 1 / z, {}, "an aggregate in the range of float32"),
        (lambda x: x**12, [lambda x: x**12], None, {}, "leaves the range of floats"),
        (logistic, [logistic], None, {}, "an aggregate in the range of float32, found .0"),
        (lambda x: x if x > 0 else 0, [exp], None, {}, "branches on a value"),
        (lambda x: max(x, 0), [exp], None, {}, "branches on a value"),
        (lambda x: x * random.random(), [exp], None, {}, "not pure, expected the same"),
        (lambda x: [x, x], [exp], None, {}, "no scalar function, expected numbers"),
        (lambda x: x > 0, [exp], None, {}, "gives a truth value"),
        (lambda x: x + (x > 0), [exp], None, {}, "wrong operand of 'add'"),
        (lambda x: math.exp(x), [exp], None, {}, "asks for the number behind a symbol"),
        (lambda x: np.exp(x), [exp], None, {}, "no scalar function: TypeError"),
        (lambda x: x % 2, [exp], None, {}, "no scalar function: TypeError: unsupported operand"),
        (lambda x: round(x), [exp], None, {}, "no scalar function: TypeError"),
        (lambda x: x.clip(0), [exp], None, {}, "no scalar function: AttributeError"),
        (
            lambda x: x * math.nan,
            [exp],
            None,
            {},
            "scalar function, expected numbers, found nan",
        ),
        (lambda x: x.sum(), [exp], None, {}, "no scalar function: AttributeError"),
        (lambda x: print(x) or x, [exp], None, {}, "not pure, found it calls print"),
        (lambda x, t: x * t, [exp], None, {}, r"wrong arguments.*found \(x, t\)"),
        (lambda: 1.0, [exp], None, {}, "wrong arguments"),
        (exp, [exp], lambda a, b: a + b, {}, "wrong arguments of the aggregate"),
        (exp, [exp, square], None, {}, "lacks its aggregate"),
        (exp, [exp, square], lambda a, b: a, {}, "does not use z2"),
        (exp, exp, None, {}, "bad statistics"),
        (3.0, [exp], None, {}, "is no function"),
        (exp, [exp], None, {"params": {"t": "h"}}, "no function of 'mine' uses parameter 't'"),
        (lambda x, t: exp(x * t), [exp], None, {"params": {"t": "h h"}}, "bad axes of 't'"),
        (lambda x, t: exp(x * t), [exp], None, {"params": {"t": ["1"]}}, "bad axes of 't'"),
        (exp, [exp], None, {"params": {"z1": ""}}, "has a meaning already"),
        (exp, [exp], None, {"params": {"a b": ""}}, "bad name of a parameter"),
        (exp, [exp], one_plus, {"reference": lambda x: np.exp(x) / np.exp(x).sum()}, "contradicts"),
        (exp, [exp], None, {"reference": lambda x: x.sum()}, "gives no row"),
        (exp, [exp], None, {"reference": lambda x: x.missing}, "fails: AttributeError"),
    ],
)
def test_refused(
    numerator: Any, statistics: Any, aggregate: Any, options: dict[str, Any], message: str
) -> None:
    kinds = diag.registered_kinds()
    with pytest.raises(DiagcError, match=message):
        diagc.register_normalizer("mine", numerator, statistics, aggregate, **options)
    assert diag.registered_kinds() == kinds
    assert "mine" not in NORMALIZERS


def test_side_effects_are_seen() -> None:
    seen: list[int] = []

    def impure(x: Any) -> Any:
        seen.append(len(seen))
        return exp(x)

    with pytest.raises(UserError, match="not pure, found a call changes seen"):
        diagc.register_normalizer("mine", impure, [exp])


def test_a_contradiction_shows_the_row() -> None:
    with pytest.raises(UserError) as found:
        diagc.register_normalizer("mine", exp, [exp], reference=lambda x: 0.0 * x)
    assert "by the law" in str(found.value)
    assert "from the reference" in str(found.value)
    assert found.value.notes[0].startswith("row [")


@pytest.mark.parametrize("name", ["softmax", "relu_sum", "sum", "exp", "f32", "concat", "a b", ""])
def test_names_that_are_taken_or_bad(name: str) -> None:
    with pytest.raises(UserError):
        diagc.register_normalizer(name, exp, [exp])


def test_a_name_is_registered_once_unless_replaced() -> None:
    diagc.register_normalizer("mine", exp, [exp])
    with pytest.raises(UserError, match=r"was registered before; .*replace=True"):
        diagc.register_normalizer("mine", exp, [exp], one_plus)
    diagc.register_normalizer("mine", exp, [exp], one_plus, replace=True)
    assert "1 + sum" in str(diagc.derivation("mine"))
    with pytest.raises(UserError, match="built in"):
        diagc.register_normalizer("l2", exp, [exp], replace=True)
    diagc.unregister_normalizer("mine")
    with pytest.raises(UserError, match="no normaliser 'mine'"):
        diagc.derivation("mine")
    with pytest.raises(UserError, match="no normaliser 'mine' was registered"):
        diagc.unregister_normalizer("mine")


def test_an_overflow_is_told_with_its_row() -> None:
    with pytest.raises(UnsupportedError, match=r"for elements of size .*; row \["):
        diagc.register_normalizer("mine", lambda x: x, [square], exp)


def test_a_row_text_tells_laws_apart() -> None:
    diagc.register_normalizer("mine", exp, [exp])
    first = NORMALIZERS["mine"].text()
    diagc.register_normalizer("mine", exp, [exp], one_plus, replace=True)
    assert NORMALIZERS["mine"].text() != first
    diagc.register_normalizer("mine", exp, [exp], replace=True)
    assert NORMALIZERS["mine"].text() == first


def test_torch_functions_serve_as_references() -> None:
    import torch

    diagc.register_normalizer(
        "mine",
        lambda x: sign(x) * exp(abs(x)),
        [lambda x: exp(abs(x))],
        reference=lambda x: (
            torch.sign(torch.as_tensor(x)) * torch.softmax(torch.as_tensor(x).abs(), 0)
        ),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("(S, s) along h", 'a parameter has the normalised axis "h"'),
        ("(S, u) along x", "parameter 'sink' of 'mine' has other axes, expected h, found x"),
        ("(S, z) along x", "parameter 'sink' of 'mine' has other axes, expected h, found none"),
        ("(S) along x", "wrong number of arguments for 'mine', expected 2, found 1"),
    ],
)
def test_labels_that_clash(call: str, message: str) -> None:
    params = {"sink": "h"}
    diagc.register_normalizer("mine", exp, [exp], lambda z, sink: z + exp(sink), params=params)
    head = "axis h = 3, q, x\ndiagram main(S: h q x, s: h, u: x, z: ()) {\n"
    with make_context(), pytest.raises(DiagcError, match=message) as found:
        parse(f"{head}  return mine{call}\n}}\n", "mine.diag")
    assert str(found.value).startswith("mine.diag:3:")
    assert "\n" not in str(found.value)


SOURCES = Path(diagc.__file__).parent
TABLES = {"algebra/normalizers.py"}


@pytest.mark.parametrize("part", ["algebra", "passes", "targets", "host_program.py"])
def test_no_code_knows_a_normaliser_by_its_name(part: str) -> None:
    """Also not in comparisons, dictionaries or patterns; `none` is a word of its own."""
    names = set(NORMALIZERS) - {"none"}
    place = SOURCES / part
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    for file in files:
        if file.relative_to(SOURCES).as_posix() in TABLES:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{file}:{node.lineno}"
