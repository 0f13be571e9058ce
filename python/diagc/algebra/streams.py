"""The derivation engine: from reductions over one axis to the parts of a stream.

Given an axis and some reductions over it (`diag.reduce`, `diag.contract`), `derive` finds

- what the body computes: the producers of the reduced wires that are woven over the axis, and the
  axis-free maps through which a later reduction uses an earlier one;
- one state per reduction, updated by `state * r + chunk` (or `max(state + d, chunk)`), where the
  correction r or d follows the statistics that the summand uses (module `laws`).

No reduction is known by name: softmax attention comes out as a maximum, a sum corrected by
exp(m - m'), and a contraction corrected by the same factor.

Numeric safety. A correction reads the *old* statistic as it was reduced, without the guard that
replaces minus infinity, and the *new* one with its guards: while nothing but minus infinity was
seen, exp(-inf - m') = 0 meets sums that are 0. Where a law does not give 0 there by itself, 0 is
selected. A summand that reads a maximum or minimum without a guard gets one: until something above
minus infinity was seen, 0 is subtracted. Statistics and corrections with a division or logarithm of
something that may be 0 are refused.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from diagc.algebra import laws
from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.expressions import (
    Expr,
    equal,
    evaluate,
    select,
    substitute,
    symbol,
    symbols,
)
from diagc.algebra.graph import Graph
from diagc.algebra.law_texts import LawTexts
from diagc.algebra.refusal import Refusal
from diagc.algebra.summands import Summands, monoid_of, without_guards
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Derivation", "State", "derive", "monoid_of"]


@dataclass(frozen=True)
class State:
    """One reduction as a state of the stream.

    Args:
        op: the reduction.
        scale: factor that corrects the state, or None.
        offset: shift that corrects the state, or None.
        law: what the state is, in one line.
        decays: whether the scale is exp of an old maximum minus the new one, hence at most 1.
    """

    op: ir.Operation
    scale: Expr | None
    offset: Expr | None
    law: str
    decays: bool = False


@dataclass(frozen=True)
class Derivation:
    """A stream that computes `states`.

    Args:
        axis: the streamed axis.
        states: one per reduction, in order.
        body: the reductions and the ops that the body repeats, in order.
        wires: what corrections read: old states `r0`..., captured wires `c0`..., and statistics
            `s0`... as the body computes them from the new states (with the suffix `laws.NEW`).
        guarded: reductions that the body's later ops read as 0 while they are infinite.
    """

    axis: str
    states: tuple[State, ...]
    body: tuple[ir.Operation, ...]
    wires: Mapping[str, ir.Value]
    guarded: frozenset[ir.Operation]


def derive(
    graph: Graph,
    axis: str,
    reductions: Sequence[ir.Operation],
    absorbed: Collection[ir.Operation] = (),
) -> Derivation:
    """Derive the stream over `axis` that computes `reductions`.

    Args:
        graph: the block.
        axis: the axis to stream; every reduction reduces it.
        reductions: in the order of the block.
        absorbed: ops, independent of the reductions, that the body shall compute chunk by chunk.

    Raises:
        Refusal: a law does not hold, or a dependence cannot be followed.
    """
    body = _body(graph, axis, reductions, absorbed)
    dependent = graph.after(reductions) & body.keys()
    summands = Summands(graph, axis, reductions, dependent - set(reductions))
    texts = LawTexts(axis, reductions, body, summands)
    states = tuple(_state(op, summands, reductions, texts) for op in reductions)
    guarded = _unguarded(reductions, summands)
    return Derivation(axis, states, tuple(graph.in_order(body)), summands.wires, guarded)


# ---- the body -----------------------------------------------------------------------------------


def _body(
    graph: Graph,
    axis: str,
    reductions: Sequence[ir.Operation],
    absorbed: Collection[ir.Operation],
) -> dict[ir.Operation, None]:
    """The reductions and all ops that are repeated for each chunk."""
    later = graph.after(reductions)
    body: dict[ir.Operation, None] = dict.fromkeys(reductions)
    stack = [value for op in reductions for value in graph.reads[op]]
    while stack:
        value = stack.pop()
        op = defining_op(value)
        if op is None or op in body:
            continue
        if op in later:
            _require_followable(graph, op, axis)
        elif op not in absorbed or not graph.carries(value, axis):
            continue
        body[op] = None
        stack.extend(graph.reads[op])
    return body


def _require_followable(graph: Graph, op: ir.Operation, axis: str) -> None:
    """A dependence is followed through maps, and through linear ops woven over the axis."""
    if op.name == "diag.map":
        return
    woven = len(op.results) == 1 and graph.carries(op.results[0], axis)
    if woven and op.name == "diag.relabel" and axis not in diag.strings(op.attributes["to"]):
        return
    if woven and op.name in ("diag.contract", "diag.reduce") and monoid_of(op) == "add":
        return
    raise Refusal(f"an earlier reduction is used through '{op.name}'", op, by_law=False)


# ---- states -------------------------------------------------------------------------------------


def _state(
    op: ir.Operation,
    summands: Summands,
    reductions: Sequence[ir.Operation],
    texts: LawTexts,
) -> State:
    summand = without_guards(summands.of(op))
    used = summands.statistics(summand)
    kind = monoid_of(op)
    if not used:
        return State(op, None, None, texts.line(op, kind, None))
    law = _law(op, kind, summand, used, summands, texts)
    line = texts.line(op, kind, law)
    law = substitute(law, {name: summands.raw(name) for name in used})
    if kind != "add":
        return State(op, None, law, line)
    decays = _is_decay(law, reductions, summands)
    return State(op, _zero_when_empty(law, reductions), None, line, decays)


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


def _law(
    op: ir.Operation,
    kind: str,
    summand: Expr,
    used: Sequence[str],
    summands: Summands,
    texts: LawTexts,
) -> Expr:
    """The correction of a reduction whose summand uses statistics."""
    if kind not in ("add", "max", "min"):
        raise Refusal(f"no law lets a reduction by '{kind}' follow a statistic", op)
    ask = laws.scale if kind == "add" else laws.offset
    law = ask(summand, used, summands.varying(op))
    raw = [summands.raw(name) for name in used]
    results = [f"r{number}" for number in range(summands.count)]
    if not all(laws.is_safe(statistic, results) for statistic in raw):
        raise Refusal("a statistic that it uses may be infinite or no number at first", op)
    if law is None:
        word = "factor" if kind == "add" else "shift"
        raise Refusal(
            f"its summand {texts.summand(op)} changes with a statistic by no {word} that is the "
            f"same for all positions",
            op,
        )
    if not laws.is_safe(law, used):
        raise Refusal(f"its correction {texts.law(law)} divides by a statistic that may be 0", op)
    for name in used:
        if name in symbols(law) and any(summands.varies(name, axis) for axis in reduced_axes(op)):
            raise Refusal("a statistic that it uses varies along another axis that it reduces", op)
    return law


def _unguarded(reductions: Sequence[ir.Operation], summands: Summands) -> frozenset[ir.Operation]:
    """Maxima and minima that some statistic reads without a guard against infinity."""
    used = [name for name in summands.wires if name[0] == "s"]
    read = {result for name in used for result in symbols(summands.outside_guards(name))}
    return frozenset(
        op
        for number, op in enumerate(reductions)
        if f"r{number}" in read and monoid_of(op) in ("max", "min")
    )


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
