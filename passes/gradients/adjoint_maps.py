"""The rule of `diag.map` in reverse mode: the derivative of the scalar body by each wire it reads.

The part of a wire's cotangent is `d * f'`, with d the cotangent of the result and f' from
`scalar_derivatives.py`, summed over the axes of the result that the wire lacks. It is computed in
f32, or in f64 where a wire is f64. Scalars of the body that f' needs are computed again in the new
body; the result of the old one is read.
"""

from collections.abc import Iterable

from diagc.algebra.dataflow import defining_op, inputs, scalar_result
from diagc.algebra.expressions import Expr, symbol, symbols
from diagc.algebra.maps import cast, convert, statistic_type
from diagc.algebra.scalars import emit
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.gradients.cotangents import Parts, Values, axes_like, in_order
from diagc.passes.gradients.scalar_derivatives import Derivatives, carried, times

__all__ = ["differentiate_map"]

_COTANGENT = "d"


def differentiate_map(op: ir.Operation, cotangent: ir.Value, active: Values) -> Parts:
    """The parts of the cotangents of the wires that a map reads.

    Raises:
        UnsupportedError: a scalar function that has no derivative here.
    """
    for wire in inputs(op):
        if wire not in active:
            continue
        derivatives = Derivatives(wire)
        slope = derivatives.of(scalar_result(op))
        if slope is not None:
            used = {name: derivatives.scalars[name] for name in symbols(slope)}
            # a slope of fewer axes is computed once for all that it is multiplied by
            axes = {label for other in _wires(op, used.values()) for label in diag.labels(other)}
            multiply = carried if axes >= set(diag.labels(cotangent)) else times
            term = multiply(symbol(_COTANGENT), slope)
            yield wire, _emit(op, cotangent, wire, term, used)


def _emit(
    op: ir.Operation, cotangent: ir.Value, wire: ir.Value, term: Expr, used: dict[str, ir.Value]
) -> ir.Value:
    """The map that computes `term`, and the sum over the axes that `wire` lacks."""
    out, own = op.results[0], diag.labels(wire)
    read = [cotangent, *(w for w in _wires(op, used.values()) if w != cotangent)]
    over = [label for label in diag.labels(out) if label not in own]
    axes = [label for other in read for label in diag.labels(other)]
    compute = _compute_type([*read, wire])
    narrow = diag.element_type(wire)
    dtype = statistic_type(narrow) if over else narrow

    def body(*elements: ir.Value) -> ir.Value:
        copy = _Copy(op, dict(zip(read, elements, strict=True)))
        values = {name: _as_float(copy.of(value), compute) for name, value in used.items()}
        values[_COTANGENT] = convert(elements[0], compute)
        return convert(emit(term, values, compute), dtype)

    part = diag.map_(read, body, result=axes_like(out, [*axes, *over]), dtype=dtype)
    if over:
        part = cast(diag.reduce(part, over, "add"), narrow)
    return in_order(part, wire)


def _compute_type(wires: Iterable[ir.Value]) -> ir.Type:
    found = [statistic_type(diag.element_type(wire)) for wire in wires]
    return next((t for t in found if isinstance(t, ir.F64Type)), ir.F32Type.get())


def _as_float(value: ir.Value, type_: ir.Type) -> ir.Value:
    """A number as a float; conditions stay as they are."""
    if isinstance(value.type, ir.IndexType):
        value = arith.index_cast(ir.IntegerType.get_signless(64), value)
    if isinstance(value.type, ir.IntegerType) and ir.IntegerType(value.type).width > 1:
        return arith.sitofp(type_, value)
    return convert(value, type_)


# ---- scalars of the old body in the new one ----------------------------------------------------


def _wires(op: ir.Operation, scalars: Iterable[ir.Value]) -> list[ir.Value]:
    """The wires that are read to compute scalars of the body of a map, each once."""
    found: dict[ir.Value, None] = {}
    stack = list(scalars)
    while stack:
        value = stack.pop()
        source = defining_op(value)
        if _is_result(op, value):
            found[op.results[0]] = None
        elif source is not None and source.name == "diag.element":
            found[source.operands[0]] = None
        elif source is not None:
            stack.extend(source.operands)
    return list(found)


def _is_result(op: ir.Operation, value: ir.Value) -> bool:
    """Whether a scalar is what the map gives, by a function that is worth reading again."""
    source = defining_op(value)
    return value == scalar_result(op) and source is not None and source.name.startswith("math.")


class _Copy:
    """Copies scalars of the body of a map to the insertion point, each once.

    Args:
        op: the map.
        elements: the scalars that stand for the wires.
    """

    def __init__(self, op: ir.Operation, elements: dict[ir.Value, ir.Value]) -> None:
        self._op, self._elements = op, elements
        self._made: dict[ir.Value, ir.Value] = {}

    def of(self, value: ir.Value) -> ir.Value:
        """The copy of a scalar."""
        if value not in self._made:
            self._made[value] = self._copy(value)
        return self._made[value]

    def _copy(self, value: ir.Value) -> ir.Value:
        source = defining_op(value)
        assert source is not None  # a body has no arguments
        if _is_result(self._op, value):
            return self._elements[self._op.results[0]]
        if source.name == "diag.element":
            return self._elements[source.operands[0]]
        operands = [self.of(operand) for operand in source.operands]
        copy = source.clone().operation
        for number, operand in enumerate(operands):
            copy.operands[number] = operand
        return copy.results[0]
