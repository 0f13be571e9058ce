"""Gradients of a normaliser, derived from its formula by sympy.

With g the cotangent of the normalised row, b = b(z, p), w_i = a(x_i) / b and D = sum_i g_i w_i,

    dx_i = g_i a'(x_i) / b - (D / b) sum_k (db / dz_k) s_k'(x_i)
    dp   = sum_i g_i (da / dp)(x_i) / b
           - (D / b) (db / dp + sum_k (db / dz_k) sum_j (ds_k / dp)(x_j))

for sums z_k; source: the quotient rule, as for every normalised contraction (arXiv 2505.09326).
"""

from dataclasses import dataclass
from typing import Any

from diagc.algebra.expressions import Expr, select, show, substitute, symbol, symbols
from diagc.algebra.normalizers import Normalizer
from diagc.errors import UnsupportedError

__all__ = ["Gradient", "gradient"]


@dataclass(frozen=True)
class Gradient:
    """The derivatives that the gradients of a normaliser are made of.

    Args:
        numerator: by the element, and by each parameter.
        statistics: the same of each statistic, in order.
        aggregate: by each statistic, and by each parameter.
    """

    numerator: dict[str, Expr]
    statistics: tuple[dict[str, Expr], ...]
    aggregate: dict[str, Expr]

    def __str__(self) -> str:
        """One derivative a line."""
        lines = [f"d numerator / d{n} = {show(e)}" for n, e in self.numerator.items()]
        for number, found in enumerate(self.statistics):
            lines += [f"d statistic {number + 1} / d{n} = {show(e)}" for n, e in found.items()]
        lines += [f"d aggregate / d{n} = {show(e)}" for n, e in self.aggregate.items()]
        return "\n".join(lines)


def gradient(row: Normalizer) -> Gradient:
    """Derive the gradient of a row of the table.

    Raises:
        UnsupportedError: a statistic that is no sum, a row whose mean is subtracted first, or a
            function that sympy differentiates to something that terms do not have.
    """
    formula = row.formula
    if formula.centred or any(s.kind != "add" for s in formula.statistics):
        reason = "only statistics that are sums have derivatives of one element alone"
        raise UnsupportedError(f"the gradient of {row.name}", reason=reason)
    parameters = [name for name, _ in row.parameters]
    inner = ["x", *parameters]
    return Gradient(
        _derivatives(row, formula.numerator, inner),
        tuple(_derivatives(row, s.term, inner) for s in formula.statistics),
        _derivatives(row, formula.aggregate, [*formula.names(), *parameters]),
    )


def _derivatives(row: Normalizer, term: Expr, names: list[str]) -> dict[str, Expr]:
    try:
        return {name: derivative(term, name) for name in names if name in symbols(term)}
    except ValueError as error:
        raise UnsupportedError(f"the gradient of {row.name}", reason=str(error)) from None


def derivative(term: Expr, name: str) -> Expr:
    """The derivative of a term by a symbol; of `select`, `abs`, `max`, `min` that of the branch.

    Raises:
        ValueError: a function that terms do not have.
    """
    from diagc.algebra.symbolic import from_sympy, to_sympy  # sympy: 0.4 s

    branches: dict[str, Expr] = {}
    plain = _without_branches(term, name, branches)
    total: Any = to_sympy(plain).diff(to_sympy(symbol(name)))
    for inner in branches:
        by_branch = to_sympy(plain).diff(to_sympy(symbol(inner)))
        total = total + by_branch * to_sympy(symbol(f"{inner}_slope"))
    slopes = {f"{inner}_slope": _branch_slope(branch, name) for inner, branch in branches.items()}
    return substitute(substitute(from_sympy(total), slopes), branches)


def _without_branches(term: Expr, name: str, branches: dict[str, Expr]) -> Expr:
    """The term with a symbol for every part that is one thing here and another there."""
    if name in symbols(term) and term.op in ("select", "abs", "max", "min"):
        known = (inner for inner, branch in branches.items() if branch == term)
        inner = next(known, f"branch{len(branches)}")
        branches[inner] = term
        return symbol(inner)
    args = tuple(_without_branches(arg, name, branches) for arg in term.args)
    return Expr(term.op, args, term.value)


def _branch_slope(term: Expr, name: str) -> Expr:
    """The derivative of the branch that is taken; at a kink, of the first."""
    if term.op == "select":
        condition, first, second = term.args
        return select(condition, derivative(first, name), derivative(second, name))
    first = term.args[0]
    second = -first if term.op == "abs" else term.args[1]
    lower, higher = (first, second) if term.op == "min" else (second, first)
    return select(Expr("le", (lower, higher)), derivative(first, name), derivative(second, name))
