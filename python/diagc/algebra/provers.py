"""Proofs of laws with sympy: imported only when a law is asked for whose answer nobody knows."""

from collections.abc import Callable
from typing import Any

import sympy

from diagc.algebra.expressions import Expr
from diagc.algebra.separation import separate
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


def _cascade(old: Expr, _new: Expr, elements: frozenset[str]) -> Expr | None:
    """Sums that let the sum of the summand follow its statistics."""
    return separate(old, elements)


PROVERS: dict[str, Callable[[Expr, Expr, frozenset[str]], Expr | None]] = {
    "scale": _scale,
    "offset": _offset,
    "cascade": _cascade,
}
"""By the name of a law: from the summand with old and new statistics, and the names of elements."""
