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

from diagc.algebra.expressions import FUNCTIONS, Expr, call, evaluate, symbols
from diagc.algebra.finite_rank import MOST_SUMS
from diagc.algebra.numeric_rank import exceeds

__all__ = ["is_refuted", "modelled"]

Values = dict[str, float]

_SAMPLES = 24
_DIFFERENT = 1e-6


def is_refuted(law: str, phi: Expr, statistics: Sequence[str], elements: Collection[str]) -> bool:
    """Whether numbers show that a summand does not follow its statistics by a law.

    Args:
        law: "scale", "offset" or "cascade".
        phi: the summand, without case distinctions.
        statistics: names of the symbols that change.
        elements: names of the symbols that the law must be free of.
    """
    if law == "cascade":
        return exceeds(modelled(phi), statistics, elements, MOST_SUMS)
    differ = {"scale": _factors_differ, "offset": _shifts_differ}[law]
    return any(differ(*values) for values in _quadruples(phi, statistics, elements))


def _factors_differ(old: float, new: float, other_old: float, other_new: float) -> bool:
    return _differ(old * other_new, new * other_old)


def _shifts_differ(old: float, new: float, other_old: float, other_new: float) -> bool:
    return _differ(new + other_old, old + other_new, abs(old) + abs(new))


def _quadruples(
    phi: Expr, statistics: Iterable[str], elements: Iterable[str]
) -> Iterator[Sequence[float]]:
    """Values of `phi` for old and new statistics, at some elements and at others."""
    phi = modelled(phi)
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


def modelled(expr: Expr) -> Expr:
    """The term with a function that has a meaning for each that nothing is known of.

    A law of a term holds whatever its unknown functions are.
    """
    args = tuple(map(modelled, expr.args))
    if not args or expr.op in FUNCTIONS:
        return Expr(expr.op, args, expr.value)
    place = crc32(expr.op.encode()) / 2**32
    total = reduce(lambda x, y: x * 1.25 + y, args)
    return call("sin", total + place) + 2.0
