"""Find the boolean mask in the operand of a softmax.

A softmax over `select(m, x, -inf)`, or over `x + b` with b either 0 or -inf, equals a softmax of x
that excludes positions, because exp(-inf) = 0 in both its numerator and its denominator. Only a
-inf that stands in the program counts: a mask that arrives as a float tensor, and a finite one such
as finfo.min, stay arithmetic, since they mean something else for rows that are masked throughout.
"""

from dataclasses import dataclass

import torch

from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import GraphOp, MapOp, Use, View, positions
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.scalar import (
    NEGATIVE_INFINITY,
    Apply,
    Const,
    Expr,
    Operand,
    is_const,
    is_float,
    operands,
)
from diagc.frontend.torch.simplify import apply, cast, rebuild

__all__ = ["split_mask"]

_DEPTH = 4
"""Maps between the mask and the softmax that are looked through: scale, cast, mask."""


@dataclass(frozen=True)
class _Split:
    """Where `keep` holds the value is `value`, elsewhere it is -inf; without keep, everywhere."""

    value: Expr
    keep: Expr | None = None


def split_mask(r: Raiser, view: View) -> tuple[View, View | None]:
    """The operand of a softmax without its mask, and the mask; (view, None) if there is none."""
    if not _mentions_infinity(view.value.op, _DEPTH):
        return view, None
    builder = MapBuilder(r)
    expr, dims = _inlined(builder, view)
    split = _split(expr)
    if split.keep is None:
        return view, None
    missing = _axes(builder, split.keep) - _axes(builder, split.value)
    value = builder.finish(split.value, dims, "scores", every_axis=bool(missing))
    keep = builder.finish(split.keep, dims, "keep")
    return value, keep


def _inlined(builder: MapBuilder, view: View) -> tuple[Expr, list[list[Axis]]]:
    """The expression of a view, with maps that mention -inf inlined into it."""
    expr, dims = builder.operand(view, inline=True)
    for depth in range(_DEPTH - 1, 0, -1):
        expr = _inline_operands(builder, expr, depth)
    return expr, dims


def _inline_operands(builder: MapBuilder, expr: Expr, depth: int) -> Expr:
    """`expr` with those operands inlined whose maps mention -inf."""
    exprs = {
        number: builder.inline_use(builder.uses[number])
        for number in {o.number for o in operands(expr)}
        if _mentions_infinity(builder.uses[number].value.op, depth)
    }
    return rebuild(expr, lambda e: exprs.get(e.number, e) if isinstance(e, Operand) else e)


def _mentions_infinity(op: GraphOp, depth: int) -> bool:
    if not isinstance(op, MapOp) or op.expr is None:
        return False
    if _has_infinity(op.expr):
        return True
    return depth > 1 and any(_mentions_infinity(u.value.op, depth - 1) for u in op.uses)


def _has_infinity(expr: Expr) -> bool:
    if isinstance(expr, Apply):
        return any(_has_infinity(arg) for arg in expr.args)
    return is_const(expr, NEGATIVE_INFINITY)


def _axes(builder: MapBuilder, expr: Expr) -> set[int]:
    """Ids of the axes that an expression depends on."""
    numbers = {o.number for o in operands(expr)}
    uses: list[Use] = [builder.uses[n] for n in numbers]
    found = {id(local) for use in uses for _, local in use.leaf_pairs()}
    return found | {id(a) for a in leaves(positions(expr))}


def _split(expr: Expr) -> _Split:
    """Split a float expression; the first rule that fits wins."""
    if not isinstance(expr, Apply):
        return _Split(expr)
    match expr.name:
        case "select":
            return _split_select(*expr.args)
        case "add":
            return _split_add(*expr.args)
        case "mul" | "div":
            return _split_scaled(expr.name, *expr.args)
        case "cast" if is_float(expr.args[0].dtype) and is_float(expr.dtype):
            inner = _split(expr.args[0])
            return _Split(cast(inner.value, expr.dtype), inner.keep)
    return _Split(expr)


def _split_select(condition: Expr, yes: Expr, no: Expr) -> _Split:
    if is_const(yes, NEGATIVE_INFINITY):
        inner = _split(no)
        return _Split(inner.value, _both(apply("not", condition), inner.keep))
    if is_const(no, NEGATIVE_INFINITY):
        inner = _split(yes)
        return _Split(inner.value, _both(condition, inner.keep))
    return _Split(apply("select", condition, yes, no))


def _split_add(left: Expr, right: Expr) -> _Split:
    for value, mask in ((left, right), (right, left)):
        zero_where = _zero_or_infinity(mask)
        if zero_where is not None:
            inner = _split(value)
            return _Split(inner.value, _both(zero_where, inner.keep))
    first, second = _split(left), _split(right)
    return _Split(apply("add", first.value, second.value), _both(first.keep, second.keep))


def _zero_or_infinity(expr: Expr) -> Expr | None:
    """The condition for 0, of an expression that is either 0 or -inf."""
    if isinstance(expr, Apply) and expr.name == "cast":
        return _zero_or_infinity(expr.args[0])
    if not isinstance(expr, Apply) or expr.name != "select":
        return None
    condition, yes, no = expr.args
    if is_const(yes, 0) and is_const(no, NEGATIVE_INFINITY):
        return condition
    if is_const(no, 0) and is_const(yes, NEGATIVE_INFINITY):
        return apply("not", condition)
    return None


def _split_scaled(name: str, left: Expr, right: Expr) -> _Split:
    """A positive factor keeps -inf."""
    if isinstance(right, Const) and right.value > 0:
        inner = _split(left)
        return _Split(apply(name, inner.value, right), inner.keep)
    if name == "mul" and isinstance(left, Const) and left.value > 0:
        inner = _split(right)
        return _Split(apply(name, left, inner.value), inner.keep)
    return _Split(apply(name, left, right))


def _both(left: Expr | None, right: Expr | None) -> Expr | None:
    if left is None or right is None:
        return left or right
    assert left.dtype == torch.bool
    return apply("and", left, right)
