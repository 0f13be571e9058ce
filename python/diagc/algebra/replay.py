"""A stream replayed on hard rows of numbers, before it is believed to keep range and digits.

Laws hold for real numbers. Whether a sum that follows a statistic overflows before the statistic
is large enough, or cancels, is seen by doing it: one element after another, in double precision,
beside the sum with the final statistics. Rows ascend, descend, are large, or lie far from 0 with
small differences. Inputs are random; what maps compute of them is computed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from diagc.algebra import laws
from diagc.algebra.counterexamples import modelled
from diagc.algebra.dataflow import defining_op
from diagc.algebra.expressions import Expr, evaluate, symbol, symbols
from diagc.algebra.finite_rank import Form, factor_name
from diagc.algebra.scalars import read_map
from diagc.algebra.summands import Summands, monoid_of
from diagc.dialects import diag
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
    """Rows of one kind: `offset + scale * normal`, sorted upwards (1), downwards (-1) or not."""

    scale: float
    offset: float = 0.0
    order: int = 0


_KINDS = (
    _Kind(1.0),
    _Kind(30.0),
    _Kind(3e3, order=1),
    _Kind(3e3, order=-1),
    _Kind(3e3),
    _Kind(1.0, 1e5),
    _Kind(1.0, -1e5),
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
    for kind in _KINDS:
        rows = _Rows(summands, kind)
        failure = _Replay(form, phi, summands, reductions[:number], rows).run()
        if failure is not None:
            return failure
    return None


class _Rows:
    """Numbers of wires at every position, drawn when they are asked for."""

    def __init__(self, summands: Summands, kind: _Kind) -> None:
        self._wires = summands.wires
        self._kind = kind
        self._random = Random(repr(kind))
        self._known: dict[tuple[ir.Value, int], float] = {}
        self._names: dict[ir.Value, str] = {}
        self._terms: dict[ir.Value, Expr | None] = {}

    def number(self, name: str, position: int) -> float:
        """The number of a symbol `x..` or `c..` at a position."""
        return self._number(self._wires[name], position if name[0] == "x" else 0)

    def _number(self, value: ir.Value, position: int) -> float:
        if (value, position) not in self._known:
            term = self._term(value)
            if term is None:
                self._draw(value)
            else:
                reads = {n: v for v, n in self._names.items() if n in symbols(term)}
                numbers = {n: self._number(v, position) for n, v in reads.items()}
                self._known[value, position] = evaluate(term, numbers)
        return self._known[value, position]

    def _term(self, value: ir.Value) -> Expr | None:
        """What a map computes, over names of the wires that it reads."""
        if value not in self._terms:
            op = defining_op(value)
            maps = op is not None and op.name == "diag.map" and value not in self._blocked()
            self._terms[value] = modelled(read_map(op, self._name)) if op and maps else None
        return self._terms[value]

    def _blocked(self) -> set[ir.Value]:
        return {wire for name, wire in self._wires.items() if name[0] in "rs"}

    def _name(self, value: ir.Value) -> Expr:
        return symbol(self._names.setdefault(value, f"w{len(self._names)}"))

    def _draw(self, value: ir.Value) -> None:
        """A number for every position; conditions hold."""
        kind, rng = self._kind, self._random
        if not diag.is_float(diag.element_type(value)):
            row = [1.0] * _LENGTH
        else:
            row = [kind.offset + kind.scale * rng.gauss(0.0, 1.0) for _ in range(_LENGTH)]
            row = sorted(row, reverse=kind.order < 0) if kind.order else row
        self._known.update({(value, place): x for place, x in enumerate(row)})


class _Replay:
    def __init__(
        self,
        form: Form,
        phi: Expr,
        summands: Summands,
        earlier: Sequence[ir.Operation],
        rows: _Rows,
    ) -> None:
        self._form = form
        self._terms = tuple(map(modelled, form.terms))
        self._phi = modelled(phi)
        self._summands = summands
        self._rows = rows
        self._earlier = [(monoid_of(op), modelled(summands.of(op))) for op in earlier]
        self._used = summands.statistics(phi)

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
        sums = [0.0] * len(self._terms)
        old: Mapping[str, float] = {}
        for place in range(_LENGTH):
            new = self._statistics(place + 1)
            if place:
                sums = self._moved(sums, old, new)
            chunk = (self._at(term, place, new) for term in self._terms)
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
            self._extend(found, results, self._summands.statistics(term))
            numbers = [self._at(term, place, found) for place in range(count)]
            safe = all(map(math.isfinite, numbers)) or kind in ("max", "min")
            results[f"r{number}"] = _FOLDS[kind](numbers) if safe else math.nan
        self._extend(found, results, self._used)
        return {name: found[name] for name in self._used}

    def _extend(
        self, found: dict[str, float], results: Mapping[str, float], names: Sequence[str]
    ) -> None:
        for name in names:
            if name not in found:
                raw = modelled(self._summands.raw(name))
                found[name] = self._at(raw, 0, results)
