"""A stream replayed on hard rows of numbers, before it is believed to keep range and digits.

Laws hold for real numbers. Whether a sum that follows a statistic overflows before the statistic
is large enough, or cancels, is seen by doing it: one element after another, in double precision,
beside the sum with the final statistics. Rows ascend, descend, are large, or lie far from 0 with
small differences. Inputs are random; what maps compute of them is computed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from diagc.algebra import laws
from diagc.algebra.counterexamples import modelled
from diagc.algebra.expressions import Expr, evaluate, symbols
from diagc.algebra.finite_rank import Form, factor_name
from diagc.algebra.summands import Summands, Wire, monoid_of
from diagc.mlir import ir

__all__ = ["Failure", "replay"]

_LENGTH = 6
_PERTURBED = 1.0 + 2.0**-50
_TOLERANCE = 1e-12
_FOLDS: dict[str, Callable[[Sequence[float]], float]] = {
    "add": math.fsum,
    "max": max,
    "min": min,
    "mul": math.prod,
}


@dataclass(frozen=True)
class _Kind:
    """Rows of one kind: `offset + scale * normal`, sorted upwards (1), downwards (-1) or not.

    With `jump` one number is that much larger, at another place in every wire: the later (1) or the
    earlier (-1), the later the wire is drawn.
    """

    scale: float = 1.0
    offset: float = 0.0
    order: int = 0
    jump: float = 0.0

    def row(self, number: int, rng: Random) -> list[float]:
        """The row of drawn wire `number`."""
        row = [self.offset + self.scale * rng.gauss(0.0, 1.0) for _ in range(_LENGTH)]
        if self.order and not self.jump:
            row.sort(reverse=self.order < 0)
        row[2 * number * self.order % _LENGTH] += self.jump
        return row


_KINDS = (
    _Kind(),
    _Kind(30.0),
    _Kind(3e3, order=1),
    _Kind(3e3, order=-1),
    _Kind(3e3),
    *(_Kind(offset=offset) for offset in (1e5, -1e5)),
    *(_Kind(order=order, jump=jump) for order in (1, -1) for jump in (3e3, -3e3)),
)


@dataclass(frozen=True)
class Failure:
    """A row on which the streamed sum is wrong.

    Args:
        row: the numbers of the first element's wire, in order.
        expected: the sum with the final statistics.
        found: the streamed sum.
    """

    row: tuple[float, ...]
    expected: float
    found: float

    def __str__(self) -> str:
        """The row and both sums."""
        row = ", ".join(f"{x:.6g}" for x in self.row)
        return f"on the row [{row}] the sum is {self.expected:.6g}, streamed {self.found:.6g}"


@dataclass(frozen=True)
class _Question:
    """All that is replayed, without IR, so that equal streams are replayed once.

    Args:
        form: the sums.
        phi: the summand.
        earlier: kind and term of every earlier reduction.
        raws: every statistic over results `r0` ... of the earlier reductions.
        wires: what the symbols of all these terms, and those of definitions, stand for.
    """

    form: Form
    phi: Expr
    earlier: tuple[tuple[str, Expr], ...]
    raws: tuple[tuple[str, Expr], ...]
    wires: tuple[tuple[str, Wire], ...]


def replay(
    form: Form,
    phi: Expr,
    summands: Summands,
    reductions: Sequence[ir.Operation],
    number: int,
) -> Failure | None:
    """Whether a form gives what the sum of its summand gives; None when it does.

    Args:
        form: the form, over elements and statistics by their names in `summands`.
        phi: the summand.
        summands: terms of the reductions.
        reductions: all reductions of the stream, in order.
        number: which of them sums `phi`.
    """
    earlier = tuple((monoid_of(op), modelled(summands.of(op))) for op in reductions[:number])
    terms = [*form.terms, *form.factors, *form.weights, phi, *(term for _, term in earlier)]
    names = {name for term in terms for name in symbols(term)}
    raws = {
        name: modelled(summands.raw(name))
        for name in sorted(names)
        if name in summands.wires and name[0] == "s"
    }
    names |= {name for raw in raws.values() for name in symbols(raw)}
    wires = summands.definitions(sorted(n for n in names if n[0] in "xc" and n in summands.wires))
    kept = Form(tuple(map(modelled, form.terms)), form.factors, form.moves, form.weights)
    return _answer(
        _Question(kept, modelled(phi), earlier, tuple(raws.items()), tuple(wires.items()))
    )


@cache
def _answer(question: _Question) -> Failure | None:
    for kind in _KINDS:
        failure = _Replay(question, _Rows(question.wires, kind)).run()
        if failure is not None:
            return failure
    return None


class _Rows:
    """Numbers of wires at every position; those that no map computes are drawn."""

    def __init__(self, wires: Sequence[tuple[str, Wire]], kind: _Kind) -> None:
        self._wires = dict(wires)
        self._rows: dict[str, list[float]] = {}
        rng = Random(repr(kind))
        drawn = [(name, wire) for name, wire in wires if wire.definition is None]
        for number, (name, wire) in enumerate(drawn):
            row = kind.row(number, rng) if wire.is_float else [1.0] * _LENGTH
            self._rows[name] = row if wire.varies else row[:1] * _LENGTH

    def number(self, name: str, position: int) -> float:
        """The number of a symbol at a position."""
        if name not in self._rows:
            self._rows[name] = [self._computed(name, place) for place in range(_LENGTH)]
        return self._rows[name][position]

    def _computed(self, name: str, position: int) -> float:
        term = self._wires[name].definition
        assert term is not None
        return evaluate(modelled(term), {n: self.number(n, position) for n in symbols(term)})


class _Replay:
    def __init__(self, question: _Question, rows: _Rows) -> None:
        self._form = question.form
        self._phi = question.phi
        self._earlier = question.earlier
        self._raws = dict(question.raws)
        self._rows = rows

    def run(self) -> Failure | None:
        final = self._statistics(_LENGTH)
        terms = [self._at(self._phi, place, final) for place in range(_LENGTH)]
        expected, size = sum(terms), sum(map(abs, terms))
        if not math.isfinite(size):
            return None  # the sum itself is out of range
        moved = sum(self._rounding(place, final, term) for place, term in enumerate(terms))
        found = self._streamed()
        margin = _TOLERANCE * size + 64.0 * (moved if math.isfinite(moved) else 0.0)
        if abs(found - expected) <= margin + 1e-300:
            return None
        return Failure(self._row(), expected, found)

    def _rounding(self, place: int, final: Mapping[str, float], term: float) -> float:
        """What a change in the last digits of statistics, and of elements, makes of a term."""
        near = {name: value * _PERTURBED for name, value in final.items()}
        elements = {n: self._rows.number(n, place) for n in symbols(self._phi) - final.keys()}
        moved = {n: x * _PERTURBED if n[0] == "x" else x for n, x in elements.items()}
        first = evaluate(self._phi, {**elements, **near})
        second = evaluate(self._phi, {**moved, **final})
        return abs(first - term) + abs(second - term)

    def _row(self) -> tuple[float, ...]:
        """Some element, for people."""
        terms = (self._phi, *(term for _, term in self._earlier))
        names = sorted({n for term in terms for n in symbols(term) if n[0] == "x"})
        return tuple(self._rows.number(names[0], k) for k in range(_LENGTH)) if names else ()

    def _streamed(self) -> float:
        """The value of the form after one element after another."""
        sums = [0.0] * len(self._form.terms)
        old: Mapping[str, float] = {}
        for place in range(_LENGTH):
            new = self._statistics(place + 1)
            if place:
                sums = self._moved(sums, old, new)
            chunk = (self._at(term, place, new) for term in self._form.terms)
            sums = [a + b for a, b in zip(sums, chunk, strict=True)]
            old = new
        weights = [self._at(weight, 0, old) for weight in self._form.weights]
        return sum(w * d for w, d in zip(weights, sums, strict=True) if w != 0.0)

    def _moved(
        self, sums: Sequence[float], old: Mapping[str, float], new: Mapping[str, float]
    ) -> list[float]:
        both = {**old, **{name + laws.NEW: value for name, value in new.items()}}
        factors = {
            factor_name(k): self._at(factor, 0, both) for k, factor in enumerate(self._form.factors)
        }
        return [
            sum(evaluate(coefficient, factors) * sums[source] for source, coefficient in row)
            for row in self._form.moves
        ]

    def _at(self, term: Expr, place: int, statistics: Mapping[str, float]) -> float:
        free = symbols(term) - statistics.keys()
        return evaluate(term, {**statistics, **{n: self._rows.number(n, place) for n in free}})

    def _statistics(self, count: int) -> dict[str, float]:
        """The statistics of the first elements."""
        results: dict[str, float] = {}
        found: dict[str, float] = {}
        for number, (kind, term) in enumerate(self._earlier):
            self._extend(found, results, term)
            numbers = [self._at(term, place, found) for place in range(count)]
            safe = all(map(math.isfinite, numbers)) or kind in ("max", "min")
            results[f"r{number}"] = _FOLDS[kind](numbers) if safe else math.nan
        self._extend(found, results, self._phi)
        return {name: found[name] for name in symbols(self._phi) & self._raws.keys()}

    def _extend(self, found: dict[str, float], results: Mapping[str, float], term: Expr) -> None:
        """Add the statistics of a term."""
        for name in symbols(term) & self._raws.keys() - found.keys():
            found[name] = self._at(self._raws[name], 0, results)
