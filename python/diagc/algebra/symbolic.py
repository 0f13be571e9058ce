"""Terms from and to sympy: the only module that imports it, and only when a law must be proved."""

from collections.abc import Callable
from typing import Any

import sympy

from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr, call, constant, symbol

__all__ = ["from_sympy", "to_sympy"]

_TO: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "pow": sympy.Pow,
    "abs": sympy.Abs,
    "max": sympy.Max,
    "min": sympy.Min,
    "exp": sympy.exp,
    "log": sympy.log,
    "sqrt": sympy.sqrt,
    "tanh": sympy.tanh,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "erf": sympy.erf,
}


def to_sympy(expr: Expr) -> Any:
    """The sympy expression of a term over the reals; unknown functions stay unknown."""
    if expr.op == SYMBOL:
        return sympy.Symbol(str(expr.value), real=True)
    if expr.op == CONSTANT:
        return _number(float(expr.value or 0.0))
    args = [to_sympy(arg) for arg in expr.args]
    if expr.op in _TO:
        return _TO[expr.op](*args)
    return sympy.Function(expr.op.replace(".", "_"))(*args)


def _number(value: float) -> Any:
    """Exact, so that equal numbers cancel."""
    if value in (float("inf"), float("-inf")):
        return sympy.oo if value > 0 else -sympy.oo
    return sympy.nan if value != value else sympy.Rational(value)


_LONGEST_PRODUCT = 8
"""Powers up to this one are products: bases may be negative."""

_FROM: dict[Any, str] = {
    sympy.Abs: "abs",
    sympy.exp: "exp",
    sympy.log: "log",
    sympy.tanh: "tanh",
    sympy.sin: "sin",
    sympy.cos: "cos",
    sympy.erf: "erf",
}


def from_sympy(expr: Any) -> Expr:
    """The term of a sympy expression.

    Raises:
        ValueError: a function that terms do not have.
    """
    if expr.is_Symbol:
        return symbol(expr.name)
    if expr.is_number:
        return constant(float(expr))
    if expr.is_Add:
        return _sum(expr)
    if expr.is_Mul:
        return _product(expr)
    if isinstance(expr, sympy.Pow):
        return _power(expr)
    if isinstance(expr, (sympy.Max, sympy.Min)):
        return _chain("max" if isinstance(expr, sympy.Max) else "min", expr.args)
    if expr.func in _FROM:
        return call(_FROM[expr.func], *map(from_sympy, expr.args))
    raise ValueError(f"no term for {expr}")


def _ordered(args: Any) -> list[Any]:
    return sorted(args, key=lambda arg: (arg.could_extract_minus_sign(), arg.sort_key()))


def _chain(op: str, args: Any) -> Expr:
    first, *rest = [from_sympy(arg) for arg in args]
    for arg in rest:
        first = call(op, first, arg)
    return first


def _sum(expr: Any) -> Expr:
    """Terms with a plus sign first, so that `m - n` is a subtraction."""
    first, *rest = _ordered(expr.args)
    total = from_sympy(first)
    for arg in rest:
        minus = arg.could_extract_minus_sign()
        total = total - from_sympy(-arg) if minus else total + from_sympy(arg)
    return total


def _product(expr: Any) -> Expr:
    number, rest = expr.as_coeff_Mul()
    if number.is_negative:
        return -from_sympy(-expr)
    if number != 1:
        return constant(float(number)) * from_sympy(rest)
    top: list[Any] = []
    bottom: list[Any] = []
    for arg in sorted(expr.args, key=lambda arg: arg.sort_key()):
        divides = isinstance(arg, sympy.Pow) and arg.args[1].is_negative
        (bottom if divides else top).append(1 / arg if divides else arg)
    numerator = _chain("mul", top) if top else constant(1.0)
    return numerator / _chain("mul", bottom) if bottom else numerator


def _power(expr: Any) -> Expr:
    base, exponent = expr.args
    if exponent == sympy.Rational(1, 2):
        return call("sqrt", from_sympy(base))
    if exponent.is_number and exponent < 0:
        return constant(1.0) / from_sympy(base**-exponent)
    if exponent.is_Integer and 2 <= exponent <= _LONGEST_PRODUCT:
        return _chain("mul", [base] * int(exponent))
    return call("pow", from_sympy(base), from_sympy(exponent))
