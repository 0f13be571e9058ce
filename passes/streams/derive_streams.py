"""Turn groups of reductions over one axis, and what feeds them, into a `diag.stream`.

Before (softmax attention, after fuse-normalization):

    %s = "diag.contract"(%q, %k) {over = ["d"]}
    %m = "diag.reduce"(%s) {over = ["x"], kind = "max"}
    %c = "diag.map"() ({ select(m == -inf, 0, m) })
    %e = "diag.map"() ({ exp(s - c) })
    %z = "diag.reduce"(%e) {over = ["x"], kind = "add"}
    %o = "diag.contract"(%e, %v) {over = ["x"]}
    %y = "diag.map"() ({ select(z == 0, 0, 1 / z) * o })

After:

    %y = "diag.stream"() {axis = "x", law = [...], properties = ["monoid", "commutative"]}
      init:     m = -inf, z = 0, o = 0
      body:     s  = contract(q, chunk k),  m' = map max(m, reduce max s),  c = map guard m'
                e  = map exp(s - c),        f  = map exp(m - c)
                z' = map z * f + reduce add e
                o' = map o * f + contract(e, chunk v)
      combine:  the same for two states
      tail:     y = map select(z == 0, 0, 1 / z) * o

Requires: reductions whose summands use earlier ones only through maps, in a way that a law of
`algebra/laws.py` corrects. Run on functions. The tail takes over maps that read nothing but states.
An axis counts as long when it is dynamic or above option `limit`; option `axes` names those that
may be streamed.

Declines: a short axis over which nothing is contracted; a product alone, unless its result is small
and of a wider type than its operands, which the library would copy; a correction that depends on
the position (but for few further sums, such as those of a variance around a running mean),
divides by a statistic, or follows a product; a contraction whose state is too wide for one task, or
that multiplies by parameters (a linear layer) and is neither long nor blocked; large products
that only large products read; more than 8 results. What a law forbids is a remark:
an entry in the function's `diag.remarks`, and the attribute `diag.declined` of the reduction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from diagc.algebra.graph import Graph
from diagc.algebra.streams import Derivation
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.remarks import counted, declined, done
from diagc.passes.replacing import replace_ops, unneeded
from diagc.passes.scales.nonpositive import mark_nonpositive
from diagc.passes.streams.absorption import GRADIENT
from diagc.passes.streams.emissions import emissions
from diagc.passes.streams.stream_builder import MAX_RESULTS, build_stream
from diagc.passes.streams.stream_groups import Note, axes_by_state, derivation, groups

__all__ = ["DeriveStreamsPass", "put_stream"]


@dataclass(frozen=True)
class DeriveStreamsPass(Pass):
    """Turn groups of reductions over one axis, and what feeds them, into a diag.stream."""

    name: ClassVar[str] = "derive-streams"
    limit: int = 4096
    axes: tuple[str, ...] = ()
    emits: int = 0
    """Tasks from which on a stream gives products of its chunks; 0: never, the target cannot."""

    def run(self, op: ir.Operation) -> None:
        """Stream every axis of every block of the function (`axes` restricts them)."""
        for block in op.regions[0].blocks:
            graph = Graph(block)
            mark_nonpositive(graph)
            if self.emits and GRADIENT in op.attributes:
                for axis in self.axes or axes_by_state(graph):
                    graph = _stream_with_emissions(op, graph, axis, self.limit, self.emits)
            for axis in self.axes or axes_by_state(graph):
                graph = _stream_axis(op, graph, axis, self.limit)


def _stream_with_emissions(
    function: ir.Operation, graph: Graph, axis: str, limit: int, tasks: int
) -> Graph:
    """Stream `axis` where the stream also gives products that another one would compute."""
    for group in groups(graph, axis, limit, []):
        derived = derivation(graph, axis, group.reductions, [])
        emitted = [] if derived is None else emissions(graph, derived, tasks)
        if derived is not None and emitted:
            graph = put_stream(function, graph, derived, emitted)
            break  # the ops of other groups may have other hashes; they come in the usual pass
    return graph


def _stream_axis(function: ir.Operation, graph: Graph, axis: str, limit: int) -> Graph:
    """Stream `axis` where it is worth it; gives the graph of the block after that."""
    notes: list[Note] = []
    chosen = groups(graph, axis, limit, notes)
    erased = {op for group in chosen for op in group.reductions}
    for note in notes:
        declined(function, note.op, note.text, stays=note.op not in erased)
    if notes:  # an op with a remark has another hash
        graph = Graph(graph.block)
    for group in chosen:
        derived = derivation(graph, axis, group.reductions, [])
        if derived is not None:
            graph = put_stream(function, graph, derived)
    return graph


# ---- rewriting ----------------------------------------------------------------------------------


def put_stream(
    function: ir.Operation,
    graph: Graph,
    derived: Derivation,
    emitted: Sequence[ir.Operation] = (),
    mark: str | None = None,
) -> Graph:
    """Put the stream in the place of the ops that it computes; gives the new graph.

    Args:
        function: that gets remarks.
        graph: of its block, not changed since.
        derived: the stream.
        emitted: products that it gives chunk by chunk.
        mark: name of an attribute that it gets.
    """
    reductions = [state.op for state in derived.states]
    tail = _tail(graph, derived)
    gone = unneeded(graph, [*reductions, *tail, *emitted], derived.body)
    results = [
        result
        for op in graph.in_order([*reductions, *tail])
        for result in op.results
        if any(user not in gone for user in graph.users(result))
    ]
    if not results:  # dead ops: canonicalize-diag erases them
        return graph
    count = len(results) + len(emitted)
    if count > MAX_RESULTS:
        text = f'axis "{derived.axis}" is not streamed: it would give {count} results'
        text = f"{text}, at most {MAX_RESULTS} are possible"
        declined(function, reductions[-1], text, stays=False)
        return graph
    needed = _needed(graph, tail, results)
    done(reductions[-1], _told(derived, len(emitted)))
    given = [*results, *(op.results[0] for op in emitted)]
    places = [graph.position[op] for op in (*reductions, *emitted)]
    ops = [graph.ops[place] for place in sorted(places)]

    def build() -> Sequence[ir.Value]:
        made = build_stream(derived, graph, needed, results, emitted=emitted)
        if mark is not None:
            made.attributes[mark] = ir.UnitAttr.get()
        return list(made.results)

    return replace_ops(graph, ops, gone, given, build)


def _told(derived: Derivation, emitted: int = 0) -> str:
    """What a stream computes in one pass, for people."""
    feeding = len([op for op in derived.body if op.name in ("diag.map", "diag.contract")])
    states = counted(len(derived.states), "reduction")
    more = f"; it gives {counted(emitted, 'product')} of each chunk" if emitted else ""
    return (
        f'one pass over axis "{derived.axis}" computes {states} and {counted(feeding, "op")} '
        f"that feed them, chunk by chunk: no wire with that axis is stored between them{more}"
    )


def _tail(graph: Graph, derived: Derivation) -> list[ir.Operation]:
    """Maps that read nothing but states or each other, in order."""
    known = {result for state in derived.states for result in state.op.results}
    found: list[ir.Operation] = []
    for op in graph.in_order(graph.after([state.op for state in derived.states])):
        reads = [value for value in graph.reads[op] if diag.is_wire(value.type)]
        if op.name != "diag.map" or any(value not in known for value in reads):
            continue
        if diag.join_dims(map(diag.dims, reads)).keys() == diag.dims(op.results[0]).keys():
            found.append(op)
            known.add(op.results[0])
    return found


def _needed(
    graph: Graph, tail: Sequence[ir.Operation], results: Sequence[ir.Value]
) -> list[ir.Operation]:
    """The ops of the tail that results depend on, in order."""
    wanted = set(results)
    found: list[ir.Operation] = []
    for op in reversed(tail):
        if op.results[0] in wanted:
            found.append(op)
            wanted.update(graph.reads[op])
    return found[::-1]
