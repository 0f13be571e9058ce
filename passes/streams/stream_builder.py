"""Builds `diag.stream` from a derivation: init, body, combine and tail, and the ops it replaces."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from diagc.algebra import laws
from diagc.algebra.dataflow import carries, reduced_axes
from diagc.algebra.expressions import Expr, equal, select, symbol, symbols
from diagc.algebra.graph import Graph
from diagc.algebra.maps import cast, convert, full, map_expr, statistic_type
from diagc.algebra.streams import Derivation, FurtherSums, State
from diagc.algebra.summands import monoid_of
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.canonical.canonical_maps import CHUNKED
from diagc.passes.cloning import clone
from diagc.passes.scales.nonpositive import NONPOSITIVE
from diagc.passes.streams.further_sums import Part, add_parts, sum_dims, sum_term, weighed

__all__ = ["MAX_RESULTS", "build_stream"]

MAX_RESULTS = diag.STREAM_RESULTS

Values = dict[ir.Value, ir.Value]


def build_stream(
    derivation: Derivation,
    graph: Graph,
    tail: Sequence[ir.Operation],
    results: Sequence[ir.Value],
    where: ir.Value | None = None,
    emitted: Sequence[ir.Operation] = (),
) -> ir.Operation:
    """Emit the stream at the insertion point.

    Args:
        derivation: what the body computes.
        graph: the block.
        tail: ops that the tail computes from the states, in order.
        results: values (of reductions or of `tail`) that the stream gives.
        where: an i1 wire that says where the results are wanted; everywhere by default.
        emitted: products that the body gives chunk by chunk, as further results.
    """
    builder = _Builder(derivation, graph, tail, results, emitted)
    law = [state.law for state in derivation.states]
    made = diag.stream(
        derivation.axis,
        builder.init,
        builder.body,
        builder.tail,
        combine=builder.combine,
        where=where,
        law=law,
        properties=["monoid", "commutative"],
        size=next((diag.dims(op.results[0])[derivation.axis] for op in emitted), diag.DYNAMIC),
    )
    return made[0].owner.operation


def _state_type(op: ir.Operation) -> ir.Type:
    """Element type of a state: that of statistics for sums and products, else that of the op."""
    element = diag.element_type(op.results[0])
    sums = monoid_of(op) in ("add", "mul") and diag.is_float(element)
    if op.name == "diag.contract":
        wide = any(isinstance(diag.element_type(o), ir.F64Type) for o in op.operands)
        return ir.F64Type.get() if wide else ir.F32Type.get()
    return statistic_type(element) if sums else element


class _Builder:
    def __init__(
        self,
        derivation: Derivation,
        graph: Graph,
        tail: Sequence[ir.Operation],
        results: Sequence[ir.Value],
        emitted: Sequence[ir.Operation],
    ) -> None:
        self._derivation, self._emitted = derivation, emitted
        self._axis = derivation.axis
        self._graph = graph
        self._tail = tail
        self._results = results
        self._states = {state.op: state for state in derivation.states}
        counts = [_count(state) for state in derivation.states]
        starts = list(accumulate(counts, initial=0))
        self._count = starts[-1]
        self._place = dict(zip(self._states, starts, strict=False))
        depends = graph.after(self._states)
        self._statistics = [
            op
            for op in derivation.body
            if op not in self._states
            and op in depends
            and not graph.carries(op.results[0], self._axis)
        ]

    # ---- the four regions ---------------------------------------------------------------------

    def init(self) -> list[ir.Value]:
        """The identity of every state."""
        return [value for state in self._derivation.states for value in self._identities(state)]

    def _identities(self, state: State) -> list[ir.Value]:
        op, type_ = state.op, _state_type(state.op)
        value = diag.identity_attr(monoid_of(op), type_)
        with op.location:
            if not isinstance(value, ir.FloatAttr):
                dims = diag.dims(op.results[0])
                return [diag.map_([], lambda: _constant(value), result=dims, dtype=type_)]
            own = [full(value.value, diag.dims(op.results[0]), type_)] if _has_own(state) else []
            further = [
                full(0.0, sum_dims(op, sums, term, self._derivation.wires), type_)
                for sums, term in _terms(state)
            ]
            return [*own, *further]

    def body(self, *old: ir.Value) -> list[ir.Value]:
        """The states after one more chunk, and what is given of the chunk."""
        values: Values = {}
        new: list[ir.Value] = []
        made: dict[Expr, ir.Value] = {}
        for op in self._derivation.body:
            with op.location:
                if op not in self._states:
                    self._repeat(op, values)
                    continue
                state = self._states[op]
                chunk = Part(self._reduce_chunk(state, values))
                new += self._merged(state, self._moving(state, old, values, made), chunk)
                values[op.results[0]] = self._statistic(op, self._total(state, new, values))
        for op in self._emitted:
            with op.location:
                self._repeat(op, values)
        return [*new, *(values[op.results[0]] for op in self._emitted)]

    def combine(self, *both: ir.Value) -> list[ir.Value]:
        """The states of two parts of the axis as those of the whole."""
        sides = (both[: self._count], both[self._count :])
        values: Values = {}
        new: list[ir.Value] = []
        made: tuple[dict[Expr, ir.Value], dict[Expr, ir.Value]] = ({}, {})
        for op in self._without_elements():
            with op.location:
                if op not in self._states:
                    clone(op, values)
                    continue
                state = self._states[op]
                left, right = (
                    self._moving(state, side, values, known)
                    for side, known in zip(sides, made, strict=True)
                )
                new += self._merged(state, left, right)
                values[op.results[0]] = self._statistic(op, self._total(state, new, values))
        return new

    def _without_elements(self) -> Iterator[ir.Operation]:
        """Reductions and the axis-free maps between them, in order."""
        statistics = set(self._statistics)
        return (op for op in self._derivation.body if op in self._states or op in statistics)

    def tail(self, *states: ir.Value) -> list[ir.Value]:
        """What the stream gives, from the final states."""
        values = self._results_of(states)
        for op in self._tail:
            with op.location:
                clone(op, values)
        return [values[result] for result in self._results]

    def _results_of(self, states: Sequence[ir.Value]) -> Values:
        """The results of the reductions, from states."""
        if all(state.further is None or state.further.form.is_plain() for state in self._all()):
            return {
                op.results[0]: self._as_original(op, states[place])
                for op, place in self._place.items()
            }
        found: Values = {}
        inner: Values = {}  # as the body reads them
        for op in self._without_elements():
            with op.location:
                if op not in self._states:
                    clone(op, inner)
                    continue
                total = self._total(self._states[op], states, inner)
                found[op.results[0]] = self._as_original(op, total)
                inner[op.results[0]] = self._statistic(op, total)
        return found

    def _all(self) -> tuple[State, ...]:
        return self._derivation.states

    def _total(self, state: State, states: Sequence[ir.Value], values: Values) -> ir.Value:
        """The value of a reduction from the states; `values` has the statistics that weigh."""
        place = self._place[state.op]
        if state.further is None or state.further.form.is_plain():
            return states[place]
        form = state.further.form
        names = {name for weight in form.weights for name in symbols(weight)}
        outer = {name: self._derivation.wires[name] for name in names}
        wires = {name: values.get(wire, wire) for name, wire in outer.items()}
        return weighed(state.op, form, states[place : place + len(form.terms)], wires)

    # ---- parts of the body --------------------------------------------------------------------

    def _read(self, value: ir.Value, values: Values) -> ir.Value:
        """What stands for an outer value in the body: its chunk, when it carries the axis."""
        if value not in values and self._graph.carries(value, self._axis):
            values[value] = diag.chunk(value, self._axis)
        return values.get(value, value)

    def _repeat(self, op: ir.Operation, values: Values) -> None:
        """A copy of a woven or axis-free op on the current chunk."""
        for value in self._graph.reads[op]:
            self._read(value, values)
        copy = clone(op, values)
        chunked = any(self._graph.carries(value, self._axis) for value in self._graph.reads[op])
        for result in copy.results:
            if carries(result, self._axis):
                if not chunked:
                    copy.attributes[CHUNKED] = ir.UnitAttr.get()
                dims = {**diag.dims(result), self._axis: diag.DYNAMIC}
                result.set_type(diag.wire(dims, diag.element_type(result)))

    def _reduce_chunk(self, state: State, values: Values) -> list[ir.Value]:
        """A reduction of the chunk, in the type of its state, and its further sums."""
        op, type_ = state.op, _state_type(state.op)
        operands = [self._read(value, values) for value in op.operands]
        found = [_reduce(op, operands, type_)] if _has_own(state) else []
        for further, term in _terms(state):
            outer = {name: self._derivation.wires[name] for name in symbols(term)}
            wires = {name: self._read(wire, values) for name, wire in outer.items()}
            found.append(sum_term(op, further, term, operands, wires, type_))
        return found

    def _moving(
        self,
        state: State,
        old: Sequence[ir.Value],
        values: Values,
        made: dict[Expr, ir.Value],
    ) -> Part:
        """Old values of a state with what makes them fit the new statistics.

        Equal corrections are made once, in `made`.
        """
        place = self._place[state.op]
        sums = old[place : place + _count(state)]
        if state.further is not None:
            further = state.further
            pairs = zip(further.form.factors, further.decays, strict=True)
            factors = [self._factor(law, decays, old, values, made) for law, decays in pairs]
            return Part(sums, factors=factors)
        law = state.scale if state.scale is not None else state.offset
        return Part(sums, law and self._factor(law, state.decays, old, values, made))

    def _factor(
        self,
        law: Expr,
        decays: bool,
        old: Sequence[ir.Value],
        values: Values,
        made: dict[Expr, ir.Value],
    ) -> ir.Value:
        """A correction as a wire, made once."""
        if law not in made:
            made[law] = self._law_wire(law, old, values)
        if decays:
            _mark_exp(made[law])
        return made[law]

    def _merged(self, state: State, left: Part, right: Part) -> list[ir.Value]:
        """Two parts of a state, each corrected first, merged by the monoid."""
        if state.further is None:
            return [_merge(state, left, right)]
        form = state.further.form
        return [add_parts((left, right), form, number) for number in range(len(left.sums))]

    def _law_wire(self, law: Expr, old: Sequence[ir.Value], values: Values) -> ir.Value:
        """A correction as a wire, from old states and the new statistics."""
        wires: dict[str, ir.Value] = {}
        results: Values = {}
        for name in symbols(law):
            if name[0] == "r":
                results = results or self._old_results(old)
                wires[name] = results[self._derivation.wires[name]]
            else:
                outer = self._derivation.wires[name.removesuffix(laws.NEW)]
                wires[name] = values.get(outer, outer)
        ordered = {name: wires[name] for name in sorted(wires)}
        return map_expr(law, ordered, self._law_type(ordered))

    def _old_results(self, old: Sequence[ir.Value]) -> Values:
        """The results of the reductions from old states, in the types of the states."""
        weighed_ = any(s.further and not s.further.form.is_plain() for s in self._all())
        if weighed_:
            return self._results_of(old)
        return {op.results[0]: old[place] for op, place in self._place.items()}

    def _law_type(self, wires: Mapping[str, ir.Value]) -> ir.Type:
        types = [diag.element_type(wire) for wire in wires.values()]
        wide = any(isinstance(type_, ir.F64Type) for type_ in types)
        return ir.F64Type.get() if wide else ir.F32Type.get()

    def _statistic(self, op: ir.Operation, value: ir.Value) -> ir.Value:
        """A new state as later ops of the body read it."""
        value = self._as_original(op, value)
        if op not in self._derivation.guarded:
            return value
        empty, instead = self._derivation.guarded[op]
        guard = select(equal(symbol("m"), empty), instead, symbol("m"))
        return map_expr(guard, {"m": value}, diag.element_type(value))

    def _as_original(self, op: ir.Operation, value: ir.Value) -> ir.Value:
        """A state in the element type of the reduction that it stands for."""
        return cast(value, diag.element_type(op.results[0])) if _is_float(value) else value


def _is_float(value: ir.Value) -> bool:
    return diag.is_float(diag.element_type(value))


def _constant(value: ir.Attribute) -> ir.Value:
    return arith.ConstantOp(value.type, value).result


def _mark_exp(wire: ir.Value) -> None:
    """Note that the exponentials of the map that gives `wire` have arguments up to 0."""
    for op in diag.walk_ops(wire.owner.operation.regions[0]):
        if op.name == "math.exp":
            op.attributes[NONPOSITIVE] = ir.UnitAttr.get()


def _has_own(state: State) -> bool:
    """Whether the first sum of a state is what the reduction reduces."""
    return state.further is None or state.further.form.is_plain()


def _count(state: State) -> int:
    """How many wires a state has."""
    return 1 if state.further is None else len(state.further.form.terms)


def _terms(state: State) -> list[tuple[FurtherSums, Expr]]:
    """The sums of a state that are not the reduction itself, each with its term."""
    further = state.further
    if further is None:
        return []
    return [(further, term) for term in further.form.terms[_has_own(state) :]]


def _reduce(op: ir.Operation, operands: Sequence[ir.Value], type_: ir.Type) -> ir.Value:
    """Reduction `op` of other operands, in element type `type_`."""
    axes = reduced_axes(op)
    if op.name == "diag.reduce":
        return diag.reduce(cast(operands[0], type_), axes, monoid_of(op))
    acc = ir.TypeAttr(op.attributes["acc"]).value if "acc" in op.attributes else None
    order = diag.labels(op.results[0])
    return diag.contract(operands[0], operands[1], axes, dtype=type_, acc=acc, order=order)


def _merge(state: State, left: Part, right: Part) -> ir.Value:
    """The one value of both parts, each corrected first, merged by the monoid in one map."""
    monoid = diag.MONOIDS[monoid_of(state.op)]
    wires = [
        wire for part in (left, right) for wire in (*part.sums, part.scale) if wire is not None
    ]
    correct = arith.mulf if state.scale is not None else arith.addf

    def body(*scalars: ir.Value) -> ir.Value:
        rest = iter(scalars)
        merged = []
        for part in (left, right):
            value = next(rest)
            if part.scale is not None:
                value = correct(value, convert(next(rest), value.type))
            merged.append(value)
        return monoid.combine(*merged)

    return diag.map_(wires, body, result=diag.dims(state.op.results[0]))
