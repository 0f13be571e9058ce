"""Build scalar expressions; what is a literal, a choice of literals or a comparison gets simpler.

Only identities that hold exactly are used. They turn masks such as `ones(n, n).tril() == 0` into
one comparison of positions, which later becomes a bound of a loop.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.linear_positions import decided, merged_sum, pinned
from diagc.frontend.torch.scalar import (
    INDEX,
    Apply,
    Const,
    Count,
    Expr,
    Operand,
    Position,
    ScalarType,
    is_const,
    is_float,
)
from diagc.frontend.torch.sizes import product

__all__ = ["apply", "at_position", "cast", "rebuild"]

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
_NEGATED = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
_FOLDED: dict[str, Callable[..., Any]] = {
    **_COMPARISONS,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": lambda a, b: bool(a) != bool(b),
    "not": lambda a: not a,
}
_INTEGRAL_ON_INDEX = ("add", "sub", "mul")


def apply(name: str, *args: Expr) -> Expr:
    """The operation `name`, simplified where that is exact.

    All arguments have one type (the first of "select" is a condition); comparisons give bool.
    """
    folded = _fold(name, args) or _simplify(name, args) or _on_indices(name, args)
    if folded is not None:
        return folded
    dtype = torch.bool if name in _COMPARISONS else args[-1].dtype
    return Apply(dtype, name, args)


def cast(expr: Expr, dtype: ScalarType) -> Expr:
    """Convert to `dtype`; widening and narrowing back is no conversion."""
    if expr.dtype == dtype:
        return expr
    if isinstance(expr, Const):
        return Const(dtype, _cast_number(expr.value, dtype))
    if isinstance(expr, Apply) and expr.name == "select" and _is_choice_of_literals(expr):
        condition, yes, no = expr.args
        return apply("select", condition, cast(yes, dtype), cast(no, dtype))
    back = isinstance(expr, Apply) and expr.name == "cast" and expr.args[0].dtype == dtype
    if back and _widens(dtype, expr.dtype):
        assert isinstance(expr, Apply)
        return expr.args[0]
    return Apply(dtype, "cast", (expr,))


def _cast_number(value: Any, dtype: ScalarType) -> float | int | bool:
    if dtype == torch.bool:
        return bool(value)
    if not is_float(dtype):
        return int(value)
    if dtype == torch.float64 or (float(value).is_integer() and abs(value) < 256):
        return float(value)
    assert isinstance(dtype, torch.dtype)
    return float(torch.tensor(float(value), dtype=dtype))  # as torch rounds its scalars


def _widens(narrow: ScalarType, wide: ScalarType) -> bool:
    """Whether every value of `narrow` is one of `wide`."""
    if narrow == torch.bool:
        return True
    if is_float(narrow) and is_float(wide):
        both = (torch.float16, torch.bfloat16)
        assert isinstance(narrow, torch.dtype)
        assert isinstance(wide, torch.dtype)
        return wide.itemsize > narrow.itemsize and not (narrow in both and wide in both)
    return narrow == INDEX and wide == torch.int64


def _is_choice_of_literals(expr: Apply) -> bool:
    return all(isinstance(branch, Const) for branch in expr.args[1:])


def _fold(name: str, args: Sequence[Expr]) -> Expr | None:
    """Literals: the result; a choice between literals: the choice between the results."""
    if name not in _FOLDED:
        return None
    if all(isinstance(a, Const) for a in args):
        dtype = torch.bool if name in _COMPARISONS else args[-1].dtype
        value = _FOLDED[name](*(a.value for a in args if isinstance(a, Const)))
        return Const(dtype, _cast_number(value, dtype))
    choices = [a for a in args if isinstance(a, Apply) and a.name == "select"]
    if len(choices) != 1 or not _is_choice_of_literals(choices[0]):
        return None
    if not all(isinstance(a, Const) or a is choices[0] for a in args):
        return None
    condition, yes, no = choices[0].args
    chosen = [apply(name, *(b if a is choices[0] else a for a in args)) for b in (yes, no)]
    return apply("select", condition, *chosen)


def _simplify(name: str, args: Sequence[Expr]) -> Expr | None:
    """Identities of neutral literals, booleans and choices."""
    match name:
        case "add" | "sub" | "mul" | "div":
            return _without_neutral(name, *args) or _merged(name, *args)
        case "select":
            return _simplify_select(*args)
        case "not":
            return _simplify_not(args[0])
        case "and" | "or" if args[0].dtype == torch.bool:
            return _simplify_junction(name == "and", *args)
        case "eq" | "ne" if args[0].dtype == torch.bool:
            return _simplify_bool_comparison(name == "eq", *args)
        case _ if name in _COMPARISONS and args[0].dtype == INDEX:
            found = decided(name, *args)
            return None if found is None else Const(torch.bool, found)
    return None


def _without_neutral(name: str, left: Expr, right: Expr) -> Expr | None:
    """`x * 1`, `x / 1`, `x - 0`; `x + 0` for integers, since it makes 0.0 of -0.0."""
    neutral = 1 if name in ("mul", "div") else 0
    if name == "add" and is_float(left.dtype):
        return None
    if is_const(right, neutral):
        return left
    return right if name in ("add", "mul") and is_const(left, neutral) else None


def _simplify_select(condition: Expr, yes: Expr, no: Expr) -> Expr | None:
    if isinstance(condition, Const):
        return yes if condition.value else no
    if isinstance(yes, Operand) and isinstance(no, Operand) and yes.number == no.number:
        return yes
    if isinstance(yes, Const) and isinstance(no, Const):
        if yes.value == no.value:
            return yes
        if yes.dtype == torch.bool:
            return condition if yes.value else apply("not", condition)
    if isinstance(condition, Apply) and condition.name == "not":
        return apply("select", condition.args[0], no, yes)
    return _simplify_pinned(condition, yes, no)


def _simplify_pinned(condition: Expr, yes: Expr, no: Expr) -> Expr | None:
    """A choice for one position alone, where both sides are equal there, is the other side."""
    pin = pinned(condition)
    if pin is None:
        return None
    here, elsewhere = (yes, no) if pin.holds else (no, yes)
    value = Const(INDEX, pin.value)
    sides = [at_position(side, leaves(pin.position.axes), value) for side in (here, elsewhere)]
    if all(isinstance(side, Const) for side in sides):
        return elsewhere if len({s.value for s in sides if isinstance(s, Const)}) == 1 else None
    return None


def _simplify_not(expr: Expr) -> Expr | None:
    if not isinstance(expr, Apply):
        return None
    if expr.name == "not":
        return expr.args[0]
    # not for floats: a comparison with NaN is false, and so is its opposite
    if expr.name in _NEGATED and not is_float(expr.args[0].dtype):
        return apply(_NEGATED[expr.name], *expr.args)
    return None


def _simplify_junction(conjunction: bool, left: Expr, right: Expr) -> Expr | None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Const):
            return other if bool(one.value) == conjunction else one
    return None


def _simplify_bool_comparison(equal: bool, left: Expr, right: Expr) -> Expr | None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Const):
            return other if bool(one.value) == equal else apply("not", other)
    return None


def _merged(name: str, left: Expr, right: Expr) -> Expr | None:
    """Sums of positions in which terms meet."""
    if left.dtype != INDEX or name not in ("add", "sub"):
        return None
    return merged_sum(name, left, right)


def _on_indices(name: str, args: Sequence[Expr]) -> Expr | None:
    """Compute with positions as indices, not as the int64 that torch makes of them."""
    if name not in _COMPARISONS and name not in _INTEGRAL_ON_INDEX:
        return None
    inner = [_as_index(a) for a in args]
    if any(a is None for a in inner) or all(isinstance(a, Const) for a in args):
        return None
    result = apply(name, *(a for a in inner if a is not None))
    return result if name in _COMPARISONS else cast(result, torch.int64)


def _as_index(expr: Expr) -> Expr | None:
    if expr.dtype != torch.int64:
        return None
    if isinstance(expr, Const):
        return Const(INDEX, expr.value)
    if isinstance(expr, Apply) and expr.name == "cast" and expr.args[0].dtype == INDEX:
        return expr.args[0]
    return None


def rebuild(expr: Expr, leaf: Callable[[Expr], Expr]) -> Expr:
    """The expression with each leaf replaced, simplified again; what was shared stays shared."""
    done: dict[int, Expr] = {}

    def visit(part: Expr) -> Expr:
        if id(part) not in done:
            done[id(part)] = _rebuilt(part, visit) if isinstance(part, Apply) else leaf(part)
        return done[id(part)]

    return visit(expr)


def _rebuilt(expr: Apply, visit: Callable[[Expr], Expr]) -> Expr:
    args = [visit(arg) for arg in expr.args]
    return cast(args[0], expr.dtype) if expr.name == "cast" else apply(expr.name, *args)


def at_position(expr: Expr, axes: Sequence[Axis], position: Expr) -> Expr | None:
    """The expression with `position` for where it stands along `axes` together.

    None where it reads a position along a part of them only, or along them and open axes.
    """
    wanted = [id(axis) for axis in axes]
    failed: list[Expr] = []

    def leaf(part: Expr) -> Expr:
        if not isinstance(part, (Position, Count)):
            return part
        own = leaves(part.axes)
        if not set(wanted) & {id(axis) for axis in own}:
            return part
        found = None if isinstance(part, Count) else _replaced(own, wanted, position)
        if found is None:
            failed.append(part)
        return found or part

    result = rebuild(expr, leaf)
    return None if failed else result


def _replaced(own: Sequence[Axis], wanted: Sequence[int], position: Expr) -> Expr | None:
    """The position along `own` when that along the axes `wanted` of them is another one."""
    ids = [id(axis) for axis in own]
    if ids == list(wanted):
        return position
    first = ids.index(wanted[0]) if wanted[0] in ids else 0
    last = first + len(wanted)
    if ids[first:last] != list(wanted) or not all(isinstance(a.size, int) for a in own):
        return None
    parts = [(own[:first], None), (own[first:last], position), (own[last:], None)]
    total: Expr = Const(INDEX, 0)
    for group, given in parts:
        size = product(axis.size for axis in group)
        digit = given or (Position(INDEX, tuple(group)) if group else Const(INDEX, 0))
        total = apply("add", apply("mul", total, Const(INDEX, size)), digit)
    return total
