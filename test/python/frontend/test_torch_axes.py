"""Atomic axes and scalar expressions by themselves."""

import math

import pytest
import torch

from diagc.frontend.torch.axes import Axis, AxisSpace, CannotAlign, leaves
from diagc.frontend.torch.rules import RULES, rule
from diagc.frontend.torch.scalar import INDEX, Apply, Const, Expr, Operand, Position
from diagc.frontend.torch.simplify import apply, cast, rebuild


def _sizes(axes: list[Axis]) -> list[int]:
    return [axis.size for axis in axes]


def test_refine_splits_both_sides() -> None:
    space = AxisSpace()
    left, right = [Axis(12), Axis(10)], [Axis(3), Axis(40)]
    space.refine(left, right, assume=False)
    assert _sizes(leaves(left)) == _sizes(leaves(right)) == [3, 4, 10]


def test_split_reaches_linked_axes_and_those_linked_to_them() -> None:
    space = AxisSpace()
    weight = Axis(64)
    projected = space.twin(weight)
    used = space.twin(projected)
    space.split(used, 4, 16, ("h", "d"))
    assert _sizes(leaves([weight])) == [4, 16]
    outer, inner = leaves([projected])
    space.split(inner, 2, 8, ("", ""))
    assert _sizes(leaves([weight])) == [4, 2, 8]
    assert outer in leaves([projected])


def test_merge_joins_what_both_were_linked_to() -> None:
    space = AxisSpace()
    a, b = Axis(6), Axis(6)
    local_a, local_b = space.twin(a), space.twin(b)
    space.merge(local_a, local_b)
    space.split(a, 2, 3, ("", ""))
    assert _sizes(leaves([b])) == [2, 3]
    assert leaves([local_a]) == leaves([local_b])


@pytest.mark.parametrize(("left", "right"), [([12, 10], [10, 12]), ([6], [4]), ([6], [6, 2])])
def test_borders_that_cross_do_not_align(left: list[int], right: list[int]) -> None:
    with pytest.raises(CannotAlign, match="do not refine"):
        AxisSpace().align([Axis(s) for s in left], [Axis(s) for s in right])


def test_dims_of_size_one_have_no_axis() -> None:
    space = AxisSpace()
    assert space.make(1) == []
    assert space.regroup([Axis(6)], [Axis(2), Axis(3)])[0] != []


def test_symbols_are_equal_by_demand_of_an_op_only() -> None:
    from diagc.frontend.torch.sizes import symbol

    space = AxisSpace()
    a, b = Axis(symbol("a")), Axis(symbol("b"))
    space.align([a], [b])
    assert space.guards == [(symbol("a"), symbol("b"))]
    with pytest.raises(CannotAlign):
        AxisSpace().regroup([Axis(symbol("a")), Axis(symbol("b"))], [Axis(symbol("b"))])


def test_rules_refuse_duplicates() -> None:
    assert "aten.softmax" in RULES
    with pytest.raises(ValueError, match=r"two raising rules for aten\.softmax"):
        rule("softmax")(lambda r, node: [])


# --- scalar expressions -------------------------------------------------------------------------

ROW, COLUMN = Position(INDEX, (Axis(4),)), Position(INDEX, (Axis(5),))
X = Operand(torch.float32, 0)


def _float(value: float) -> Expr:
    return Const(torch.float32, value)


def _shape(expr: Expr) -> object:
    if isinstance(expr, Apply):
        return (expr.name, *(_shape(a) for a in expr.args))
    if isinstance(expr, Const):
        return expr.value
    return "row" if expr is ROW else "column" if expr is COLUMN else "x"


def test_triangle_of_ones_compared_with_zero_is_one_comparison() -> None:
    keep = apply("ge", ROW, COLUMN)
    ones = apply("select", keep, _float(1), _float(0))
    assert _shape(apply("eq", ones, _float(0))) == ("lt", "row", "column")
    assert _shape(apply("not", apply("eq", ones, _float(0)))) == ("ge", "row", "column")


def test_positions_are_compared_as_indices() -> None:
    row, column = (cast(p, torch.int64) for p in (ROW, COLUMN))
    shifted = apply("add", row, Const(torch.int64, 1))
    assert _shape(apply("lt", shifted, column)) == ("lt", ("add", "row", 1), "column")


def test_choice_of_literals_takes_arithmetic_inside() -> None:
    keep = apply("ge", ROW, COLUMN)
    mask = apply("sub", _float(1), cast(keep, torch.float32))
    wide = apply("mul", cast(mask, torch.float32), _float(-math.inf))
    assert isinstance(wide, Apply)


@pytest.mark.parametrize(
    ("name", "args"),
    [("mul", (X, _float(1))), ("div", (X, _float(1))), ("sub", (X, _float(0)))],
)
def test_neutral_literals_vanish(name: str, args: tuple[Expr, ...]) -> None:
    assert apply(name, *args) is X


def test_what_is_not_exact_stays() -> None:
    assert _shape(apply("add", X, _float(0))) == ("add", "x", 0)  # -0.0 + 0 is 0.0
    assert _shape(apply("mul", X, _float(0))) == ("mul", "x", 0)  # NaN * 0 is NaN
    less = apply("lt", X, _float(1))
    assert _shape(apply("not", less)) == ("not", ("lt", "x", 1))  # NaN is neither


def test_widening_and_back_is_nothing_but_narrowing_and_back_rounds() -> None:
    narrow = Operand(torch.bfloat16, 0)
    assert cast(cast(narrow, torch.float32), torch.bfloat16) is narrow
    assert _shape(cast(cast(X, torch.bfloat16), torch.float32)) == ("cast", ("cast", "x"))


def test_literals_are_rounded_to_their_type() -> None:
    literal = cast(Const(torch.float64, 1e300), torch.float32)
    assert isinstance(literal, Const)
    assert literal.value == math.inf


def test_shared_parts_stay_shared() -> None:
    part = apply("exp", X)
    whole = rebuild(apply("mul", part, part), lambda e: Operand(torch.float32, 1))
    assert isinstance(whole, Apply)
    assert whole.args[0] is whole.args[1]
