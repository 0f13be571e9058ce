"""Identities of scalar terms that hold for all numbers, infinities and NaN: one form per function.

|exp x|, |x * x|, | |x| |   = without the outer | |
|x| * |x|                   = x * x
sqrt(x * x)                 = |x|
sign(x) * |x|               = x
max(x, -x)                  = |x|
max(x, 0) + max(-x, 0)      = |x|
select(not c, x, y)         = select(c, y, x)
(x * 2) * 3                 = x * 6
x / 4                       = x * 0.25, for powers of two, whose reciprocals are exact
"""

import math
from collections.abc import Callable

from diagc.algebra.expressions import CONSTANT, Expr, absolute, call, constant, select

__all__ = ["simplified"]


def simplified(expr: Expr) -> Expr:
    """The term with every identity applied, from the inside."""
    if not expr.args:
        return expr
    args = tuple(map(simplified, expr.args))
    whole = expr if args == expr.args else Expr(expr.op, args, expr.value)
    rule = _RULES.get(whole.op)
    found = None if rule is None else rule(*args)
    return whole if found is None else found


def _absolute(x: Expr) -> Expr | None:
    return x if _is_square(x) or x.op in ("exp", "abs") else None


def _is_square(x: Expr) -> bool:
    return x.op == "mul" and x.args[0] == x.args[1]


def _product(x: Expr, y: Expr) -> Expr | None:
    if x.op == "abs" and x == y:
        return x.args[0] * x.args[0]
    for sign, size in ((x, y), (y, x)):
        if size.op == "abs" and sign == _sign(size.args[0]):
            return size.args[0]
    if x.op == CONSTANT:
        x, y = y, x
    if y.op != CONSTANT:
        return None
    if y == constant(1.0):
        return x
    if x.op == "mul" and x.args[1].op == CONSTANT:
        number = float(x.args[1].value or 0.0) * float(y.value or 0.0)
        return x.args[0] if number == 1.0 else x.args[0] * number
    return None


_LARGEST_EXPONENT = 14
"""Of two, so that the reciprocal is a normal number in f16, too."""


def _quotient(x: Expr, y: Expr) -> Expr | None:
    if y.op != CONSTANT or x.op == CONSTANT or not isinstance(y.value, float):
        return None
    size, exponent = math.frexp(y.value)
    exact = abs(size) == 0.5 and abs(exponent - 1) <= _LARGEST_EXPONENT
    return simplified(x * (1.0 / y.value)) if exact else None


def _sign(x: Expr) -> Expr:
    zero = constant(0.0)
    negative = select(call("lt", x, zero), -1.0, 0.0)
    return select(call("lt", zero, x), 1.0, negative)


def _root(x: Expr) -> Expr | None:
    return absolute(x.args[0]) if _is_square(x) else None


def _negated(x: Expr) -> Expr:
    return x.args[0] if x.op == "neg" else -x


def _maximum(x: Expr, y: Expr) -> Expr | None:
    positive = x if y.op == "neg" else y
    return absolute(positive) if _negated(x) == y or _negated(y) == x else None


def _positive_part(x: Expr) -> Expr | None:
    """The u of max(u, 0)."""
    if x.op != "max" or constant(0.0) not in x.args:
        return None
    return x.args[1 - x.args.index(constant(0.0))]


def _sum(x: Expr, y: Expr) -> Expr | None:
    left, right = _positive_part(x), _positive_part(y)
    return None if left is None or right is None else _maximum(left, right)


def _select(condition: Expr, x: Expr, y: Expr) -> Expr | None:
    return select(condition.args[0], y, x) if condition.op == "not" else None


_RULES: dict[str, Callable[..., Expr | None]] = {
    "abs": _absolute,
    "add": _sum,
    "div": _quotient,
    "max": _maximum,
    "mul": _product,
    "select": _select,
    "sqrt": _root,
}
