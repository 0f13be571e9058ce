"""The laws that let a sum follow a statistic that still changes.

A summand phi(x, s) of elements x uses an earlier statistic s of the same row. While the row is
streamed, s becomes t, and what was summed with s must be corrected. The laws are
tried in turn; all but `hits`, which is read off the form, are proved symbolically and looked up by
their canonical text afterwards (`proofs`):

    scale   phi(x, t) = r(s, t) * phi(x, s)       r free of x: the sum is multiplied by r
    offset  phi(x, t) = phi(x, s) + d(s, t)       d free of x: a maximum or minimum moves by d
    cascade phi(x, s) = sum over k of g_k(x) h_k(s)   of few terms: further sums are kept
            (module `finite_rank`; a variance around a running mean keeps two)
    hits    phi(x, s) = g(x) where x = s, nothing elsewhere, s the maximum or minimum of the x:
            when it becomes t, no x seen before equals t, and what was reduced is void

Source: shift and range lemmas of normalised contractions (arXiv 2505.09326) for rank one.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from diagc.algebra.counterexamples import is_refuted
from diagc.algebra.expressions import (
    CONSTANT,
    SYMBOL,
    Expr,
    constant,
    equal,
    in_order,
    is_zero,
    parse,
    select,
    substitute,
    symbol,
    symbols,
    text,
)
from diagc.algebra.finite_rank import Form, decoded, mapped
from diagc.algebra.proofs import answer

__all__ = ["NEW", "cascade", "cases", "hits", "is_safe", "offset", "prove", "scale"]

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


def cascade(phi: Expr, statistics: Sequence[str], elements: Iterable[str]) -> list[Form]:
    """The forms in which a sum of `phi` follows statistics by further sums, best first.

    Conditions `select(k, term, 0)` that no statistic changes are kept around the terms. Arguments
    as for `scale`.
    """
    if _switches(phi, set(statistics)):
        return []
    phi, names, parts = _collapsed(phi, set(statistics), set(elements))
    conditions: dict[str, Expr] = {}
    phi = _with_indicators(phi, conditions)
    if any(not is_zero(substitute(phi, {name: constant(0.0)})) for name in conditions):
        return []
    found = _ask("cascade", phi, statistics, names | conditions.keys())
    if found is None:
        return []
    ones = dict.fromkeys(conditions, constant(1.0))
    kept = [substitute(condition, parts) for condition in conditions.values()]

    def wrapped(term: Expr) -> Expr:
        return _where(kept, substitute(substitute(term, parts), ones))

    return [mapped(form, map(wrapped, form.terms), parts) for form in decoded(found)]


def hits(phi: Expr, statistic: str, extreme: Expr, nothing: float) -> Expr | None:
    """The condition, over the statistic and its new value, under which a reduction of hits is void.

    A NaN stays the maximum, and its positions the hits.

    Args:
        phi: the summand.
        statistic: the name of a maximum or minimum.
        extreme: what that is the maximum or minimum of.
        nothing: the identity of the reduction.
    """
    if not _is_hit(phi, statistic, extreme, nothing):
        return None
    old, new = symbol(statistic), symbol(statistic + NEW)
    return select(equal(old, new), 0.0, select(equal(old, old), 1.0, 0.0))


def _is_hit(phi: Expr, statistic: str, extreme: Expr, nothing: float) -> bool:
    """Whether a term is `nothing` wherever `extreme` does not equal the statistic."""
    if phi.op == "mul" and nothing == 0.0:
        held = [arg for arg in phi.args if statistic in symbols(arg)]
        return len(held) == 1 and _is_hit(held[0], statistic, extreme, nothing)
    if phi.op != "select" or not _is_nothing(phi.args[2], nothing):
        return False
    condition, kept = phi.args[:2]
    if condition.op == "eq" and set(condition.args) == {extreme, symbol(statistic)}:
        return statistic not in symbols(kept)
    return statistic not in symbols(condition) and _is_hit(kept, statistic, extreme, nothing)


def _is_nothing(expr: Expr, nothing: float) -> bool:
    """Whether a term is a number; `select(x != x, a, b)` is b, as reals have no NaN."""
    if expr.op == "select" and expr.args[0].op == "not":
        inner = expr.args[0].args[0]
        if inner.op == "eq" and inner.args[0] == inner.args[1]:
            return _is_nothing(expr.args[2], nothing)
    return expr.op == CONSTANT and expr.value == nothing


def _with_indicators(expr: Expr, conditions: dict[str, Expr]) -> Expr:
    """`select(k, term, 0)` as a symbol (1 or 0) times the term."""
    args = tuple(_with_indicators(arg, conditions) for arg in expr.args)
    if expr.op != "select" or not is_zero(args[2]):
        return Expr(expr.op, args, expr.value)
    name = next((n for n, c in conditions.items() if c == expr.args[0]), f"kept{len(conditions)}")
    conditions[name] = expr.args[0]
    return symbol(name) * args[1]


def _where(conditions: Iterable[Expr], expr: Expr) -> Expr:
    expr = _without_ones(expr)
    for condition in conditions:
        expr = select(condition, expr, 0.0)
    return expr


def _without_ones(expr: Expr) -> Expr:
    args = tuple(map(_without_ones, expr.args))
    if expr.op == "mul" and constant(1.0) in args:
        return args[1] if args[0] == constant(1.0) else args[0]
    return Expr(expr.op, args, expr.value)


def _law(name: str, phi: Expr, statistics: Sequence[str], elements: Iterable[str]) -> Expr | None:
    if _switches(phi, set(statistics)):
        return None
    phi, elements, _ = _collapsed(phi, set(statistics), set(elements))
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
    """The answer to a question about a term in canonical names.

    Numbers refute most; what they do not refute is left to sympy.

    Raises:
        KeyError: no such law.
        ValueError: not the text of a term.
    """
    name, source = question.split(" ", 1)
    phi = parse(source)
    changing = [n for n in sorted(symbols(phi)) if n.startswith("s")]
    elements = frozenset(n for n in symbols(phi) if n.startswith("x"))
    if is_refuted(name, phi, changing, elements):
        return _NONE
    from diagc.algebra.provers import PROVERS  # sympy: 0.4 s

    result = PROVERS[name](phi, substitute(phi, {s: symbol(s + NEW) for s in changing}), elements)
    return _NONE if result is None else text(result)


def _collapsed(
    phi: Expr, statistics: set[str], elements: set[str]
) -> tuple[Expr, set[str], dict[str, Expr]]:
    """The summand with a symbol for every part that no statistic changes and elements do.

    So `exp(a * 0.125 + b - m)` asks what `exp(a - m)` asks. Also gives the symbols, and the parts.
    """
    made: dict[Expr, Expr] = {}

    def visit(expr: Expr) -> Expr:
        used = symbols(expr)
        if not used & statistics and used & elements:
            return made.setdefault(expr, symbol(f"part{len(made)}"))
        return Expr(expr.op, tuple(map(visit, expr.args)), expr.value)

    collapsed = visit(phi)
    parts = {str(name.value): part for part, name in made.items()}
    return collapsed, set(parts), parts


def _canonical_names(phi: Expr, statistics: set[str], elements: set[str]) -> dict[str, str]:
    """New names in order of appearance: s0, s1 for statistics, x0 for elements, c0 for the rest."""
    names: dict[str, str] = {}
    for old in in_order(phi):
        kind = "s" if old in statistics else "x" if old in elements else "c"
        names[old] = f"{kind}{sum(new.startswith(kind) for new in names.values())}"
    return names


def is_safe(law: Expr, statistics: Iterable[str], positive: Collection[str] = ()) -> bool:
    """Whether a law is finite whatever the statistics are.

    It may divide by what is no statistic and by what cannot come near 0, and take roots and
    logarithms where these are finite.

    Args:
        law: the law, over statistics and their new values.
        statistics: names of the symbols that change.
        positive: those that stay away from 0.
    """
    changing = {name + suffix for name in statistics for suffix in ("", NEW)}

    def safe(term: Expr) -> bool:
        if not symbols(term) & changing:
            return True
        if term.op == "select":
            return all(map(safe, term.args[1:]))
        last = term.args[-1] if term.args else term
        if term.op in ("div", "log") and symbols(last) & changing:
            return _is_above(last, positive) and all(map(safe, term.args))
        if term.op == "sqrt":
            return _is_at_least_0(last, positive) and safe(last)
        return term.op in _FINITE and all(map(safe, term.args))

    return safe(law)


def _is_above(term: Expr, positive: Collection[str]) -> bool:
    """Whether the form of a term says that it is above some positive number."""
    if term.op == SYMBOL:
        return term.value in positive
    if term.op == CONSTANT:
        return float(term.value or 0.0) > 0.0
    above = [_is_above(arg, positive) for arg in term.args]
    if term.op == "add":
        return any(above) and all(_is_at_least_0(arg, positive) for arg in term.args)
    return any(above) if term.op == "max" else term.op in ("mul", "sqrt", "min") and all(above)


def _is_at_least_0(term: Expr, positive: Collection[str]) -> bool:
    """Whether the form of a term says that it is not negative."""
    if term.op in ("abs", "exp", "sqrt") or _is_above(term, positive):
        return True
    if term.op == "mul" and term.args[0] == term.args[1]:
        return True
    at_least = [_is_at_least_0(arg, positive) for arg in term.args]
    return any(at_least) if term.op == "max" else term.op in ("add", "mul") and all(at_least)


_FINITE = (
    *(SYMBOL, "add", "sub", "mul", "div", "neg", "exp", "log", "max", "min", "abs"),
    *("tanh", "sin", "cos", "erf"),
)


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
