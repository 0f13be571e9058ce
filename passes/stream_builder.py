"""Builds `diag.stream` from a derivation: init, body, combine and tail, and the ops it replaces."""

from collections.abc import Iterator, Mapping, Sequence

from diagc.algebra import laws
from diagc.algebra.dataflow import carries, reduced_axes
from diagc.algebra.expressions import Expr, equal, select, symbol, symbols
from diagc.algebra.graph import Graph
from diagc.algebra.maps import cast, convert, full, map_expr, statistic_type
from diagc.algebra.streams import Derivation, State
from diagc.algebra.summands import monoid_of
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.cloning import clone
from diagc.passes.nonpositive import NONPOSITIVE

__all__ = ["MAX_RESULTS", "build_stream"]

MAX_RESULTS = diag.STREAM_RESULTS

Values = dict[ir.Value, ir.Value]


def build_stream(
    derivation: Derivation,
    graph: Graph,
    tail: Sequence[ir.Operation],
    results: Sequence[ir.Value],
    where: ir.Value | None = None,
) -> ir.Operation:
    """Emit the stream at the insertion point.

    Args:
        derivation: what the body computes.
        graph: the block.
        tail: ops that the tail computes from the states, in order.
        results: values (of reductions or of `tail`) that the stream gives.
        where: an i1 wire that says where the results are wanted; everywhere by default.
    """
    builder = _Builder(derivation, graph, tail, results)
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
    ) -> None:
        self._derivation = derivation
        self._axis = derivation.axis
        self._graph = graph
        self._tail = tail
        self._results = results
        self._state = {state.op: number for number, state in enumerate(derivation.states)}
        depends = graph.after(self._state)
        self._statistics = [
            op
            for op in derivation.body
            if op not in self._state
            and op in depends
            and not graph.carries(op.results[0], self._axis)
        ]

    # ---- the four regions ---------------------------------------------------------------------

    def init(self) -> list[ir.Value]:
        """The identity of every state."""
        return [self._identity(state.op) for state in self._derivation.states]

    def _identity(self, op: ir.Operation) -> ir.Value:
        type_, dims = _state_type(op), diag.dims(op.results[0])
        value = diag.identity_attr(monoid_of(op), type_)
        with op.location:
            if isinstance(value, ir.FloatAttr):
                return full(value.value, dims, type_)
            return diag.map_([], lambda: _constant(value), result=dims, dtype=type_)

    def body(self, *old: ir.Value) -> list[ir.Value]:
        """The states after one more chunk."""
        values: Values = {}
        new: list[ir.Value] = []
        factors: dict[Expr, ir.Value] = {}
        for op in self._derivation.body:
            with op.location:
                if op not in self._state:
                    self._repeat(op, values)
                    continue
                number = self._state[op]
                state = self._derivation.states[number]
                part = self._reduce_chunk(op, values)
                factor = self._correction(state, old, values, factors)
                new.append(_merge(state, (old[number], factor), (part, None)))
                values[op.results[0]] = self._statistic(op, new[-1])
        return new

    def combine(self, *both: ir.Value) -> list[ir.Value]:
        """The states of two parts of the axis as those of the whole."""
        count = len(self._derivation.states)
        sides = (both[:count], both[count:])
        values: Values = {}
        new: list[ir.Value] = []
        factors: tuple[dict[Expr, ir.Value], dict[Expr, ir.Value]] = ({}, {})
        for op in [*self._in_body_order()]:
            with op.location:
                if op not in self._state:
                    clone(op, values)
                    continue
                number = self._state[op]
                state = self._derivation.states[number]
                left, right = (
                    (side[number], self._correction(state, side, values, made))
                    for side, made in zip(sides, factors, strict=True)
                )
                new.append(_merge(state, left, right))
                values[op.results[0]] = self._statistic(op, new[-1])
        return new

    def _in_body_order(self) -> Iterator[ir.Operation]:
        """Reductions and the axis-free maps between them."""
        statistics = set(self._statistics)
        return (op for op in self._derivation.body if op in self._state or op in statistics)

    def tail(self, *states: ir.Value) -> list[ir.Value]:
        """What the stream gives, from the final states."""
        values: Values = {
            state.op.results[0]: self._as_original(state.op, value)
            for state, value in zip(self._derivation.states, states, strict=True)
        }
        for op in self._tail:
            with op.location:
                clone(op, values)
        return [values[result] for result in self._results]

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
        for result in copy.results:
            if carries(result, self._axis):
                dims = {**diag.dims(result), self._axis: diag.DYNAMIC}
                result.set_type(diag.wire(dims, diag.element_type(result)))

    def _reduce_chunk(self, op: ir.Operation, values: Values) -> ir.Value:
        """A reduction of the chunk, in the type of its state."""
        operands = [self._read(value, values) for value in op.operands]
        axes, type_ = reduced_axes(op), _state_type(op)
        if op.name == "diag.reduce":
            return diag.reduce(cast(operands[0], type_), axes, monoid_of(op))
        acc = ir.TypeAttr(op.attributes["acc"]).value if "acc" in op.attributes else None
        order = diag.labels(op.results[0])
        return diag.contract(operands[0], operands[1], axes, dtype=type_, acc=acc, order=order)

    def _correction(
        self,
        state: State,
        old: Sequence[ir.Value],
        values: Values,
        made: dict[Expr, ir.Value],
    ) -> ir.Value | None:
        """What makes an old state fit the new statistics; equal ones are made once."""
        law = state.scale if state.scale is not None else state.offset
        if law is not None and law not in made:
            made[law] = self._law_wire(law, old, values)
            if state.decays:
                _mark_exp(made[law])
        return None if law is None else made[law]

    def _law_wire(self, law: Expr, old: Sequence[ir.Value], values: Values) -> ir.Value:
        """A correction as a wire, from old states and the new statistics."""
        wires: dict[str, ir.Value] = {}
        for name in symbols(law):
            if name[0] == "r":
                wires[name] = old[int(name[1:])]
            else:
                outer = self._derivation.wires[name.removesuffix(laws.NEW)]
                wires[name] = values.get(outer, outer)
        ordered = {name: wires[name] for name in sorted(wires)}
        return map_expr(law, ordered, self._law_type(ordered))

    def _law_type(self, wires: Mapping[str, ir.Value]) -> ir.Type:
        types = [diag.element_type(wire) for wire in wires.values()]
        wide = any(isinstance(type_, ir.F64Type) for type_ in types)
        return ir.F64Type.get() if wide else ir.F32Type.get()

    def _statistic(self, op: ir.Operation, value: ir.Value) -> ir.Value:
        """A new state as later ops of the body read it."""
        value = self._as_original(op, value)
        empty = diag.MONOIDS[monoid_of(op)].float_identity
        if op not in self._derivation.guarded or empty is None:
            return value
        guard = select(equal(symbol("m"), empty), 0.0, symbol("m"))
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


Corrected = tuple[ir.Value, ir.Value | None]


def _merge(state: State, left: Corrected, right: Corrected) -> ir.Value:
    """Two values of a state, each corrected first, merged by the monoid in one map."""
    monoid = diag.MONOIDS[monoid_of(state.op)]
    wires = [wire for wire in (*left, *right) if wire is not None]
    correct = arith.mulf if state.scale is not None else arith.addf

    def body(*scalars: ir.Value) -> ir.Value:
        rest = iter(scalars)
        parts = []
        for _, correction in (left, right):
            value = next(rest)
            if correction is not None:
                value = correct(value, convert(next(rest), value.type))
            parts.append(value)
        return monoid.combine(*parts)

    return diag.map_(wires, body, result=diag.dims(state.op.results[0]))
