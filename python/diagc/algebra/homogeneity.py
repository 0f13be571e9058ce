"""What becomes of a term when an exponential in it is divided by a number of the row.

An exponential is written exp(u) = E * exp(u - c) with E = exp(d), where d and c do not vary along
the row. A term has *degree* k when it is E^k times the same term of exp(u - c): sums need summands
of one degree, products add degrees, a logarithm turns E^k into the summand k * d. A result of
degree 0 does not depend on E, so c may be the maximum of u and nothing overflows (the range lemma
of normalised contractions, arXiv 2505.09326, read off the formula instead of a table).
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeAlias

from diagc.algebra.expressions import (
    CONSTANT,
    FUNCTIONS,
    SYMBOL,
    Expr,
    call,
    constant,
    exp,
    log,
    select,
)

__all__ = ["Degree", "Rescaling", "UnbalancedError", "has_ops"]

Degree: TypeAlias = Fraction | None
"""None for terms that are the same at any scale: 0 and infinities."""

_ZERO = Fraction(0)


class UnbalancedError(Exception):
    """A term has no degree; the message says why."""


class Rescaling:
    """Rewrites terms for a new scale.

    Args:
        atom: the exponential.
        replacement: what stands for it, without the factor E.
        log_scale: d, the logarithm of E.
        degrees: of symbols; those that are missing have degree 0.
        is_endless: where E is infinite, and with it every sum of the exponential.
        is_row: whether a term does not vary along the row; only such a term is divided by E.
    """

    def __init__(
        self,
        atom: Expr,
        replacement: Expr,
        log_scale: Expr,
        degrees: Mapping[str, Degree],
        is_endless: Expr,
        is_row: Callable[[Expr], bool],
    ) -> None:
        self._atom, self._replacement, self._log_scale = atom, replacement, log_scale
        self._degrees, self._is_endless, self._is_row = degrees, is_endless, is_row
        self.divided = False
        """Whether some term was divided by a power of E, which must be at least 1 then."""

    def of(self, expr: Expr) -> tuple[Degree, Expr]:
        """The degree of a term and the term at the new scale.

        Raises:
            UnbalancedError: it has no degree.
        """
        if expr == self._atom:
            return Fraction(1), self._replacement
        if expr.op == SYMBOL:
            return self._degrees.get(str(expr.value), _ZERO), expr
        if expr.op == CONSTANT:
            value = float(expr.value or 0.0)
            return (None if value in (0.0, float("inf"), float("-inf")) else _ZERO), expr
        degrees, args = zip(*map(self.of, expr.args), strict=True) if expr.args else ((), ())
        if not any(degrees):  # degree 0, or any, everywhere
            anything = all(d is None for d in degrees) and expr.op in _KEEPS_ZERO
            return (None if anything else _ZERO), Expr(expr.op, args, expr.value)
        return self._combined(expr, degrees, args)

    def _combined(
        self, expr: Expr, degrees: tuple[Degree, ...], args: tuple[Expr, ...]
    ) -> tuple[Degree, Expr]:
        op = expr.op
        if op in ("add", "sub", "max", "min", "eq", "lt", "le"):
            degree, args = self._equalised(degrees, args)
            return (_ZERO if op in ("eq", "lt", "le") else degree), Expr(op, args)
        if op == "select":
            if degrees[0]:
                raise UnbalancedError("a condition depends on the scale")
            degree, both = self._equalised(degrees[1:], args[1:])
            return degree, Expr(op, (args[0], *both))
        if op in ("neg", "abs"):
            return degrees[0], Expr(op, args)
        if op == "mul":
            return _sum_of_degrees(degrees[0], degrees[1]), Expr(op, args)
        if op == "div":
            self._require_row(degrees[1], expr.args[1])
            return _sum_of_degrees(degrees[0], -(degrees[1] or _ZERO)), Expr(op, args)
        if op == "pow" and degrees[0] and (_number(args[1]) or 0.0) < 0.0:
            self._require_row(degrees[0], expr.args[0])
        return self._function(op, degrees, args)

    def _require_row(self, degree: Degree, divisor: Expr) -> None:
        """An element that something is divided by may be 0 at the new scale, as a sum is not."""
        if degree and not self._is_row(divisor):
            raise UnbalancedError("a division by an element that depends on the scale")

    def _function(
        self, op: str, degrees: tuple[Degree, ...], args: tuple[Expr, ...]
    ) -> tuple[Degree, Expr]:
        degree = degrees[0]
        if op == "sqrt" and degree:
            return degree / 2, Expr(op, args)
        if op == "log" and degree:
            if args[0].op != SYMBOL:
                raise UnbalancedError("a logarithm of more than a sum")
            finite = select(self._is_endless, float("inf"), log(args[0]))
            return _ZERO, finite + _times(self._log_scale, degree)
        if op == "pow" and degree and args[1].op == CONSTANT:
            power = Fraction(float(args[1].value or 0.0)).limit_denominator(1000)
            return degree * power, Expr(op, args)
        raise UnbalancedError(f"'{op}' of a term that depends on the scale")

    def _equalised(
        self, degrees: tuple[Degree, ...], args: tuple[Expr, ...]
    ) -> tuple[Degree, tuple[Expr, ...]]:
        """Terms of one degree: terms of the row are divided by E, elements are not."""
        known = [degree for degree in degrees if degree is not None]
        highest = max(known)
        made = []
        for degree, arg in zip(degrees, args, strict=True):
            if degree in (None, highest):
                made.append(arg)
                continue
            if not self._is_row(arg):
                raise UnbalancedError("terms of different scale are added along the row")
            assert degree is not None
            self.divided = True
            made.append(arg * exp(-_times(self._log_scale, highest - degree)))
        return highest, tuple(made)


_KEEPS_ZERO = ("add", "sub", "mul", "neg", "abs", "max", "min", "select", "sqrt")


def _number(expr: Expr) -> float | None:
    return float(expr.value or 0.0) if expr.op == CONSTANT else None


def _sum_of_degrees(left: Degree, right: Degree) -> Degree:
    return None if left is None or right is None else left + right


def _times(expr: Expr, number: Fraction) -> Expr:
    return expr if number == 1 else call("mul", expr, constant(float(number)))


def has_ops(expr: Expr) -> bool:
    """Whether every function of a term has an op that computes it; ops read as such have."""
    known = expr.op in (SYMBOL, CONSTANT) or expr.op in FUNCTIONS or ":" in expr.op
    return known and all(map(has_ops, expr.args))
