"""Numbers that show that a law does not hold: asked before sympy, which may search for minutes.

Most laws that are asked for do not hold, and a few evaluations tell. The law of a term with `min`,
`abs` or `log` in it took sympy over ten minutes and gigabytes to refuse. What is found here
is final; what is not found still has to be proved. Numbers must differ by a millionth, so rounding
refutes only terms whose digits double precision loses anyhow; what overflows counts for nothing.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import reduce
from random import Random
from zlib import crc32

from diagc.algebra.expressions import (
    FUNCTIONS,
    Expr,
    call,
    constant,
    evaluate,
    substitute,
    symbols,
)

__all__ = ["MOST_MOMENTS", "is_refuted", "possible_rates"]

MOST_MOMENTS = 4
"""Further sums that a summand may need: a polynomial of this degree."""

Values = dict[str, float]

_SAMPLES = 24
_DIFFERENT = 1e-6
_STEP = 0.375


def is_refuted(law: str, phi: Expr, statistics: Sequence[str], elements: Collection[str]) -> bool:
    """Whether numbers show that a summand does not follow its statistics by a law.

    Args:
        law: "scale", "offset" or "moments".
        phi: the summand, without case distinctions.
        statistics: names of the symbols that change; one for moments.
        elements: names of the symbols that the law must be free of.
    """
    if law == "moments":
        return not possible_rates(phi, *statistics)
    differ = {"scale": _factors_differ, "offset": _shifts_differ}[law]
    return any(differ(*values) for values in _quadruples(phi, statistics, elements))


def _factors_differ(old: float, new: float, other_old: float, other_new: float) -> bool:
    return _differ(old * other_new, new * other_old)


def _shifts_differ(old: float, new: float, other_old: float, other_new: float) -> bool:
    return _differ(new + other_old, old + other_new, abs(old) + abs(new))


def possible_rates(phi: Expr, statistic: str) -> list[Expr]:
    """The numbers c for which `exp(-c s) phi` may be a polynomial in s of degree `MOST_MOMENTS`.

    Tried are 0 and the slopes of exponents; those that numbers refute are left out.
    """
    phi = _modelled(phi)
    at = [{statistic: constant(value)} for value in (0.0, 1.0)]
    slopes = [substitute(g, at[1]) - substitute(g, at[0]) for g in _exponents(phi, statistic)]
    return [rate for rate in [constant(0.0), *slopes] if not _refutes_rate(phi, rate, statistic)]


def _refutes_rate(phi: Expr, rate: Expr, statistic: str) -> bool:
    """Whether some difference of order `MOST_MOMENTS` + 1 of `exp(-c s) phi` is not 0."""
    order = MOST_MOMENTS + 1
    for values in _samples(symbols(phi) | {statistic}):
        slope = evaluate(rate, values)
        start = values[statistic]
        terms = [
            (-1) ** k
            * math.comb(order, k)
            * math.exp(min(-slope * k * _STEP, 700.0))
            * evaluate(phi, {**values, statistic: start + k * _STEP})
            for k in range(order + 1)
        ]
        if _differ(sum(terms), 0.0, sum(map(abs, terms))):
            return True
    return False


def _exponents(expr: Expr, statistic: str) -> Iterator[Expr]:
    """Arguments of exponential functions that depend on a statistic, each once."""
    found: dict[Expr, None] = {}
    stack = [expr]
    while stack:
        term = stack.pop()
        if term.op == "exp" and statistic in symbols(term):
            found[term.args[0]] = None
        stack.extend(term.args)
    yield from found


def _quadruples(
    phi: Expr, statistics: Iterable[str], elements: Iterable[str]
) -> Iterator[Sequence[float]]:
    """Values of `phi` for old and new statistics, at some elements and at others."""
    phi = _modelled(phi)
    for first, second in zip(_samples(symbols(phi)), _samples(symbols(phi), 1), strict=True):
        moved = {name: second[name] for name in statistics}
        other = {**first, **{name: second[name] for name in elements}}
        yield [
            evaluate(phi, values)
            for values in (first, {**first, **moved}, other, {**other, **moved})
        ]


def _differ(x: float, y: float, size: float = 0.0) -> bool:
    """Whether two numbers differ by more than rounding could make them; false without numbers."""
    scale = max(abs(x), abs(y), size)
    return math.isfinite(scale) and abs(x - y) > _DIFFERENT * scale


def _samples(names: Iterable[str], seed: int = 0) -> Iterator[Values]:
    """Numbers of both signs and of positive sign only, small and larger; always the same."""
    rng = Random(seed)
    ordered = sorted(names)
    for number in range(_SAMPLES):
        low, high = (0.125, 2.0 ** (number % 3)) if number % 2 else (-3.0, 3.0)
        yield {name: rng.uniform(low, high) for name in ordered}


def _modelled(expr: Expr) -> Expr:
    """The term with a function that has a meaning for each that nothing is known of.

    A law of a term holds whatever its unknown functions are.
    """
    args = tuple(map(_modelled, expr.args))
    if not args or expr.op in FUNCTIONS:
        return Expr(expr.op, args, expr.value)
    place = crc32(expr.op.encode()) / 2**32
    total = reduce(lambda x, y: x * 1.25 + y, args)
    return call("sin", total + place) + 2.0
