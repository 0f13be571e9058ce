"""Masks as linear conditions, what they exclude, and the bounds that streams get from them."""

from collections.abc import Callable

import pytest

from diagc.compiler import run_pipeline
from diagc.dialects import diag
from diagc.frontend.builder import Diagram, Wire, fn
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.passes.canonical.position_forms import (
    Linear,
    linear_form,
    mask_conditions,
    read_conditions,
)
from diagc.passes.streams.stream_bounds import find_bounds

Mask = Callable[[Wire, Wire], Wire]
kept: list[ir.Module] = []  # an op's handle does not keep its module alive


def mask_op(mask: Mask) -> ir.Operation:
    """The map that a mask of positions q and x is, as a builder and canonicalize-diag make it."""
    with Diagram("main") as g:
        g.input("Q", q=8)
        g.input("K", x=9)
        g.output(mask(g.index("q"), g.index("x")))
    kept.append(g.module)
    with g.module.context:
        run_pipeline(g.module, last="canonical")
    ops = list(diag.function_body(diag.functions(g.module)[0]).operations)
    found: ir.Operation = ops[-1].operation.operands[0].owner.operation
    return found


def conditions(mask: Mask) -> str:
    return str(mask_conditions(mask_op(mask)))


def streams(kind: str, mask: Mask | None, bias: float | None = None) -> list[ir.Operation]:
    """The streams of masked attention; with `bias`, excluded scores get this added instead."""
    with Diagram("main") as g:
        q, k = g.input("Q", q=..., d=16), g.input("K", x=..., d=16)
        s = q.contract(k, "d")
        keep = None if mask is None else mask(g.index("q"), g.index("x"))
        if bias is not None and keep is not None:
            s, keep = s + fn.where(keep, 0.0, bias), None
        g.output(s.normalize(kind, "x", keep=keep).contract(g.input("V", x=..., e=16), "x"))
    kept.append(g.module)
    with g.module.context:
        run_pipeline(g.module, last="streams")
    ops = diag.walk_ops(diag.functions(g.module)[0].regions[0])
    return [op for op in ops if op.name == "diag.stream"]


def bounds(kind: str, mask: Mask | None, bias: float | None = None) -> list[str]:
    return [str(bound) for stream in streams(kind, mask, bias) for bound in find_bounds(stream)]


# ---- linear forms ------------------------------------------------------------------------------


def test_forms_add_and_scale() -> None:
    q = Linear((("q", 1),))
    assert str((q + q).scaled(3) + Linear((), -2)) == "6*q + -2"
    assert (q + q.scaled(-1)) == Linear()
    assert Linear((("q", 2), ("x", 1))).without("q") == Linear((("x", 1),))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (lambda q, x: x <= q, "q + -x + 0 >= 0"),
        (lambda q, x: x < q + 3, "q + -x + 2 >= 0"),
        (lambda q, x: q * 2 >= x, "2*q + -x + 0 >= 0"),
        (lambda q, x: x > q, "-q + x + -1 >= 0"),
        (lambda q, x: (x <= q) & (q < x + 4), "q + -x + 0 >= 0 and -q + x + 3 >= 0"),
        (lambda q, x: x.eq(q), "-q + x + 0 >= 0 and q + -x + 0 >= 0"),
    ],
)
def test_mask_is_linear(mask: Mask, expected: str) -> None:
    assert set(conditions(mask).split(" and ")) == set(expected.split(" and "))


@pytest.mark.parametrize("mask", [lambda q, x: x * q <= q, lambda q, x: x.ne(q)])
def test_mask_is_not_linear(mask: Mask) -> None:
    assert mask_conditions(mask_op(mask)) is None


def test_other_wires_have_no_form() -> None:
    with Diagram("main") as g:
        wire = fn.exp(g.input("X", n=3))
        g.output(wire)
    assert linear_form(wire.value) is None
    assert mask_conditions(wire.value.owner.operation) is None


# ---- bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["softmax", "l1", "l2", "relu-sum"])
def test_causal_mask_bounds_every_normaliser(kind: str) -> None:
    found = bounds(kind, lambda q, x: x <= q)
    assert found
    assert set(found) == {"0 <= x < q + 1 exactly"}


def test_offset_moves_the_bound() -> None:
    assert set(bounds("softmax", lambda q, x: x <= q + 5)) == {"0 <= x < q + 6 exactly"}


def test_window_has_two_ends() -> None:
    found = bounds("softmax", lambda q, x: (x <= q) & (q < x + 4))
    assert set(found) == {"q + -3 <= x < q + 1"}


def test_falling_end_is_no_bound() -> None:
    assert bounds("softmax", lambda q, x: x <= 7 - q) == []


def test_no_mask_no_bound() -> None:
    assert bounds("softmax", None) == []


@pytest.mark.parametrize("kind", ["softmax", "l1"])
def test_finite_penalty_is_no_bound(kind: str) -> None:
    assert bounds(kind, lambda q, x: x <= q, bias=-1e30) == []


# ---- bounds that are read ----------------------------------------------------------------------

Kept = Callable[[Wire, Wire, Wire], Wire]


def read(keep: Kept, data: str = "q", dtype: str = "i32", bias: float | None = None) -> set[str]:
    """Bounds of attention whose mask is of q, x and integers along `data`, the wire F."""
    with Diagram("main") as g:
        q, k = g.input("Q", q=..., d=16), g.input("K", x=..., d=16)
        first = g.input("F", dtype, **dict.fromkeys(data.split(), ...))
        keep_ = keep(g.index("q"), g.index("x"), first)
        s = q.contract(k, "d")
        if bias is not None:
            weights = (s + fn.where(keep_, 0.0, bias)).normalize("softmax", "x")
        else:
            weights = s.normalize("softmax", "x", keep=keep_)
        g.output(weights.contract(g.input("V", x=..., e=16), "x"))
    kept.append(g.module)
    with g.module.context:
        run_pipeline(g.module, last="streams")
    ops = diag.walk_ops(diag.functions(g.module)[0].regions[0])
    found = [op for op in ops if op.name == "diag.stream"]
    assert found
    return {str(bound) for stream in found for bound in find_bounds(stream)}


@pytest.mark.parametrize("dtype", ["i32", "i64"])
def test_integers_of_rows_are_bounds(dtype: str) -> None:
    assert read(lambda q, x, first: x >= first, dtype=dtype) == {"0 <= x < end and x >= %arg2 + 0"}
    assert read(lambda q, x, first: first >= x, dtype=dtype) == {"0 <= x < end and x < %arg2 + 1"}
    found = read(lambda q, x, first: (x + 3 > first) & (x <= q), dtype=dtype)
    assert found == {"0 <= x < q + 1 and x >= %arg2 + -2"}


def test_equal_to_what_is_read_has_both_ends() -> None:
    (found,) = read(lambda q, x, first: x.eq(first))
    assert set(found.split(" and ")[1:]) == {"x >= %arg2 + 0", "x < %arg2 + 1"}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("F <= x + 2", ["x + -%2 + 2 >= 0"]),
        ("F <= x and x < F", ["x + -%2 + 0 >= 0", "-x + %2 + -1 >= 0"]),
        ("F - 1 <= x", []),  # may overflow
        ("F + x <= 5", []),
        ("F <= 5", []),
    ],
)
def test_conditions_of_one_expression(condition: str, expected: list[str]) -> None:
    module = parse(f"axis q, x\ndiagram main(F: q i32) {{\n  return {condition}\n}}\n", "f.diag")
    kept.append(module)
    ops = diag.walk_ops(diag.functions(module)[0].regions[0])
    (mask,) = [op for op in ops if op.name == "diag.map"]
    assert [f"{form} >= 0" for form in read_conditions(mask)] == expected
    assert mask_conditions(mask) is None


REFUSED: dict[str, Kept] = {
    "a position between": lambda q, x, first: first <= x + q,
    "twice the position": lambda q, x, first: first <= x * 2,
    "one of two": lambda q, x, first: (first <= x) | (x <= q),
    "any other": lambda q, x, first: first.ne(x),
    "the wrong side": lambda q, x, first: first + x <= 5,
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_conditions_on_integers_are_no_bounds(name: str) -> None:
    assert read(REFUSED[name]) == set()


@pytest.mark.parametrize("data", ["x", "q x"])
def test_integers_along_the_stream_are_no_bounds(data: str) -> None:
    assert read(lambda q, x, first: first <= x, data) == set()


def test_small_integers_are_no_bounds() -> None:
    assert read(lambda q, x, first: first <= x, dtype="i16") == set()


def test_finite_penalty_of_read_positions_is_no_bound() -> None:
    assert read(lambda q, x, first: first <= x, bias=-1e30) == set()
