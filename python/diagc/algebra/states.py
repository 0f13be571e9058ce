"""States of a stream: what each reduction keeps, and the law that corrects it.

Numeric safety. A correction reads the *old* statistic as it was reduced, without the guard that
replaces minus infinity, and the *new* one with its guards: while nothing but minus infinity was
seen, exp(-inf - m') = 0 meets sums that are 0. Where a law does not give 0 there by itself, 0 is
selected. Statistics and corrections with a division or logarithm of something that may be 0 are
refused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diagc.algebra import laws
from diagc.algebra.dataflow import reduced_axes
from diagc.algebra.expressions import (
    Expr,
    equal,
    evaluate,
    select,
    substitute,
    symbol,
    symbols,
)
from diagc.algebra.law_texts import LawTexts
from diagc.algebra.refusal import Refusal
from diagc.algebra.summands import Summands, monoid_of
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["FurtherSums", "State", "derive_state"]


@dataclass(frozen=True)
class State:
    """One reduction as a state of the stream.

    Args:
        op: the reduction.
        scale: factor that corrects the state, or None.
        offset: shift that corrects the state, or None.
        law: what the state is, in one line.
        decays: whether the scale is exp of an old maximum minus the new one, hence at most 1.
        further: the further sums that the state needs to follow a statistic, if any.
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
    """Sums D_1, D_2 ... beside the sum D_0 of a state, which let all of them follow a statistic.

    When the statistic moves by `step`, D_j becomes the sum over k of step^k / k! * D_(j + k), times
    the scale of the state.

    Args:
        operand: the operand of the reduction whose place the terms take.
        terms: what is summed, over elements, captured wires and statistics as they are now.
        step: new statistic minus old.
    """

    operand: int
    terms: tuple[Expr, ...]
    step: Expr


def derive_state(
    op: ir.Operation,
    summands: Summands,
    reductions: Sequence[ir.Operation],
    texts: LawTexts,
) -> State:
    """The state of reduction `op`.

    Args:
        op: one of `reductions`.
        summands: terms of what is reduced.
        reductions: all reductions of the stream, in order.
        texts: how laws are shown.

    Raises:
        Refusal: it uses an earlier reduction in a way that no law corrects.
    """
    summand = summands.of(op)
    used = summands.statistics(summand)
    kind = monoid_of(op)
    if not used:
        return State(op, None, None, texts.line(op, kind))
    if kind not in ("add", "max", "min"):
        raise Refusal(f"no law lets a reduction by '{kind}' follow a statistic", op)
    _require_finite(op, used, summands)
    if len(used) == 1 and (void := _hits(op, used[0], summands, reductions)) is not None:
        raw = substitute(void, {used[0]: summands.raw(used[0])})
        line = f"{texts.line(op, kind)}, void when {texts.statistic(used[0])} changes"
        kept = select(equal(raw, 0.0), 1.0, 0.0)
        lost = select(equal(raw, 0.0), 0.0, diag.MONOIDS[kind].float_identity or 0.0)
        scale, offset = (kept, None) if kind == "add" else (None, lost)
        return State(op, scale, offset, line, compared=used[0])
    ask = laws.scale if kind == "add" else laws.offset
    law = ask(summand, used, summands.varying(op))
    if law is None:
        return _state_with_further_sums(op, summands, reductions, texts)
    _require_applicable(op, law, used, summands, texts)
    line = f"{texts.line(op, kind)}, corrected by {texts.law(law)}"
    law = substitute(law, {name: summands.raw(name) for name in used})
    if kind != "add":
        return State(op, None, law, line)
    decays = _is_decay(law, reductions, summands)
    return State(op, _zero_when_empty(law, reductions), None, line, decays)


def _hits(
    op: ir.Operation, name: str, summands: Summands, reductions: Sequence[ir.Operation]
) -> Expr | None:
    """When hits of an earlier maximum or minimum are void; None if `op` reduces no such hits."""
    extremes = {f"r{n}": r for n, r in enumerate(reductions) if monoid_of(r) in ("max", "min")}
    found = extremes.get(str(summands.raw(name).value)) if not summands.raw(name).args else None
    nothing = diag.MONOIDS[monoid_of(op)].float_identity
    if found is None or nothing is None:
        return None
    return laws.hits(summands.of(op), name, summands.of(found), nothing)


def _state_with_further_sums(
    op: ir.Operation,
    summands: Summands,
    reductions: Sequence[ir.Operation],
    texts: LawTexts,
) -> State:
    """The state of a sum whose summand is a polynomial, times an exponential, in one statistic.

    The statistic must not grow with the row, like a sum divided by the length of all of it: then
    the first chunks would be summed around a number far from them, and the digits be lost.
    """
    factors = summands.factors(op)
    places = [n for n, factor in enumerate(factors) if summands.statistics(factor)]
    used = summands.statistics(summands.of(op))
    found = None
    if monoid_of(op) == "add" and len(places) == 1 and len(used) == 1:
        found = laws.moments(factors[places[0]], used[0], summands.varying(op))
    if found is None or not _is_scale_free(summands.raw(used[0]), reductions):
        word = "factor" if monoid_of(op) == "add" else "shift"
        raise Refusal(
            f"its summand {texts.summand(op)} changes with a statistic by no {word} that is the "
            f"same for all positions",
            op,
        )
    name = found.statistic
    raw = summands.raw(name)
    _require_applicable(op, symbol(name), used, summands, texts)
    guarded = substitute(raw, {r: _guard(r, reductions) for r in symbols(raw) if r[0] == "r"})
    step = symbol(name + laws.NEW) - guarded
    shown = texts.law(symbol(name + laws.NEW) - symbol(name))
    line = f"{texts.line(op, 'add')}, corrected by {len(found.terms)} further sums and {shown}"
    scale = None if found.scale is None else substitute(found.scale, {name: raw})
    decays = scale is not None and _is_decay(scale, reductions, summands)
    scale = None if scale is None else _zero_when_empty(scale, reductions)
    further = FurtherSums(places[0], found.terms, step)
    return State(op, scale, None, line, decays, further)


def _guard(result: str, reductions: Sequence[ir.Operation]) -> Expr:
    """The old result of a reduction, 0 where a maximum or minimum has seen nothing."""
    kind = monoid_of(reductions[int(result[1:])])
    empty = diag.MONOIDS[kind].float_identity
    if kind not in ("max", "min") or empty is None:
        return symbol(result)
    return select(equal(symbol(result), empty), 0.0, symbol(result))


def _is_scale_free(statistic: Expr, reductions: Sequence[ir.Operation]) -> bool:
    """Whether a statistic stays the same when everything that it sums is summed twice."""
    names = sorted(symbols(statistic))
    sums = {n for n in names if n[0] == "r" and monoid_of(reductions[int(n[1:])]) == "add"}
    once = {name: 11.0 + 7.0 * number for number, name in enumerate(names)}
    twice = {name: value * (2.0 if name in sums else 1.0) for name, value in once.items()}
    try:
        return math.isclose(evaluate(statistic, once), evaluate(statistic, twice))
    except ValueError:
        return False


def _is_decay(law: Expr, reductions: Sequence[ir.Operation], summands: Summands) -> bool:
    """Whether a scale is `exp(r - s_new)` with r a running maximum and s the same, guarded."""
    if law.op != "exp" or law.args[0].op != "sub":
        return False
    old, new = (str(arg.value) for arg in law.args[0].args)
    if not (old in summands.wires and new.endswith(laws.NEW)):
        return False
    empty = [-math.inf]  # a guard that also replaces +inf would leave positive differences
    follows = summands.raw(new.removesuffix(laws.NEW), empty) == symbol(old)
    return follows and monoid_of(reductions[int(old[1:])]) == "max"


def _require_finite(op: ir.Operation, used: Sequence[str], summands: Summands) -> None:
    """Statistics must be numbers from the first chunk on."""
    results = [f"r{number}" for number in range(summands.count)]
    if not all(laws.is_safe(summands.raw(name), results) for name in used):
        raise Refusal("a statistic that it uses may be infinite or no number at first", op)


def _require_applicable(
    op: ir.Operation, law: Expr, used: Sequence[str], summands: Summands, texts: LawTexts
) -> None:
    """A correction must be finite, and the same wherever the reduction sums."""
    if not laws.is_safe(law, used):
        raise Refusal(f"its correction {texts.law(law)} divides by a statistic that may be 0", op)
    for name in used:
        if name in symbols(law) and any(summands.varies(name, axis) for axis in reduced_axes(op)):
            raise Refusal("a statistic that it uses varies along another axis that it reduces", op)


def _zero_when_empty(law: Expr, reductions: Sequence[ir.Operation]) -> Expr:
    """`law`, made 0 where an old maximum or minimum shows that nothing was summed yet."""
    for number, op in enumerate(reductions):
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
