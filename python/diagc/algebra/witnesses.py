"""Witnesses of refusals: numbers that show that a law does not hold."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from random import Random

from diagc.algebra.counterexamples import modelled
from diagc.algebra.expressions import Expr, evaluate, symbols
from diagc.algebra.finite_rank import MOST_SUMS
from diagc.algebra.laws import cases
from diagc.algebra.numeric_rank import singular_values

__all__ = ["pole_witness", "rank_witness", "shift_witness"]

_TRIES = 40


def rank_witness(phi: Expr, statistics: Sequence[str], elements: Collection[str]) -> str:
    """The singular values of the summand at random points: `of rank up to 6: singular values ...`.

    Args:
        phi: the summand.
        statistics: names of the symbols that change.
        elements: names of the symbols that vary along the streamed axis.
    """
    spectra = [
        singular_values(modelled(case), statistics, set(elements) & symbols(case))
        for case in cases(phi)
    ]
    values = max(spectra, key=lambda s: s[MOST_SUMS] / s[0] if len(s) > MOST_SUMS and s[0] else 0.0)
    shown = ", ".join(f"{value:.1e}" for value in values[: MOST_SUMS + 3])
    return f" of rank up to {MOST_SUMS}: singular values of [phi(x_i, s_j)] are {shown}"


def shift_witness(phi: Expr, statistics: Sequence[str], elements: Collection[str]) -> str:
    """Two elements that a move of the statistics moves differently."""
    rng = Random(1)
    names = sorted(symbols(phi))
    for case in cases(modelled(phi)):
        for _ in range(_TRIES):
            old, other = ({name: rng.uniform(-3.0, 3.0) for name in names} for _ in range(2))
            moved = {name: rng.uniform(-3.0, 3.0) for name in statistics}
            second = {**old, **{name: other[name] for name in elements if name in other}}
            steps = [evaluate(case, {**v, **moved}) - evaluate(case, v) for v in (old, second)]
            if all(map(math.isfinite, steps)) and abs(steps[0] - steps[1]) > 1e-6:
                at = ", ".join(_shown(old, statistics)), ", ".join(_shown(moved, statistics))
                return (
                    f"positions: from statistics {at[0]} to {at[1]}, one element moves by "
                    f"{steps[0]:.4g} and another by {steps[1]:.4g}"
                )
    return "positions"


_TRIED, _TRIED_POSITIVE = (0.0, 1.0, -1.0), (0.5, 1.0, 2.0)


def pole_witness(term: Expr, shown: Mapping[str, str], positive: Collection[str] = ()) -> str:
    """A point at which a term is no number: `: it is no number where z = 0`; empty if none is seen.

    Args:
        term: the term.
        shown: what people call its symbols; those that are missing are 1.
        positive: symbols that are above 0.
    """
    term, names = modelled(term), sorted(symbols(term))
    tried = [_TRIED_POSITIVE if n in positive else _TRIED if n in shown else (1.0,) for n in names]
    for numbers in product(*tried):
        if not math.isfinite(evaluate(term, dict(zip(names, numbers, strict=True)))):
            pairs = [(shown[n], x) for n, x in zip(names, numbers, strict=True) if n in shown]
            return ": it is no number where " + ", ".join(f"{n} = {x:g}" for n, x in pairs)
    return ""


def _shown(values: dict[str, float], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield f"{values[name]:.4g}"
