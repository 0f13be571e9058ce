"""How a normaliser is computed without overflow: the range lemma, applied to its terms.

    N(x)_i = a(x_i) / b(z),      z_k = sum_j s_k(x_j)

Where a and s_k grow like exp(g(x)) and exp(r_k g(x)), a reference c is subtracted from every g; c
follows the running maximum m of g(x_j). With w_k = z_k exp(-r_k c) and p = 1 or 0 the rate of a,

    N(x)_i = a(x_i) exp(-p c) / (b(z) exp(-p c))

where exp(-p c) goes into the exponentials of a, and b(z) exp(-p c) is written in the w_k: every
factor is pushed to where it cancels (`scaling`). If none is left, c cancels in the result and is m,
or 0 while nothing above minus infinity was seen; this is the shift lemma of softmax. If any
exponential of c is left, c = max(m, 0) keeps them at most 1. Source: range lemma of normalised
contractions (arXiv 2505.09326). Numbers check what is derived where a user's law is registered.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from diagc.algebra.evaluation import excludes, ratio, sample
from diagc.algebra.expressions import (
    Expr,
    constant,
    equal,
    evaluate,
    maximum,
    select,
    substitute,
    symbol,
    symbols,
)
from diagc.algebra.scaling import growth, pushed, rescaled
from diagc.dialects import diag
from diagc.errors import UnsupportedError

__all__ = ["EXCLUDED", "Formula", "StableForm", "Statistic", "derive_form", "with_eps"]

EXCLUDED = (0.0, float("-inf"))
"""Element values that may stand for what `keep` excludes."""

_C, _M, _N = symbol("c"), symbol("m"), symbol("n")
_ONE = constant(1.0)


@dataclass(frozen=True)
class Statistic:
    """One statistic of a row: the reduction of `term` over all elements x by monoid `kind`."""

    kind: str
    term: Expr


@dataclass(frozen=True)
class Formula:
    """A normaliser as it is defined: x is the element, z (or z1, z2 ...) what was reduced.

    Args:
        numerator: a, over x.
        statistics: what is reduced, over x.
        aggregate: b, over z, n and parameters.
        centred: whether x stands for the element minus the mean of the row.
    """

    numerator: Expr
    statistics: tuple[Statistic, ...] = ()
    aggregate: Expr = _ONE
    centred: bool = False

    def names(self) -> tuple[str, ...]:
        """The symbols of the statistics in `aggregate`."""
        count = len(self.statistics)
        return ("z",) if count == 1 else tuple(f"z{k + 1}" for k in range(count))


@dataclass(frozen=True)
class StableForm:
    """A normaliser as it is computed.

    Args:
        formula: what it means.
        kind: the reduction that gives m, or None where nothing is subtracted.
        reference: what it reduces, over x.
        shift: c, over m and n; finite for a row without elements.
        numerator: over x and c.
        statistics: over x and c.
        rates: r_k; the k-th statistic is kept as z_k exp(-r_k c).
        rate: that of the numerator.
        excluded: the value that `keep` may put in place of an excluded element, for which the
            numerator is 0 and all that is reduced an identity; None where no value does that.
    """

    formula: Formula
    kind: str | None
    reference: Expr
    shift: Expr
    numerator: Expr
    statistics: tuple[Statistic, ...]
    rates: tuple[float, ...]
    rate: float
    excluded: float | None

    def aggregate(self, eps: Expr | None = None, place: str = "inside") -> Expr:
        """The denominator over the statistics as they are kept, c and n.

        Args:
            eps: what is added, if anything.
            place: "inside" the outermost root of b (else beside b), or "outside".
        """
        found = self._rescaled(self.formula.aggregate)
        if eps is not None and "c" in symbols(found):
            found = self._rescaled(with_eps(self.formula.aggregate, eps, place))
        elif eps is not None:
            found = with_eps(found, eps, place)
        return self._guarded(found)

    def _rescaled(self, aggregate: Expr) -> Expr:
        rates = dict(zip(self.formula.names(), self.rates, strict=True))
        return rescaled(aggregate, rates, -self.rate)

    def _guarded(self, aggregate: Expr) -> Expr:
        """The aggregate, made 0 for a row without elements where it would be no number."""
        identities = {
            name: constant(_identity(statistic.kind))
            for name, statistic in zip(self.formula.names(), self.statistics, strict=True)
        }
        numbers = sample(symbols(aggregate), 0.0)
        empty = {name: float(term.value or 0.0) for name, term in identities.items()}
        if not identities or not math.isnan(evaluate(aggregate, {**numbers, **empty, "c": 0.0})):
            return aggregate
        nothing = reduce(
            lambda a, b: Expr("and", (a, b)),
            (equal(symbol(name), term) for name, term in identities.items()),
        )
        # the second guard keeps gradients of what is not selected finite
        inner = {name: select(nothing, 1.0, symbol(name)) for name in identities}
        return select(nothing, 0.0, substitute(aggregate, inner))

    def cancels(self) -> bool:
        """Whether the result does not depend on c."""
        return "c" not in symbols(self._rescaled(self.formula.aggregate))

    def terms(self) -> Iterator[Expr]:
        """All terms."""
        yield from (self.reference, self.shift, self.numerator, self.aggregate())
        yield from (statistic.term for statistic in self.statistics)


def with_eps(aggregate: Expr, eps: Expr, place: str) -> Expr:
    """B with eps inside its outermost root, or beside it."""
    if place == "inside" and aggregate.op == "sqrt":
        return Expr("sqrt", (aggregate.args[0] + eps,))
    return aggregate + eps


def derive_form(formula: Formula) -> StableForm:
    """Derive how a normaliser is computed.

    Raises:
        UnsupportedError: a maximum or minimum of what grows like an exponential.
    """
    if formula.centred:
        return _centred(formula)
    terms = (formula.numerator, *(s.term for s in formula.statistics))
    base, rates = _rates([growth(term) for term in terms])
    if base is None:
        return _finished(formula, None, symbol("x"), constant(0.0), rates)
    for statistic in formula.statistics:
        if statistic.kind != "add" and growth(statistic.term) is not None:
            raise UnsupportedError(
                f"the {statistic.kind} of {statistic.term}",
                reason="only a sum can follow the maximum that keeps exponentials in range",
                remedy="take the maximum of the exponent, and its exponential in the aggregate",
            )
    names = dict(zip(formula.names(), rates[1:], strict=True))
    aggregate = rescaled(formula.aggregate, names, -rates[0])
    shift = maximum(_M, 0.0) if _has_exponential(aggregate) else _finite(_M)
    return _finished(formula, "max", base, shift, rates)


def _centred(formula: Formula) -> StableForm:
    """The mean is subtracted first."""
    x = {"x": symbol("x") - _C}
    statistics = tuple(Statistic(s.kind, substitute(s.term, x)) for s in formula.statistics)
    numerator, rates = substitute(formula.numerator, x), (0.0,) * len(statistics)
    return StableForm(formula, "add", symbol("x"), _M / _N, numerator, statistics, rates, 0.0, None)


def _finite(m: Expr) -> Expr:
    """The maximum, and 0 for a row without elements above minus infinity."""
    return select(equal(m, float("-inf")), 0.0, m)


def _has_exponential(term: Expr) -> bool:
    """Whether c stands under an exponential."""
    if term.op == "exp" and "c" in symbols(term):
        return True
    return any(map(_has_exponential, term.args))


def _rates(growths: list[Expr | None]) -> tuple[Expr | None, list[float]]:
    """The common g, and how many times of it each term grows (0: not at all)."""
    found = [g for g in growths if g is not None]
    if not found:
        return None, [0.0] * len(growths)
    ratios = [0.0 if g is None else ratio(g, found[0]) for g in growths]
    if all(r is not None and r >= 0.0 for r in ratios):
        return found[0], [r for r in ratios if r is not None]
    base = found[0]
    for other in dict.fromkeys(found[1:]):
        base = base if other == base else maximum(base, other)
    return base, [0.0 if g is None else 1.0 for g in growths]


def _identity(kind: str) -> float:
    identity = diag.MONOIDS[kind].float_identity
    assert identity is not None
    return identity


def _finished(
    formula: Formula, kind: str | None, base: Expr, shift: Expr, rates: list[float]
) -> StableForm:
    numerator = pushed(formula.numerator, -rates[0])
    statistics = tuple(
        Statistic(s.kind, pushed(s.term, -rate))
        for s, rate in zip(formula.statistics, rates[1:], strict=True)
    )
    identities = [(numerator, 0.0), *((s.term, _identity(s.kind)) for s in statistics)]
    if kind is not None:
        identities.append((base, float("-inf")))
    excluded = next((v for v in EXCLUDED if excludes(identities, v)), None)
    return StableForm(
        *(formula, kind, base, shift, numerator, statistics, tuple(rates[1:]), rates[0], excluded)
    )
