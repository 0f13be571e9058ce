"""The laws that let a sum follow a statistic that still changes.

A summand phi(x, s) of elements x uses an earlier statistic s of the same row. While the row is
streamed, s becomes t, and what was summed with s must be corrected. Three laws are tried, each
proved symbolically and looked up by its canonical text afterwards (`proofs`):

    scale   phi(x, t) = r(s, t) * phi(x, s)       r free of x: the sum is multiplied by r
    offset  phi(x, t) = phi(x, s) + d(s, t)       d free of x: a maximum or minimum moves by d

Source: shift and range lemmas of normalised contractions (arXiv 2505.09326), cascades of rank one.
"""

from collections.abc import Iterable, Iterator, Sequence

from diagc.algebra.expressions import (
    SYMBOL,
    Expr,
    constant,
    in_order,
    is_zero,
    parse,
    substitute,
    symbol,
    symbols,
    text,
)
from diagc.algebra.proofs import answer

__all__ = ["NEW", "cases", "is_safe", "offset", "prove", "scale"]

NEW = "_new"
"""Suffix of a statistic's symbol that stands for its next value."""

_NONE = "none"


def scale(phi: Expr, statistics: Sequence[str], elements: Iterable[str]) -> Expr | None:
    """The factor r(s, t), over the statistics and their names with suffix `NEW`; None if none.

    Args:
        phi: the summand, without guards for empty rows.
        statistics: names of the symbols that change.
        elements: names of the symbols that vary along the streamed axis.
    """
    return _law("scale", phi, statistics, elements)


def offset(phi: Expr, statistics: Sequence[str], elements: Iterable[str]) -> Expr | None:
    """The shift d(s, t); arguments as for `scale`."""
    return _law("offset", phi, statistics, elements)


def _law(name: str, phi: Expr, statistics: Sequence[str], elements: Iterable[str]) -> Expr | None:
    if _switches(phi, set(statistics)):
        return None
    phi, elements = _collapsed(phi, set(statistics), set(elements))
    found: Expr | None = None
    for case in cases(phi):
        if not symbols(case) & set(statistics):
            if name == "scale" and is_zero(case):
                continue
            result: Expr | None = constant(1.0 if name == "scale" else 0.0)
        else:
            result = _ask(name, case, statistics, elements)
        if result is None or found not in (None, result):
            return None
        found = result
    return found


def _ask(name: str, phi: Expr, statistics: Sequence[str], elements: Iterable[str]) -> Expr | None:
    """The law of a summand without case distinctions, asked in canonical names."""
    names = _canonical_names(phi, set(statistics), set(elements))
    phi = substitute(phi, {old: symbol(new) for old, new in names.items()})
    question = f"{name} {text(phi)}"
    found = answer(question, lambda: prove(question))
    if found == _NONE:
        return None
    back = {new: symbol(old) for old, new in names.items()}
    back |= {new + NEW: symbol(old + NEW) for old, new in names.items()}
    return substitute(parse(found), back)


def prove(question: str) -> str:
    """The answer to a question about a term in canonical names, found with sympy.

    Raises:
        KeyError: no such law.
        ValueError: not the text of a term.
    """
    from diagc.algebra.provers import PROVERS

    name, source = question.split(" ", 1)
    phi = parse(source)
    changing = [n for n in sorted(symbols(phi)) if n.startswith("s")]
    elements = frozenset(n for n in symbols(phi) if n.startswith("x"))
    result = PROVERS[name](phi, substitute(phi, {s: symbol(s + NEW) for s in changing}), elements)
    return _NONE if result is None else text(result)


def _collapsed(phi: Expr, statistics: set[str], elements: set[str]) -> tuple[Expr, set[str]]:
    """The summand with a symbol for every part that no statistic changes and elements do.

    So `exp(a * 0.125 + b - m)` asks what `exp(a - m)` asks.
    """
    made: dict[Expr, Expr] = {}

    def visit(expr: Expr) -> Expr:
        used = symbols(expr)
        if not used & statistics and used & elements:
            return made.setdefault(expr, symbol(f"part{len(made)}"))
        return Expr(expr.op, tuple(map(visit, expr.args)), expr.value)

    return visit(phi), {str(part.value) for part in made.values()}


def _canonical_names(phi: Expr, statistics: set[str], elements: set[str]) -> dict[str, str]:
    """New names in order of appearance: s0, s1 for statistics, x0 for elements, c0 for the rest."""
    names: dict[str, str] = {}
    for old in in_order(phi):
        kind = "s" if old in statistics else "x" if old in elements else "c"
        names[old] = f"{kind}{sum(new.startswith(kind) for new in names.values())}"
    return names


def is_safe(law: Expr, statistics: Iterable[str]) -> bool:
    """Whether a law is finite whatever the statistics are: it only adds, multiplies, uses exp."""
    changing = {name + suffix for name in statistics for suffix in ("", NEW)}
    if not symbols(law) & changing:
        return True
    if law.op == "div" and not symbols(law.args[1]) & changing:
        return is_safe(law.args[0], statistics)
    return law.op in _FINITE and all(is_safe(arg, statistics) for arg in law.args)


_FINITE = (SYMBOL, "add", "sub", "mul", "neg", "exp", "max", "min", "abs")


def cases(phi: Expr) -> Iterator[Expr]:
    """The term for every choice of its conditions, which must not depend on statistics."""
    place = _find_select(phi)
    if place is None:
        yield phi
        return
    for branch in place.args[1:]:
        yield from cases(_choose(phi, place.args[0], place.args.index(branch, 1)))


def _switches(expr: Expr, statistics: set[str]) -> bool:
    """Whether a condition depends on a statistic."""
    if expr.op == "select" and symbols(expr.args[0]) & statistics:
        return True
    return any(_switches(arg, statistics) for arg in expr.args)


def _find_select(expr: Expr) -> Expr | None:
    if expr.op == "select":
        return expr
    return next((found for arg in expr.args if (found := _find_select(arg)) is not None), None)


def _choose(expr: Expr, condition: Expr, branch: int) -> Expr:
    """Every select on `condition` replaced by one of its branches."""
    if expr.op == "select" and expr.args[0] == condition:
        return _choose(expr.args[branch], condition, branch)
    if expr.op == SYMBOL:
        return expr
    return Expr(expr.op, tuple(_choose(a, condition, branch) for a in expr.args), expr.value)
