"""Proofs of laws with sympy: imported only when a law is asked for whose answer nobody knows."""

from collections.abc import Callable
from typing import Any

import sympy

from diagc.algebra.counterexamples import MOST_MOMENTS, possible_rates
from diagc.algebra.expressions import Expr
from diagc.algebra.symbolic import from_sympy, to_sympy

__all__ = ["PROVERS"]


def _scale(old: Expr, new: Expr, elements: frozenset[str]) -> Expr | None:
    """The quotient of the new summand and the old, if it is free of elements."""
    quotient = to_sympy(new) / to_sympy(old)
    return _without(sympy.powsimp(sympy.cancel(sympy.powsimp(quotient))), elements)


def _offset(old: Expr, new: Expr, elements: frozenset[str]) -> Expr | None:
    """The difference of the new summand and the old, if it is free of elements."""
    return _without(to_sympy(new) - to_sympy(old), elements)


def _without(term: Any, elements: frozenset[str]) -> Expr | None:
    """`term` without the symbols `elements`, if simplification rids it of them."""
    for simplify in (lambda t: t, sympy.expand, sympy.simplify):
        simpler = sympy.powsimp(simplify(term)).replace(sympy.exp, _factored_exp)
        if not {s.name for s in simpler.free_symbols} & elements:
            try:
                return from_sympy(simpler)
            except ValueError:
                return None
    return None


def _factored_exp(argument: Any) -> Any:
    """`exp(c * (s - t))` rather than `exp(c * s - c * t)`, whose rounding errors do not cancel."""
    return sympy.exp(sympy.factor_terms(argument))


def _moments(old: Expr, _new: Expr, elements: frozenset[str]) -> Expr | None:
    """Rate c and the terms (d/ds - c)^k of the summand, k = 1, 2 ..., when they end in 0."""
    phi, s = to_sympy(old), sympy.Symbol("s0", real=True)
    for rate in _rates(old, elements):
        terms = [phi]
        while len(terms) <= MOST_MOMENTS + 1:
            following = sympy.factor(sympy.simplify(terms[-1].diff(s) - rate * terms[-1]))
            if following == 0:
                return _moments_term(rate, terms[1:])
            simpler = sympy.powsimp(following).replace(sympy.exp, _factored_exp)
            terms.append(sympy.factor_terms(simpler))
    return None


def _rates(phi: Expr, elements: frozenset[str]) -> list[Any]:
    """The numbers c for which exp(c s) may be a factor."""
    terms = [sympy.simplify(to_sympy(rate)) for rate in possible_rates(phi, "s0")]
    usable = [c for c in terms if not {symbol.name for symbol in c.free_symbols} & elements]
    return list(dict.fromkeys(usable))


def _moments_term(rate: Any, terms: list[Any]) -> Expr | None:
    try:
        return Expr("moments", (from_sympy(rate), *map(from_sympy, terms)))
    except ValueError:
        return None


PROVERS: dict[str, Callable[[Expr, Expr, frozenset[str]], Expr | None]] = {
    "scale": _scale,
    "offset": _offset,
    "moments": _moments,
}
"""By the name of a law: from the summand with old and new statistics, and the names of elements."""
