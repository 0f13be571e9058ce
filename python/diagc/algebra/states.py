"""States of a stream: what each reduction keeps, and the law that corrects it.

Numeric safety. A correction reads the *old* statistic as it was reduced, without the guard that
replaces minus infinity, and the *new* one with its guards: while nothing but minus infinity was
seen, exp(-inf - m') = 0 meets sums that are 0. Where a law does not give 0 there by itself, 0 is
selected. Statistics and corrections with a division or logarithm of something that may be 0 are
refused.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diagc.algebra import laws
from diagc.algebra.dataflow import reduced_axes
from diagc.algebra.expressions import (
    CONSTANT,
    SYMBOL,
    Expr,
    constant,
    equal,
    evaluate,
    is_zero,
    select,
    substitute,
    symbol,
    symbols,
)
from diagc.algebra.finite_rank import Form, factor_name, mapped
from diagc.algebra.law_texts import LawTexts
from diagc.algebra.refusal import Refusal
from diagc.algebra.replay import replay
from diagc.algebra.summands import Summands, monoid_of
from diagc.algebra.witnesses import pole_witness, rank_witness, shift_witness
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["FurtherSums", "State", "StateDeriver"]


@dataclass(frozen=True)
class State:
    """One reduction as a state of the stream.

    Args:
        op: the reduction.
        scale: factor that corrects the state, or None.
        offset: shift that corrects the state, or None.
        law: what the state is, in one line.
        decays: whether the scale is exp of an old maximum minus the new one, hence at most 1.
        further: the sums that the state is made of, where a factor or shift does not do.
    """

    op: ir.Operation
    scale: Expr | None
    offset: Expr | None
    law: str
    decays: bool = False
    further: "FurtherSums | None" = None
    compared: str | None = None
    """The statistic that elements are compared with, as it is: a guard would hide infinities."""


@dataclass(frozen=True)
class FurtherSums:
    """Sums that together let the sum of a state follow its statistics.

    Args:
        operand: the operand of the reduction whose place the terms take.
        form: the sums; factors read old results `r..` and new statistics, weights statistics.
        decays: for every factor whether it is exp of an old maximum minus the new one.
    """

    operand: int
    form: Form
    decays: tuple[bool, ...]


class StateDeriver:
    """Derives the states of a stream, reduction after reduction.

    Args:
        summands: terms of what is reduced.
        reductions: all reductions of the stream, in order.
        texts: how laws are shown.
    """

    def __init__(
        self, summands: Summands, reductions: Sequence[ir.Operation], texts: LawTexts
    ) -> None:
        self._summands = summands
        self._reductions = reductions
        self._texts = texts
        self._states: list[State] = []
        self.positive = positive_sums(summands, reductions)

    def derive(self) -> tuple[State, ...]:
        """The states.

        Raises:
            Refusal: a reduction uses an earlier one in a way that no law corrects.
        """
        for op in self._reductions:
            self._states.append(self._state(op))
        return tuple(self._states)

    def _state(self, op: ir.Operation) -> State:
        summand = self._summands.of(op)
        used = self._summands.statistics(summand)
        kind = monoid_of(op)
        if not used:
            return State(op, None, None, self._texts.line(op, kind))
        if kind not in ("add", "max", "min"):
            raise Refusal(f"no law lets a reduction by '{kind}' follow a statistic", op)
        self._require_finite(op, used)
        hits = self._hits(op, used) if len(used) == 1 else None
        if hits is not None:
            return hits
        if kind != "add":
            return self._shifted(op, summand, used)
        law = laws.scale(summand, used, self._summands.varying(op))
        if law is None or not laws.is_safe(law, used):
            return self._with_further_sums(op, law)
        self._require_common(op, law, used)
        form = Form((summand,), (law,), (((0, symbol(factor_name(0))),),), (constant(1.0),))
        self._require_digits(op, form)
        scale = self._old_values(law, used)
        line = f"{self._texts.line(op, kind)}, corrected by {self._texts.law(law)}"
        return State(op, self._zero_when_empty(scale), None, line, self._is_decay(scale))

    def _hits(self, op: ir.Operation, used: Sequence[str]) -> State | None:
        """Hits of an earlier maximum or minimum, void when it changes; None if it is not that."""
        (name,) = used
        raw = self._summands.raw(name)
        pairs = enumerate(self._reductions)
        extremes = {f"r{n}": r for n, r in pairs if monoid_of(r) in ("max", "min")}
        found = extremes.get(str(raw.value)) if not raw.args else None
        kind = monoid_of(op)
        nothing = diag.MONOIDS[kind].float_identity
        if found is None or nothing is None:
            return None
        void = laws.hits(self._summands.of(op), name, self._summands.of(found), nothing)
        if void is None:
            return None
        raw_void = substitute(void, {name: raw})
        line = f"{self._texts.line(op, kind)}, void when {self._texts.statistic(name)} changes"
        kept = select(equal(raw_void, 0.0), 1.0, 0.0)
        lost = select(equal(raw_void, 0.0), 0.0, nothing)
        scale, offset = (kept, None) if kind == "add" else (None, lost)
        return State(op, scale, offset, line, compared=name)

    def _shifted(self, op: ir.Operation, summand: Expr, used: Sequence[str]) -> State:
        """A maximum or minimum that moves with a statistic."""
        law = laws.offset(summand, used, self._summands.varying(op))
        if law is None:
            point = shift_witness(summand, used, self._summands.varying(op))
            raise Refusal(f"{self._changes(op)} by no shift that is the same for all {point}", op)
        self._require_safe(op, law, used)
        self._require_common(op, law, used)
        line = f"{self._texts.line(op, monoid_of(op))}, corrected by {self._texts.law(law)}"
        return State(op, None, self._old_values(law, used), line)

    def _changes(self, op: ir.Operation) -> str:
        return f"its summand {self._texts.summand(op)} changes with a statistic"

    # ---- further sums -------------------------------------------------------------------------

    def _with_further_sums(self, op: ir.Operation, law: Expr | None) -> State:
        """The state of a sum whose summand is of finite rank in its statistics.

        A statistic by whose moves sums are corrected must not grow with the row, like a sum divided
        by the length of all of it: then the first chunks would be summed around a number far from
        them, and the digits be lost.
        """
        summands = self._summands
        factors = summands.factors(op)
        used = summands.statistics(summands.of(op))
        places = [n for n, factor in enumerate(factors) if summands.statistics(factor)]
        forms = []
        if len(places) == 1:
            forms = laws.cascade(factors[places[0]], used, summands.varying(op))
        if not forms and law is not None:
            self._require_safe(op, law, used)
        if not forms:
            raise Refusal(f"{self._changes(op)} by no law{self._rank_witness(op, used)}", op)
        refusals: list[Refusal] = []
        for form in forms:
            try:
                return self._state_of_form(op, places[0], form, used)
            except Refusal as refusal:
                refusals.append(refusal)
        raise refusals[0]

    def _rank_witness(self, op: ir.Operation, used: Sequence[str]) -> str:
        phi = self._summands.of(op)
        return rank_witness(phi, used, self._summands.varying(op))

    def _state_of_form(
        self, op: ir.Operation, operand: int, form: Form, used: Sequence[str]
    ) -> State:
        other = [f for n, f in enumerate(self._summands.factors(op)) if n != operand]
        whole = mapped(form, (term * other[0] if other else term for term in form.terms), {})
        moved = {n for n in used if any(n in symbols(factor) for factor in form.factors)}
        weighing = {n for n in used if any(n in symbols(weight) for weight in form.weights)}
        mixed = sum(weight != constant(0.0) for weight in form.weights) > 1
        for name in sorted(moved | (weighing if mixed else set())):
            growth = self._growth(name)
            if growth is not None:
                shown = self._texts.law(symbol(name))
                text = (
                    f"a statistic that it uses, {shown}, grows with the row, so that digits would"
                )
                raise Refusal(f"{text} be lost: {growth}", op)
        for factor in form.factors:
            self._require_safe(op, factor, used)
        for law in (*form.factors, *form.weights):
            self._require_common(op, law, used)
        self._require_digits(op, whole)
        steps = [self._old_values(f, used, guarded=f.op != "exp") for f in form.factors]
        decays = tuple(map(self._is_decay, steps))
        steps = [
            self._zero_when_empty(step) if factor.op == "exp" else step
            for step, factor in zip(steps, form.factors, strict=True)
        ]
        kept = Form(form.terms, tuple(steps), form.moves, form.weights)
        return State(
            op, None, None, self._line(op, form), False, FurtherSums(operand, kept, decays)
        )

    def _line(self, op: ir.Operation, form: Form) -> str:
        """The law in words."""
        line, laws_ = self._texts.line(op, "add"), [self._texts.law(f) for f in form.factors]
        count = len(form.terms) - 1
        if form.is_plain():
            further = f"{count} further sum" + ("" if count == 1 else "s")
            return f"{line}, corrected by {further} and {', '.join(laws_)}"
        weights = [w for w in form.weights if w != constant(0.0)]
        shown = ", ".join(self._texts.law(w) for w in weights)
        moved = f", corrected by {', '.join(laws_)}" if laws_ else ""
        return f"{line}, of {count + 1} sums weighed by {shown}{moved}"

    # ---- what laws must be --------------------------------------------------------------------

    def _require_finite(self, op: ir.Operation, used: Sequence[str]) -> None:
        """Statistics must be numbers from the first chunk on."""
        results = [f"r{number}" for number in range(self._summands.count)]
        for name in used:
            raw = self._summands.raw(name)
            inner = [self._states[int(r[1:])] for r in sorted(symbols(raw) & set(results))]
            for term in (raw, *(weight for state in inner for weight in self._weights(state))):
                if laws.is_safe(term, results, self.positive):
                    continue
                shown = self._texts.law(symbol(name))
                text = f"a statistic that it uses, {shown}, may be infinite or no number at first"
                read = {r: self._texts.result(r) for r in symbols(term) & set(results)}
                raise Refusal(text + pole_witness(term, read, self.positive), op)

    def _weights(self, state: State) -> list[Expr]:
        """By what the sums of a state count in its value, over results."""
        weights = () if state.further is None else state.further.form.weights
        names = {name for weight in weights for name in symbols(weight)}
        raws = {name: self._summands.raw(name) for name in names if name[0] == "s"}
        return [substitute(weight, raws) for weight in weights]

    def _require_safe(self, op: ir.Operation, law: Expr, used: Sequence[str]) -> None:
        """A correction must be finite."""
        if not laws.is_safe(law, used):
            read = {name: self._texts.law(symbol(name)) for name in symbols(law)}
            text = f"its correction {self._texts.law(law)} divides by a statistic that may be 0"
            raise Refusal(text + pole_witness(law, read), op)

    def _require_common(self, op: ir.Operation, law: Expr, used: Sequence[str]) -> None:
        """A correction must be the same wherever the reduction sums."""
        for name in used:
            names = {name, name + laws.NEW}
            varies = any(self._summands.varies(name, axis) for axis in reduced_axes(op))
            if names & symbols(law) and varies:
                text = "a statistic that it uses varies along another axis that it reduces"
                raise Refusal(text, op)

    def _require_digits(self, op: ir.Operation, form: Form) -> None:
        """Numbers: the stream stays in range and keeps digits where the sum itself does."""
        number = self._reductions.index(op)
        failure = replay(form, self._summands.of(op), self._summands, self._reductions, number)
        if failure is not None:
            text = "its correction leaves the range of floats, or loses all digits, before the "
            raise Refusal(f"{text}statistic is final: {failure}", op)

    def _growth(self, name: str) -> str | None:
        """What a statistic becomes when all that it sums is summed twice; None if it stays.

        A plain sum may grow, since rows of numbers then show what that does.
        """
        statistic = self._summands.raw(name)
        names = sorted(symbols(statistic))
        adds = {n for n in names if n[0] == "r" and self._kind(n) == "add"}
        once = {name: 11.0 + 7.0 * number for number, name in enumerate(names)}
        twice = {name: value * (2.0 if name in adds else 1.0) for name, value in once.items()}
        if statistic.op == SYMBOL or self._is_logarithmic(statistic, adds):
            return None
        try:
            before, after = evaluate(statistic, once), evaluate(statistic, twice)
        except ValueError as error:
            return str(error)
        if math.isclose(before, after):
            return None
        return f"{before:.4g} at a point becomes {after:.4g} when all is seen twice"

    def _is_logarithmic(self, statistic: Expr, adds: set[str]) -> bool:
        """Whether sums count in a statistic by their logarithms only: it grows, but slowly."""
        hidden = replace_logarithms(statistic)
        return not symbols(hidden) & adds

    # ---- old and new statistics ---------------------------------------------------------------

    def _kind(self, result: str) -> str:
        return monoid_of(self._reductions[int(result[1:])])

    def _old_values(self, law: Expr, used: Sequence[str], guarded: bool = False) -> Expr:
        """A law over old results; where nothing was seen yet, some are replaced by numbers.

        Those are divisors, and with `guarded` maxima and minima.
        """
        values = {name: self._summands.raw(name) for name in used}
        results = {name for raw in values.values() for name in symbols(raw) if name[0] == "r"}
        guards = {r: g for r in results if (g := self._guard(r, guarded)) is not None}
        return substitute(law, {n: substitute(raw, guards) for n, raw in values.items()})

    def _guard(self, result: str, guarded: bool) -> Expr | None:
        old = symbol(result)
        if result in self.positive:
            return select(equal(old, 0.0), 1.0, old)
        empty = diag.MONOIDS[self._kind(result)].float_identity
        if not guarded or self._kind(result) not in ("max", "min") or empty is None:
            return None
        return select(equal(old, empty), 0.0, old)

    def _is_decay(self, law: Expr) -> bool:
        """Whether a law is `exp(r - s_new)` with r a running maximum and s the same, guarded."""
        if law.op != "exp" or law.args[0].op != "sub":
            return False
        old, new = (str(arg.value) for arg in law.args[0].args)
        if not (old in self._summands.wires and new.endswith(laws.NEW)):
            return False
        empty = [-math.inf]  # a guard that also replaces +inf would leave positive differences
        follows = self._summands.raw(new.removesuffix(laws.NEW), empty) == symbol(old)
        return follows and self._kind(old) == "max"

    def _zero_when_empty(self, law: Expr) -> Expr:
        """`law`, made 0 where an old maximum or minimum shows that nothing was summed yet."""
        for number, op in enumerate(self._reductions):
            name = f"r{number}"
            kind = monoid_of(op)
            if name not in symbols(law) or kind not in ("max", "min"):
                continue
            empty = diag.MONOIDS[kind].float_identity
            assert empty is not None
            if not _vanishes(law, name, empty):
                law = select(equal(symbol(name), empty), 0.0, law)
        return law


_SAMPLES = (-3.7, 0.0, 0.1, 91.0)


def _vanishes(law: Expr, name: str, empty: float) -> bool:
    """Whether a law gives 0 for the identity of an old statistic, whatever the rest is."""
    others = symbols(law) - {name}
    try:
        return all(
            evaluate(law, dict.fromkeys(others, sample) | {name: empty}) == 0.0
            for sample in _SAMPLES
        )
    except ValueError:  # a function of captured wires that is not evaluated here
        return False


def replace_logarithms(expr: Expr) -> Expr:
    """The term with 0 for every logarithm."""
    if expr.op == "log":
        return constant(0.0)
    return Expr(expr.op, tuple(map(replace_logarithms, expr.args)), expr.value)


def positive_sums(summands: Summands, reductions: Sequence[ir.Operation]) -> frozenset[str]:
    """The results `r..` that are sums of positive numbers, and by which something divides.

    That is a statistic or what is summed up later. They are 0 only where nothing was summed yet.
    Logarithms are taken of them, too.
    """
    sums = {
        f"r{number}"
        for number, op in enumerate(reductions)
        if monoid_of(op) == "add"
        and all(map(_is_positive, map(summands.shape, summands.factors(op))))
    }
    later = [summands.of(op) for op in reductions]
    raws = {name: summands.raw(name) for name in list(summands.wires) if name[0] == "s"}
    used = [*raws.values(), *(substitute(term, raws) for term in later)]
    return frozenset(sums & {name for term in used for name in _divisors(term)})


def _is_positive(term: Expr) -> bool:
    """Whether a summand is positive, or 0 where a condition excludes it."""
    if term.op == CONSTANT:
        return float(term.value or 0.0) > 0.0
    if term.op == "select":
        return _is_positive(term.args[1]) and (is_zero(term.args[2]) or _is_positive(term.args[2]))
    return term.op == "exp" or (term.op in ("add", "mul") and all(map(_is_positive, term.args)))


def _divisors(term: Expr) -> Iterator[str]:
    """The symbols that a term divides by or takes logarithms of."""
    place = {"div": 1, "log": 0}.get(term.op)
    if place is not None and term.args[place].op == SYMBOL:
        yield str(term.args[place].value)
    for arg in term.args:
        yield from _divisors(arg)
