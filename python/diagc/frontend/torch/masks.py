"""Find the boolean mask in the operand of a softmax.

A softmax over `select(m, x, -inf)`, or over `x + b` with b either 0 or -inf, equals a softmax of x
that excludes positions, because exp(-inf) = 0 in both its numerator and its denominator. Only a
-inf that stands in the program counts: a mask that arrives as a float tensor stays arithmetic.

So does a finite one such as finfo.min, which means something else for rows that are masked
throughout: they are uniform, not empty. But where the mask is a comparison of positions that keeps
a key of every row (the first one, or that of the row's own position), there is no such row, and
scores next to which finfo.min / 2 is not negligible would have overflowed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import GraphOp, MapOp, Use, View, positions
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.scalar import (
    INDEX,
    NEGATIVE_INFINITY,
    Apply,
    Const,
    Expr,
    Operand,
    Position,
    is_const,
    is_float,
    operands,
    parts,
)
from diagc.frontend.torch.simplify import apply, at_position, cast, rebuild
from diagc.frontend.torch.sizes import equal, product

__all__ = ["split_mask"]

_DEPTH = 4
"""Maps between the mask and the softmax that are looked through: scale, cast, mask."""


@dataclass(frozen=True)
class _Split:
    """Where `keep` holds the value is `value`, elsewhere it is -inf; without keep, everywhere.

    Or, if `finite`, elsewhere it may be a number that hides scores.
    """

    value: Expr
    keep: Expr | None = None
    finite: bool = False


def split_mask(r: Raiser, view: View, dim: int) -> tuple[View, View | None]:
    """The operand of a softmax along `dim` without its mask, and the mask.

    (view, None) if there is none.
    """
    if not _mentions(view.value.op, _DEPTH):
        return view, None
    builder = MapBuilder(r)
    expr, dims = _inlined(builder, view)
    split = _Splitter(_hides).split(expr)
    if split.finite and not _keeps_some(split.keep, leaves(dims[dim])):
        split = _Splitter(_is_infinite).split(expr)
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
        if _mentions(builder.uses[number].value.op, depth)
    }
    return rebuild(expr, lambda e: exprs.get(e.number, e) if isinstance(e, Operand) else e)


def _mentions(op: GraphOp, depth: int) -> bool:
    if not isinstance(op, MapOp) or op.expr is None:
        return False
    if _has_hiding(op.expr):
        return True
    return depth > 1 and any(_mentions(u.value.op, depth - 1) for u in op.uses)


def _has_hiding(expr: Expr) -> bool:
    if isinstance(expr, Apply):
        return any(_has_hiding(arg) for arg in expr.args)
    return _hides(expr)


def _hides(expr: Expr) -> bool:
    """Whether an element is a number next to which every score vanishes."""
    if not isinstance(expr, Const) or expr.dtype not in _WIDE_RANGE:
        return is_const(expr, NEGATIVE_INFINITY)
    assert isinstance(expr.dtype, torch.dtype)
    return bool(expr.value <= torch.finfo(expr.dtype).min / 2)


def _is_infinite(expr: Expr) -> bool:
    return is_const(expr, NEGATIVE_INFINITY)


_WIDE_RANGE = (torch.float32, torch.float64, torch.bfloat16)
"""Types in which half the least number is no score."""


def _keeps_some(keep: Expr | None, keys: Sequence[Axis]) -> bool:
    """Whether a mask of positions keeps a key of every row: the first, or the row's own."""
    if keep is None:
        return True
    size = product(axis.size for axis in keys)
    others = [p for p in parts(keep, Position) if leaves(p.axes) != list(keys)]
    inside = [p for p in others if equal(product(a.size for a in leaves(p.axes)), size)]
    tried = (at_position(keep, keys, place) for place in (Const(INDEX, 0), *inside))
    return any(found is not None and is_const(found, True) for found in tried)


def _axes(builder: MapBuilder, expr: Expr) -> set[int]:
    """Ids of the axes that an expression depends on."""
    numbers = {o.number for o in operands(expr)}
    uses: list[Use] = [builder.uses[n] for n in numbers]
    found = {id(local) for use in uses for _, local in use.leaf_pairs()}
    return found | {id(a) for a in leaves(positions(expr))}


@dataclass(frozen=True)
class _Splitter:
    """Splits a float expression; `hides` says which literals count as -inf."""

    hides: Callable[[Expr], bool]

    def split(self, expr: Expr) -> _Split:
        """The first rule that fits wins."""
        if not isinstance(expr, Apply):
            return _Split(expr)
        match expr.name:
            case "select":
                return self._choice(*expr.args)
            case "add":
                return self._sum(*expr.args)
            case "mul" | "div":
                return self._scaled(expr.name, *expr.args)
            case "cast" if is_float(expr.args[0].dtype) and is_float(expr.dtype):
                inner = self.split(expr.args[0])
                return _Split(cast(inner.value, expr.dtype), inner.keep, inner.finite)
        return _Split(expr)

    def _choice(self, condition: Expr, yes: Expr, no: Expr) -> _Split:
        for hidden, shown, holds in ((yes, no, False), (no, yes, True)):
            if self.hides(hidden):
                keep = condition if holds else apply("not", condition)
                inner = self.split(shown)
                finite = inner.finite or not _is_infinite(hidden)
                return _Split(inner.value, _both(keep, inner.keep), finite)
        return _Split(apply("select", condition, yes, no))

    def _sum(self, left: Expr, right: Expr) -> _Split:
        for value, mask in ((left, right), (right, left)):
            zero = self._zero(mask)
            if zero is not None:
                inner = self.split(value)
                keep = _both(zero.keep, inner.keep)
                return _Split(inner.value, keep, zero.finite or inner.finite)
        first, second = self.split(left), self.split(right)
        keep = _both(first.keep, second.keep)
        finite = first.finite or second.finite
        return _Split(apply("add", first.value, second.value), keep, finite)

    def _zero(self, expr: Expr) -> _Split | None:
        """The split of an expression that is 0 where it is not hidden; None for others."""
        if isinstance(expr, Apply) and expr.name == "cast":
            return self._zero(expr.args[0])
        if not isinstance(expr, Apply) or expr.name != "select":
            return None
        found = self._choice(*expr.args)
        return found if found.keep is not None and is_const(found.value, 0) else None

    def _scaled(self, name: str, left: Expr, right: Expr) -> _Split:
        """A positive factor keeps -inf; a finite number that hides may cease to."""
        for factor, value in ((right, left), (left, right)):
            if factor is left and name == "div":
                continue
            if isinstance(factor, Const) and factor.value > 0:
                inner = self.split(value)
                if inner.finite:
                    break
                args = (inner.value, factor) if factor is right else (factor, inner.value)
                return _Split(apply(name, *args), inner.keep)
        return _Split(apply(name, left, right))


def _both(left: Expr | None, right: Expr | None) -> Expr | None:
    if left is None or right is None:
        return left or right
    assert left.dtype == torch.bool
    return apply("and", left, right)
