"""Slide a constant scale of a streamed contraction to its operand that does not stream.

Before:

    stream {axis = "x"} body:
      s = contract(q, chunk k) {over = ["d"]};   a = map s * 0.125 ...

After:

    p = map q * 0.125
    stream {axis = "x"} body:
      s = contract(p, chunk k) {over = ["d"]};   a = map s ...

The contraction is linear in each operand, so the scale costs one product per element of q instead
of one per score: with 2048 keys and d = 64 that is 1/32, 2 to 3 % of a CPU kernel.

Requires: streams are derived; run on functions.

Declines: a scale that is not constant; a contraction that anything else reads; no operand from
outside the stream; an operand in f16 or bf16, where the product would be rounded, unless the scale
is a power of two; one in f8, whose range is short.
"""

from dataclasses import dataclass
from math import frexp
from typing import ClassVar

from diagc.algebra.dataflow import defining_op
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.base import Pass
from diagc.passes.remarks import done

__all__ = ["SlideScalesPass"]


@dataclass(frozen=True)
class SlideScalesPass(Pass):
    """slide constant scales out of streams, to the operand that does not stream."""

    name: ClassVar[str] = "slide-scales"

    def run(self, op: ir.Operation) -> None:
        """Visit every map in the body of every stream of the function."""
        for stream in [o for o in diag.walk_ops(op.regions[0]) if o.name == "diag.stream"]:
            for view in list(stream.regions[1].blocks[0].operations):
                if view.operation.name == "diag.map":
                    _slide_from(stream, view.operation)


def _slide_from(stream: ir.Operation, map_op: ir.Operation) -> None:
    """Slide every scale of one map that may slide."""
    for op in list(diag.walk_ops(map_op.regions[0])):
        found = _scaled_element(op)
        if found is None:
            continue
        element, factor = found
        contraction = defining_op(element.operands[0])
        if contraction is None or not _is_only_use(contraction.results[0]):
            continue
        place = _outer_operand(stream, contraction, factor)
        if place is None:
            continue
        done(
            op, f"the scale {factor:g} moved out of the stream, to an operand that does not stream"
        )
        contraction.operands[place] = _scaled(stream, contraction.operands[place], factor, op)
        op.results[0].replace_all_uses_with(element.results[0])
        op.erase()


def _scaled_element(op: ir.Operation) -> tuple[ir.Operation, float] | None:
    """The `diag.element` that `op` multiplies by a constant, with the constant."""
    if op.name == "arith.mulf":
        pairs = [(op.operands[0], op.operands[1]), (op.operands[1], op.operands[0])]
    elif op.name == "arith.divf":
        pairs = [(op.operands[0], op.operands[1])]
    else:
        return None
    for value, other in pairs:
        element, number = defining_op(value), _number(other)
        is_element = element is not None and element.name == "diag.element"
        if element is None or number is None or not is_element or not _is_only_use(value):
            continue
        if op.name == "arith.mulf":
            return element, number
        return (element, 1.0 / number) if _is_power_of_two(number) else None
    return None


def _number(value: ir.Value) -> float | None:
    op = defining_op(value)
    if op is None or op.name != "arith.constant" or not diag.is_float(value.type):
        return None
    return float(ir.FloatAttr(op.attributes["value"]).value)


def _is_only_use(value: ir.Value) -> bool:
    return len(list(value.uses)) == 1


def _outer_operand(stream: ir.Operation, op: ir.Operation, factor: float) -> int | None:
    """The operand of a contraction that is captured from outside the stream and may be scaled."""
    if op.name != "diag.contract" or op.parent != stream:
        return None
    for i, value in enumerate(op.operands):
        owner = defining_op(value)
        outside = owner.parent != stream if owner is not None else _is_function_argument(value)
        element = diag.element_type(value)
        exact = diag.is_wide_float(element) or (
            _is_power_of_two(factor) and not diag.is_stored_float(element)
        )
        if outside and exact:
            return i
    return None


def _is_function_argument(value: ir.Value) -> bool:
    return bool(value.owner.owner.operation.name == "func.func")


def _is_power_of_two(number: float) -> bool:
    return number != 0.0 and abs(frexp(number)[0]) == 0.5


def _scaled(stream: ir.Operation, value: ir.Value, factor: float, scale: ir.Operation) -> ir.Value:
    """`value * factor` before the stream, computed in f32 or wider, in the type of `value`."""
    element = diag.element_type(value)
    wide = element if diag.is_wide_float(element) else ir.F32Type.get()

    def body(x: ir.Value) -> ir.Value:
        x = x if element == wide else arith.extf(wide, x)
        product = arith.mulf(x, arith.constant(wide, factor))
        return product if element == wide else arith.truncf(element, product)

    with ir.InsertionPoint(stream), scale.location:
        return diag.map_([value], body)
