"""Scalar expressions: the small symbolic terms that laws are stated and proved about.

A term is a tree of functions of the table `FUNCTIONS`, symbols and numbers. It is made with
Python's operators, so that the row of a table reads like the formula: `lambda x: exp(x) / 2`.
Terms are hashable, compare by structure and have a canonical text (the key of a cached proof).
Sympy is not used here, so that a compilation whose proofs are known never imports it.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "FUNCTIONS",
    "Expr",
    "Number",
    "absolute",
    "call",
    "constant",
    "divide",
    "equal",
    "evaluate",
    "exp",
    "fold",
    "in_order",
    "is_zero",
    "log",
    "maximum",
    "minimum",
    "parse",
    "replace",
    "select",
    "show",
    "sqrt",
    "substitute",
    "symbol",
    "symbols",
    "text",
]

Number: TypeAlias = bool | int | float

SYMBOL, CONSTANT = "symbol", "constant"


@dataclass(frozen=True, slots=True)
class Expr:
    """One term: function `op` of `args`; a symbol's name or a constant's number is `value`.

    `op` is a name of `FUNCTIONS` or `SYMBOL` or `CONSTANT`; any other name is a function of which
    nothing is known but that equal arguments give equal results.
    """

    op: str
    args: "tuple[Expr, ...]" = ()
    value: str | float | None = None

    def __add__(self, other: "Expr | Number") -> "Expr":
        return call("add", self, other)

    def __radd__(self, other: Number) -> "Expr":
        return call("add", other, self)

    def __sub__(self, other: "Expr | Number") -> "Expr":
        return call("sub", self, other)

    def __rsub__(self, other: Number) -> "Expr":
        return call("sub", other, self)

    def __mul__(self, other: "Expr | Number") -> "Expr":
        return call("mul", self, other)

    def __rmul__(self, other: Number) -> "Expr":
        return call("mul", other, self)

    def __truediv__(self, other: "Expr | Number") -> "Expr":
        return call("div", self, other)

    def __rtruediv__(self, other: Number) -> "Expr":
        return call("div", other, self)

    def __pow__(self, other: "Expr | Number") -> "Expr":
        return call("pow", self, other)

    def __neg__(self) -> "Expr":
        return call("neg", self)

    def __str__(self) -> str:
        return show(self)


FUNCTIONS: dict[str, int] = {
    # name: number of arguments
    "add": 2,
    "sub": 2,
    "mul": 2,
    "div": 2,
    "neg": 1,
    "pow": 2,
    "abs": 1,
    "max": 2,
    "min": 2,
    "exp": 1,
    "log": 1,
    "sqrt": 1,
    "tanh": 1,
    "sin": 1,
    "cos": 1,
    "erf": 1,
    "eq": 2,
    "lt": 2,
    "le": 2,
    "not": 1,
    "and": 2,
    "or": 2,
    "select": 3,
}
"""The functions whose meaning the laws know."""


def symbol(name: str) -> Expr:
    """A variable."""
    return Expr(SYMBOL, (), name)


def constant(value: Number) -> Expr:
    """A number."""
    return Expr(CONSTANT, (), float(value))


def _wrap(value: Expr | Number) -> Expr:
    return value if isinstance(value, Expr) else constant(value)


def call(op: str, *args: Expr | Number) -> Expr:
    """Function `op` of `args`; numbers among them become constants."""
    return Expr(op, tuple(_wrap(arg) for arg in args))


def exp(x: Expr) -> Expr:
    """Exponential function."""
    return call("exp", x)


def log(x: Expr) -> Expr:
    """Natural logarithm."""
    return call("log", x)


def sqrt(x: Expr) -> Expr:
    """Square root."""
    return call("sqrt", x)


def absolute(x: Expr) -> Expr:
    """Absolute value."""
    return call("abs", x)


def maximum(x: Expr | Number, y: Expr | Number) -> Expr:
    """The larger of two numbers; NaN when one is NaN."""
    return call("max", x, y)


def minimum(x: Expr | Number, y: Expr | Number) -> Expr:
    """The smaller of two numbers; NaN when one is NaN."""
    return call("min", x, y)


def equal(x: Expr | Number, y: Expr | Number) -> Expr:
    """Whether two numbers are equal (false for NaN)."""
    return call("eq", x, y)


def select(condition: Expr, x: Expr | Number, y: Expr | Number) -> Expr:
    """X where the condition holds, else y."""
    return call("select", condition, x, y)


def divide(x: Expr | Number, y: Expr) -> Expr:
    """X / y, and 0 where y is 0: the policy for rows without mass."""
    return select(equal(y, 0.0), 0.0, call("div", x, y))


def symbols(expr: Expr) -> set[str]:
    """Names of the variables of a term."""
    if expr.op == SYMBOL:
        return {str(expr.value)}
    return {name for arg in expr.args for name in symbols(arg)}


def in_order(expr: Expr) -> list[str]:
    """Names of the variables of a term in order of first appearance."""
    if expr.op == SYMBOL:
        return [str(expr.value)]
    return list(dict.fromkeys(name for arg in expr.args for name in in_order(arg)))


def substitute(expr: Expr, values: Mapping[str, Expr]) -> Expr:
    """The term with variables replaced, all at once."""
    return fold(expr, lambda leaf: values.get(str(leaf.value), leaf))


def fold(expr: Expr, leaf: Callable[[Expr], Expr]) -> Expr:
    """The term with `leaf` applied to every symbol."""
    if expr.op == SYMBOL:
        return leaf(expr)
    if not expr.args:
        return expr
    args = tuple(fold(arg, leaf) for arg in expr.args)
    return expr if args == expr.args else Expr(expr.op, args, expr.value)


def is_zero(expr: Expr) -> bool:
    """Whether a term is 0 by its form: the number 0, its negation, or a product with it."""
    if expr.op == CONSTANT:
        return expr.value == 0.0
    if expr.op == "mul":
        return any(map(is_zero, expr.args))
    return expr.op in ("div", "neg") and is_zero(expr.args[0])


def replace(expr: Expr, old: Expr, new: Expr) -> Expr:
    """The term with every occurrence of the subterm `old` replaced."""
    if expr == old:
        return new
    return Expr(expr.op, tuple(replace(arg, old, new) for arg in expr.args), expr.value)


def evaluate(expr: Expr, values: Mapping[str, float]) -> float:
    """The number that a term gives, by the rules of IEEE arithmetic (no error, but inf or NaN).

    Raises:
        ValueError: a function that is not in `FUNCTIONS`.
    """
    if expr.op == SYMBOL:
        return values[str(expr.value)]
    if expr.op == CONSTANT:
        return float(expr.value or 0.0)
    if expr.op not in _EVALUATE:
        raise ValueError(f"'{expr.op}' is not evaluated")
    args = [evaluate(arg, values) for arg in expr.args]
    try:
        return float(_EVALUATE[expr.op](*args))
    except OverflowError:
        return math.inf
    except (ValueError, ZeroDivisionError):
        return math.nan


_EVALUATE: dict[str, Callable[..., float]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "pow": math.pow,
    "abs": abs,
    "max": max,
    "min": min,
    "exp": math.exp,
    "log": lambda x: math.log(x) if x else -math.inf,
    "sqrt": math.sqrt,
    "tanh": math.tanh,
    "sin": math.sin,
    "cos": math.cos,
    "erf": math.erf,
    "eq": lambda x, y: x == y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "not": lambda x: not x,
    "and": lambda x, y: x and y,
    "or": lambda x, y: x or y,
    "select": lambda c, x, y: x if c else y,
}


def text(expr: Expr) -> str:
    """Canonical text, the inverse of `parse`: `(exp (sub a 1.0))`."""
    if expr.op == SYMBOL:
        return str(expr.value)
    if expr.op == CONSTANT:
        return repr(expr.value)
    return f"({' '.join([expr.op, *map(text, expr.args)])})"


_TOKEN = re.compile(r"[()]|[^\s()]+")


def parse(source: str) -> Expr:
    """Read the text of a term.

    Raises:
        ValueError: not the text of a term.
    """
    tokens = iter(_TOKEN.findall(source))
    try:
        result = _parse(next(tokens), tokens)
    except StopIteration:
        raise ValueError(f"unfinished term: {source!r}") from None
    if next(tokens, None) is not None:
        raise ValueError(f"more than one term: {source!r}")
    return result


def _parse(token: str, tokens: Iterator[str]) -> Expr:
    if token == ")":
        raise ValueError("unexpected ')' in a term")
    if token != "(":
        return _parse_leaf(token)
    op = next(tokens)
    args: list[Expr] = []
    while (token := next(tokens)) != ")":
        args.append(_parse(token, tokens))
    if op in FUNCTIONS and FUNCTIONS[op] != len(args):
        raise ValueError(f"function '{op}' takes {FUNCTIONS[op]} arguments, found {len(args)}")
    return Expr(op, tuple(args))


def _parse_leaf(token: str) -> Expr:
    if token.isidentifier() and token not in ("inf", "nan"):
        return symbol(token)
    return constant(float(token))


_LOOSEST = -9
_INFIX = {
    # name: (sign, how tightly it binds)
    "add": (" + ", 1),
    "sub": (" - ", 1),
    "mul": (" * ", 2),
    "div": (" / ", 2),
    "mod": (" % ", 2),
    "eq": (" == ", -1),
    "ne": (" != ", -1),
    "lt": (" < ", -1),
    "le": (" <= ", -1),
    "gt": (" > ", -1),
    "ge": (" >= ", -1),
    "and": (" and ", -2),
    "or": (" or ", -3),
}
_PREFIX = {"neg": ("-", 3), "not": ("not ", -1)}


def show(expr: Expr, outer: int = _LOOSEST) -> str:
    """Infix text for people: `exp(a - m) * b`."""
    if expr.op == SYMBOL:
        return str(expr.value)
    if expr.op == CONSTANT:
        return f"{expr.value:g}"
    if expr.op in _PREFIX:
        sign, binding = _PREFIX[expr.op]
        shown = f"{sign}{show(expr.args[0], binding)}"
    elif expr.op in _INFIX:
        sign, binding = _INFIX[expr.op]
        left, right = expr.args
        tighter = binding + (expr.op in ("sub", "div", "mod") or right.op in ("sub", "div", "mod"))
        shown = f"{show(left, binding)}{sign}{show(right, tighter)}"
    else:
        return f"{expr.op}({', '.join(map(show, expr.args))})"
    return f"({shown})" if binding < outer else shown
