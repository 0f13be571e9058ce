"""Separates a summand into sums of products of what elements and what statistics give, with sympy.

Every term of the summand is brought into the form

    w(s) * exp(c . s + a(x)) * q(x, s)          q a polynomial in s, the rate c free of x

Terms of equal w and c belong to one group, whose derivatives by s close under a move of s: they
are the sums of Taylor's theorem. Three readings are given: powers of s stay in q, where nothing
cancels that did not before; or they go to w; or everything is expanded, and no q depends on s.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import sympy

from diagc.algebra.expressions import Expr
from diagc.algebra.finite_rank import MOST_SUMS, Form, coefficient, encoded
from diagc.algebra.symbolic import from_sympy, to_sympy

__all__ = ["separate"]

_NEW = "_new"  # laws.NEW, which this is imported from

Symbols = tuple[Any, ...]
Index = tuple[int, ...]


@dataclass(frozen=True)
class _Term:
    """One term: weight * exp(exponent) * polynomial; `rate` are the slopes of the exponent."""

    weight: Any
    exponent: Any
    rate: Symbols
    polynomial: Any

    def whole(self) -> Any:
        return sympy.exp(self.exponent) * self.polynomial


@dataclass(frozen=True)
class _Reader:
    """What is told apart: statistics and elements; in `mode` 0, 1, 2 more and more is weight."""

    statistics: Symbols
    elements: frozenset[Any]
    mode: int

    def terms(self, phi: Any) -> list[_Term] | None:
        """The terms of a summand, or None where one cannot be separated."""
        found: list[_Term] = []
        if self.mode == 2:
            phi = _expanded(phi)
        for part in _ordered(phi):
            term = self.term(part)
            pieces = [term] if term is not None else self._pieces(part)
            if pieces is None:
                return None
            found += pieces
        return found

    def _pieces(self, part: Any) -> list[_Term] | None:
        """The terms of a part after it was expanded."""
        terms = [self.term(piece) for piece in _ordered(_expanded(part))]
        return None if None in terms else [term for term in terms if term is not None]

    def term(self, part: Any) -> _Term | None:
        """One product."""
        weight, exponent, polynomial = sympy.S.One, sympy.S.Zero, sympy.S.One
        rate: Symbols = tuple(sympy.S.Zero for _ in self.statistics)
        for factor in sympy.Mul.make_args(part):
            if isinstance(factor, sympy.exp):
                found = self._exponent(factor.args[0])
                if found is None:
                    return None
                slopes, inner, outer = found
                rate = tuple(a + b for a, b in zip(rate, slopes, strict=True))
                exponent, weight = exponent + inner, weight * outer
            elif self._is_polynomial(factor):
                polynomial = polynomial * factor
            elif not self._uses(factor, self.elements):
                weight = weight * factor
            else:
                return None
        return _Term(weight, exponent, rate, polynomial)

    def _is_polynomial(self, factor: Any) -> bool:
        """Whether a factor stays inside: free of statistics, or a polynomial in them."""
        if not self._uses(factor, self.statistics):
            return True
        weighs = self.mode > 0 and not self._uses(factor, self.elements)
        return bool(factor.is_polynomial(*self.statistics)) and not weighs

    def _uses(self, expr: Any, names: Iterable[Any]) -> bool:
        return bool(expr.free_symbols & set(names))

    def _exponent(self, argument: Any) -> tuple[Symbols, Any, Any] | None:
        """Slopes by the statistics, the linear argument, and what only the statistics give."""
        outer, slopes = sympy.S.Zero, [sympy.S.Zero] * len(self.statistics)
        if not self._uses(argument, self.statistics):
            return tuple(slopes), argument, sympy.S.One
        linear = argument
        for part in sympy.Add.make_args(sympy.expand(argument)):
            place = [n for n, s in enumerate(self.statistics) if s in part.free_symbols]
            slope = part.coeff(self.statistics[place[0]]) if len(place) == 1 else None
            if not place:
                continue
            fits = slope is not None and not self._uses(slope, {*self.statistics, *self.elements})
            if fits and sympy.expand(part - slope * self.statistics[place[0]]) == 0:
                slopes[place[0]] += slope
            elif not self._uses(part, self.elements):
                outer, linear = outer + part, sympy.expand(linear - part)
            else:
                return None
        return tuple(slopes), linear, sympy.exp(outer)


def _ordered(expr: Any) -> list[Any]:
    """The terms of a sum, in an order that does not change from process to process."""
    return sorted(sympy.Add.make_args(expr), key=lambda part: part.sort_key())


def _expanded(expr: Any) -> Any:
    """Products, powers, exponentials and angles of sums, multiplied out."""
    return sympy.expand(sympy.expand_trig(sympy.expand(expr)))


def separate(phi: Expr, elements: frozenset[str]) -> Expr | None:
    """The forms of a summand in canonical names, encoded; None if there is none.

    Args:
        phi: the summand; its statistics are the symbols that begin with s.
        elements: names of the symbols that vary along the streamed axis.
    """
    term = to_sympy(phi)
    free = sorted(term.free_symbols, key=str)
    statistics = tuple(s for s in free if s.name[0] == "s")
    varying = frozenset(s for s in free if s.name in elements)
    forms: list[Form] = []
    for mode in range(3):
        form = _form(_Reader(statistics, varying, mode), term)
        if form is not None and form not in forms:
            forms.append(form)
    single = [form for form in forms if len(form.terms) == 1]
    ordered = [*single, *(form for form in forms if form not in single)]
    return encoded(ordered) if ordered else None


def _form(reader: _Reader, phi: Any) -> Form | None:
    terms = reader.terms(phi)
    if terms is None:
        return None
    groups: dict[tuple[Any, Symbols], list[_Term]] = {}
    for term in terms:
        number, weight = term.weight.as_coeff_Mul()
        scaled = _Term(weight, term.exponent, term.rate, number * term.polynomial)
        groups.setdefault((weight, term.rate), []).append(scaled)
    builder = _Builder(reader.statistics)
    try:
        for (weight, rate), members in groups.items():
            if not builder.add(weight, rate, members):
                return None
        return builder.form()
    except ValueError:  # a function that terms do not have
        return None


class _Builder:
    """Collects the sums of all groups."""

    def __init__(self, statistics: Symbols) -> None:
        self._statistics = statistics
        self._factors: dict[Any, int] = {}
        self._sums: list[tuple[Symbols, Any, Any]] = []  # rate, expanded term, shown term
        self._moves: list[list[tuple[int, Expr]]] = []  # empty while not known
        self._weights: list[Any] = []

    def add(self, weight: Any, rate: Symbols, members: Sequence[_Term]) -> bool:
        """Add the sums of a group; false where they are too many."""
        derived = self._derivatives(members)
        if derived is None:
            return False
        places: dict[Index, tuple[int, Any]] = {}
        for index, (term, shown) in derived.items():
            places[index] = self._find(rate, term) or self._appended(rate, term, shown)
            if len(self._sums) > MOST_SUMS:
                return False
        if places:
            head, multiple = places[(0,) * len(self._statistics)]
            self._weights[head] += multiple * weight
            self._move(places, rate)
        return True

    def _find(self, rate: Symbols, term: Any) -> tuple[int, Any] | None:
        """A sum that a term is a multiple of, and the multiple; it moves as the term does."""
        for number, (other_rate, other, _) in enumerate(self._sums):
            quotient = _ratio(term, other) if other_rate == rate else None
            if quotient is not None:
                return number, quotient
        return None

    def _appended(self, rate: Symbols, term: Any, shown: Any) -> tuple[int, Any]:
        self._sums.append((rate, term, shown))
        self._weights.append(sympy.S.Zero)
        self._moves.append([])
        return len(self._sums) - 1, sympy.S.One

    def _derivatives(self, members: Sequence[_Term]) -> dict[Index, tuple[Any, Any]] | None:
        """Derivatives of the polynomials that are not 0, by their orders."""
        orders = range(MOST_SUMS + 1)
        found: dict[Index, tuple[Any, Any]] = {}
        indices = sorted(product(orders, repeat=len(self._statistics)), key=lambda i: (sum(i), i))
        for index in indices:
            if sum(index) > MOST_SUMS:
                break
            below = [i for i in _lower(index) if i in found]
            if sum(index) and not below:
                continue
            shown = sympy.Add(*(self._derivative(member, index) for member in members))
            term = sympy.expand(shown)
            if term != 0:
                found[index] = (term, shown)
        return None if any(sum(index) == MOST_SUMS for index in found) else found

    def _derivative(self, member: _Term, index: Index) -> Any:
        polynomial = member.polynomial
        for s, order in zip(self._statistics, index, strict=True):
            polynomial = sympy.diff(polynomial, s, order) if order else polynomial
        return sympy.factor_terms(polynomial) * sympy.exp(member.exponent)

    def _move(self, places: dict[Index, tuple[int, Any]], rate: Symbols) -> None:
        scale = self._scale(rate)
        for index, (number, unit) in places.items():
            if unit != 1 or self._moves[number]:
                continue
            row: dict[int, list[Expr]] = {}
            for other, (source, multiple) in places.items():
                step = tuple(b - a for a, b in zip(index, other, strict=True))
                if min(step) < 0:
                    continue
                size = float(multiple) / math.prod(map(math.factorial, step))
                powers = [(self._step(n), k) for n, k in enumerate(step) if k]
                row.setdefault(source, []).append(coefficient(powers, scale, size))
            self._moves[number] = [(source, _total(parts)) for source, parts in row.items()]

    def _scale(self, rate: Symbols) -> int | None:
        if not any(rate):
            return None
        pairs = zip(rate, self._statistics, strict=True)
        moved = sympy.Add(*(c * (_new(s) - s) for c, s in pairs))
        return self._factor(sympy.exp(sympy.factor_terms(moved)))

    def _step(self, number: int) -> int:
        s = self._statistics[number]
        return self._factor(_new(s) - s)

    def _factor(self, factor: Any) -> int:
        return self._factors.setdefault(factor, len(self._factors))

    def form(self) -> Form:
        """The form of all groups.

        Raises:
            ValueError: a function that terms do not have.
        """
        return Form(
            tuple(from_sympy(_readable(shown)) for _, _, shown in self._sums),
            tuple(map(from_sympy, self._factors)),
            tuple(map(tuple, self._moves)),
            tuple(map(from_sympy, self._weights)),
        )


def _lower(index: Index) -> Iterator[Index]:
    for place, order in enumerate(index):
        if order:
            yield (*index[:place], order - 1, *index[place + 1 :])


def _total(parts: Sequence[Expr]) -> Expr:
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


def _new(s: Any) -> Any:
    return sympy.Symbol(s.name + _NEW, real=True)


def _ratio(term: Any, other: Any) -> Any:
    """The number that `term / other` is, or None."""
    first, second = (sympy.Add.make_args(expr) for expr in (term, other))
    if len(first) != len(second):
        return None
    numbers = [
        {rest: number for number, rest in (part.as_coeff_Mul() for part in parts)}
        for parts in (first, second)
    ]
    if numbers[0].keys() != numbers[1].keys():
        return None
    found = {numbers[0][key] / numbers[1][key] for key in numbers[1]}
    return found.pop() if len(found) == 1 else None


def _readable(term: Any) -> Any:
    """Exponentials joined, so that what is subtracted stays beside what it keeps small."""
    return sympy.powsimp(term)
