"""Reads a scalar term as one product: a number, factors with their multiplicity, conditions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import mul

from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr, is_zero

__all__ = ["Monomial", "monomial"]

_LARGEST_POWER = 4


@dataclass(frozen=True)
class Monomial:
    """`number` times the symbols in `factors` (repeated for powers), 0 unless all `conditions`."""

    number: float
    factors: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()

    def __mul__(self, other: "Monomial") -> "Monomial":
        """Give the product; a condition counts once."""
        conditions = tuple(dict.fromkeys((*self.conditions, *other.conditions)))
        return Monomial(self.number * other.number, (*self.factors, *other.factors), conditions)


def monomial(expr: Expr) -> Monomial | None:
    """The product that `expr` is, or None for a sum or any other function.

    An even power forgets the sign, so that of `abs` is the power of its argument.
    """
    if expr.op == SYMBOL:
        return Monomial(1.0, (str(expr.value),))
    if expr.op == CONSTANT:
        return Monomial(float(expr.value or 0.0))
    read = _READERS.get(expr.op)
    return None if read is None else read(expr.args)


def _product(args: tuple[Expr, ...]) -> Monomial | None:
    left, right = args
    if left == right and left.op == "abs":
        left = right = left.args[0]
    first, second = monomial(left), monomial(right)
    return None if first is None or second is None else first * second


def _quotient(args: tuple[Expr, ...]) -> Monomial | None:
    top, bottom = monomial(args[0]), monomial(args[1])
    if top is None or bottom is None or bottom.factors or bottom.conditions or not bottom.number:
        return None
    return top * Monomial(1.0 / bottom.number)


def _negative(args: tuple[Expr, ...]) -> Monomial | None:
    inner = monomial(args[0])
    return None if inner is None else inner * Monomial(-1.0)


def _power(args: tuple[Expr, ...]) -> Monomial | None:
    base, exponent = args
    power = int(exponent.value or 0) if exponent.op == CONSTANT else 0
    if power != exponent.value or not 1 <= power <= _LARGEST_POWER:
        return None
    inner = monomial(base.args[0] if base.op == "abs" and power % 2 == 0 else base)
    return None if inner is None else reduce(mul, [inner] * power)


def _selection(args: tuple[Expr, ...]) -> Monomial | None:
    condition, value, other = args
    inner = monomial(value)
    if condition.op != SYMBOL or not is_zero(other) or inner is None:
        return None
    return inner * Monomial(1.0, (), (str(condition.value),))


_READERS: dict[str, Callable[[tuple[Expr, ...]], Monomial | None]] = {
    "div": _quotient,
    "mul": _product,
    "neg": _negative,
    "pow": _power,
    "select": _selection,
}
