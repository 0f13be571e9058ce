"""Renames the axes of a function and opens their sizes, in types and attributes alike."""

from collections.abc import Mapping

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import array_ops

__all__ = ["rename_axes"]

# Attributes of ops that hold labels, one or an array.
_LABELLED = ("along", "axes", "axis", "diag.bound_axes", "from", "over", "to")


def rename_axes(function: ir.Operation, names: Mapping[str, str], opened: set[str]) -> None:
    """Give every axis of `function` its new name; those in `opened` (old names) get size `?`.

    Types of arguments, results and all values, also inside regions, and attributes of ops that name
    axes; not the attributes of the function itself but its type.
    """
    known: dict[ir.Type, ir.Type] = {}

    def rename(value: ir.Value) -> None:
        if value.type not in known:
            known[value.type] = _renamed(value.type, names, opened)
        value.set_type(known[value.type])

    for op in array_ops(function):
        arguments = [a for region in op.regions for block in region.blocks for a in block.arguments]
        for value in (*arguments, *op.results):
            rename(value)
        if op != function:
            _rename_attributes(op, names)
    block = diag.function_body(function)
    inputs = [argument.type for argument in block.arguments]
    results = [value.type for value in list(block.operations)[-1].operands]
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, results))


def _renamed(type_: ir.Type, names: Mapping[str, str], opened: set[str]) -> ir.Type:
    if not diag.is_wire(type_):
        return type_
    sizes = [
        (names[label], diag.DYNAMIC if label in opened else size)
        for label, size in diag.dims(type_).items()
    ]
    return diag.wire(sizes, diag.element_type(type_))


def _rename_attributes(op: ir.Operation, names: Mapping[str, str]) -> None:
    for name in _LABELLED:
        if name not in op.attributes:
            continue
        attr = op.attributes[name]
        if isinstance(attr, ir.ArrayAttr):
            op.attributes[name] = diag.string_array(names[label] for label in diag.strings(attr))
        else:
            op.attributes[name] = ir.StringAttr.get(names[ir.StringAttr(attr).value])
