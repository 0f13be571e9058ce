"""The derivation engine: from reductions over one axis to the parts of a stream.

Given an axis and some reductions over it (`diag.reduce`, `diag.contract`), `derive` finds

- what the body computes: the producers of the reduced wires that are woven over the axis, and the
  axis-free maps through which a later reduction uses an earlier one;
- one state per reduction, updated by `state * r + chunk` (or `max(state + d, chunk)`), where the
  correction r or d follows the statistics that the summand uses (module `laws`); further sums
  beside it where the summand is a polynomial in a statistic, such as a variance around the mean.

No reduction is known by name: softmax attention comes out as a maximum, a sum corrected by
exp(m - m'), and a contraction corrected by the same factor.

Numeric safety is in `states`; here, a summand that reads a maximum or minimum without a guard gets
one: until something above minus infinity was seen, 0 is subtracted.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from diagc.algebra.dataflow import defining_op
from diagc.algebra.expressions import symbols
from diagc.algebra.graph import Graph
from diagc.algebra.law_texts import LawTexts
from diagc.algebra.refusal import Refusal
from diagc.algebra.states import FurtherSums, State, StateDeriver
from diagc.algebra.summands import Summands, monoid_of
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Derivation", "FurtherSums", "State", "derive"]


@dataclass(frozen=True)
class Derivation:
    """A stream that computes `states`.

    Args:
        axis: the streamed axis.
        states: one per reduction, in order.
        body: the reductions and the ops that the body repeats, in order.
        wires: what corrections read: old states `r0`..., captured wires `c0`..., and statistics
            `s0`... as the body computes them from the new states (with the suffix `laws.NEW`).
        guarded: reductions that the body's later ops read as another number while nothing was
            seen: from the reduction to what it is then, and what is read instead.
    """

    axis: str
    states: tuple[State, ...]
    body: tuple[ir.Operation, ...]
    wires: Mapping[str, ir.Value]
    guarded: Mapping[ir.Operation, tuple[float, float]]


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
    for op in reductions:  # names all wires
        summands.of(op)
    deriver = StateDeriver(summands, reductions, texts)
    states = deriver.derive()
    compared = {state.compared for state in states if state.compared is not None}
    guarded = _unguarded(reductions, summands, deriver.positive, compared)
    for state in states:
        if (
            state.compared is not None
            and _results(state.compared, summands, reductions) & guarded.keys()
        ):
            why = "it compares with a maximum that others read as 0 while that is infinite"
            raise Refusal(why, state.op)
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


def _results(
    name: str, summands: Summands, reductions: Sequence[ir.Operation]
) -> frozenset[ir.Operation]:
    """The reductions that a statistic is computed from."""
    read = symbols(summands.raw(name))
    return frozenset(op for number, op in enumerate(reductions) if f"r{number}" in read)


def _unguarded(
    reductions: Sequence[ir.Operation],
    summands: Summands,
    positive: Collection[str],
    compared: Collection[str],
) -> dict[ir.Operation, tuple[float, float]]:
    """Maxima and minima that some statistic reads without a guard, and divisors.

    Statistics that elements are only `compared` with need none.
    """
    used = [name for name in summands.wires if name[0] == "s" and name not in compared]
    read = {result for name in used for result in symbols(summands.outside_guards(name))}
    found = {}
    for number, op in enumerate(reductions):
        empty = diag.MONOIDS[monoid_of(op)].float_identity
        if f"r{number}" in positive:
            found[op] = (0.0, 1.0)
        elif f"r{number}" in read and monoid_of(op) in ("max", "min") and empty is not None:
            found[op] = (empty, 0.0)
    return found
