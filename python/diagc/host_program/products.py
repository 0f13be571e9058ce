"""Contractions and maps that form-kernels left to the library."""

from typing import TYPE_CHECKING

from diagc.algebra.elementwise import library_operations
from diagc.dialects import diag
from diagc.errors import InternalError
from diagc.host_program.attributes import one_type
from diagc.mlir import ir
from diagc.runtime.steps import Contract, Elementwise, Step, View

if TYPE_CHECKING:
    from diagc.host_program.translator import Translator

__all__ = ["contract", "elementwise"]

ABSORBED = "diag.absorbed"
"""Attribute of a map that costs no step of its own, for `explain`."""


def contract(state: "Translator", op: ir.Operation) -> Step | None:
    """A matrix product; one whose only reader adds a bias is done together with that."""
    addition = _bias_addition(op)
    if addition is None:
        return _product(state, op, op.results[0])
    state.products[addition] = op
    return None


def _product(
    state: "Translator", op: ir.Operation, result: ir.Value, bias: ir.Value | None = None
) -> Contract:
    lhs, rhs = op.operands
    known = {**state.joined([lhs]), **state.joined([rhs])}
    return Contract(
        one_type(result),
        (state.sizes(result, known),),
        state.numbers[lhs],
        state.numbers[rhs],
        tuple(diag.strings(op.attributes["over"])),
        None if bias is None else state.numbers[bias],
    )


def _bias_addition(op: ir.Operation) -> ir.Operation | None:
    """The map that adds a bias to a contraction and is its only reader."""
    (result,) = op.results
    readers = [use.owner.operation for use in result.uses]
    is_summed = bool(diag.strings(op.attributes["over"]))
    if not is_summed or len(readers) != 1 or readers[0].name != "diag.element":
        return None
    addition = readers[0].parent.operation
    bias = _bias(op, addition)
    if bias is None or diag.element_type(addition.results[0]) != diag.element_type(result):
        return None
    lhs, rhs = (set(diag.labels(value)) for value in op.operands)
    return addition if set(diag.labels(bias)) in (lhs - rhs, rhs - lhs) else None


def _bias(op: ir.Operation, addition: ir.Operation) -> ir.Value | None:
    """What a map adds to the result of `op`, if that is all it does."""
    operations = library_operations(addition)
    if operations is None or [o.name for o in operations] != ["arith.addf"]:
        return None
    others = [x for x in operations[0].operands if x != op.results[0]]
    return others[0] if len(others) == 1 and isinstance(others[0], ir.Value) else None


def elementwise(state: "Translator", op: ir.Operation) -> Step:
    """A map that form-kernels left to the library."""
    product = state.products.get(op)
    if product is not None:
        op.attributes[ABSORBED] = ir.UnitAttr.get()
        return _product(state, product, op.results[0], _bias(product, op))
    operations = library_operations(op)
    if operations is None:
        raise InternalError("a map that no kernel took reached the host", location=op.location)
    if operations[0].name == "copy":
        view = _broadcast(state, op, operations[0].operands[0])
        if view is not None:
            op.attributes[ABSORBED] = ir.UnitAttr.get()
            return view
    wires = [x for o in operations for x in o.operands if isinstance(x, ir.Value)]
    sizes = state.sizes(op.results[0], state.joined(wires))
    steps = tuple((o.name, tuple(_operand(state, x) for x in o.operands)) for o in operations)
    return Elementwise(one_type(op.results[0]), (sizes,), steps)


def _broadcast(state: "Translator", op: ir.Operation, source: ir.Value | float) -> View | None:
    """A map that only repeats elements is a view; None when it converts them too."""
    result = op.results[0]
    if not isinstance(source, ir.Value):
        return None
    if diag.element_type(source) != diag.element_type(result):
        return None
    places = tuple(("dim", diag.labels(result).index(label)) for label in diag.labels(source))
    sizes = state.sizes(result, state.joined([source]))
    return View(one_type(result), (sizes,), state.numbers[source], places)


def _operand(state: "Translator", operand: ir.Value | float) -> tuple[str, float]:
    if isinstance(operand, ir.Value):
        return "array", state.numbers[operand]
    return ("number" if isinstance(operand, float) else "result"), operand
