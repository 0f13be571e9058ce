"""Renames the axes of a function, opens their sizes, merges two: in types and attributes alike."""

from collections.abc import Mapping, Sequence

from diagc.algebra.dataflow import elements
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import array_ops

__all__ = ["merge_labels", "rename_axes"]

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


def merge_labels(function: ir.Operation, old: str, new: str) -> bool:
    """Let axis `old` be axis `new`, of equal size, wherever the function computes with it.

    Arguments, results and what calls take and give keep their axes, through a relabel. Nothing is
    done, and False given, where an op has both axes, for they would become one.
    """
    block = diag.function_body(function)
    ops = [view.operation for view in block.operations]
    if any(_has_both(op, old, new) for op in ops):
        return False
    made = [value for op in ops if not _is_foreign(op) for value in op.results]
    given = [*block.arguments, *(v for op in ops if _is_foreign(op) for v in op.results)]
    names = {label: label for value in (*made, *given) for label in _labels(value)} | {old: new}
    taken = [
        (op, number)
        for op in ops
        for number, value in enumerate(op.operands if _is_foreign(op) else ())
        if value in made and old in _labels(value)
    ]
    for value in made:
        value.set_type(_renamed(value.type, names, set()))
    for op in ops:
        if not _is_foreign(op):
            _rename_attributes(op, names)
    for value in given:
        if old in _labels(value):
            _relabel_uses(block, value, old, new)
    for op, number in taken:
        with ir.InsertionPoint(op), op.location:
            op.operands[number] = diag.relabel(op.operands[number], {new: old})
    return True


def _labels(value: ir.Value) -> Sequence[str]:
    return diag.labels(value) if diag.is_wire(value.type) else ()


def _is_foreign(op: ir.Operation) -> bool:
    """Whether others say what axes the op takes and gives."""
    return not op.name.startswith("diag.")


def _has_both(op: ir.Operation, old: str, new: str) -> bool:
    """Whether axes that are apart in an op, or in a wire of it, would be one."""
    if op.name in ("diag.reindex", "diag.relabel"):  # what they take and what they give is apart
        return any({old, new} <= {*_labels(value)} for value in (*op.operands, *op.results))
    found = {label for value in (*op.operands, *op.results) for label in _labels(value)}
    if op.name == "diag.map":
        found.update(label for e in elements(op) for label in _labels(e.operands[0]))
    return not _is_foreign(op) and {old, new} <= found


def _relabel_uses(block: ir.Block, value: ir.Value, old: str, new: str) -> None:
    """Let ops of the function read a value that was given to it under the new name."""
    owner = value.owner
    after = block.operations[0] if isinstance(owner, ir.Block) else _next(owner.operation)
    uses = [(use.owner.operation, use.operand_number) for use in value.uses]
    with ir.InsertionPoint(after), after.location:
        renamed = diag.relabel(value, {old: new})
    for op, number in uses:
        if not _is_foreign(op):
            op.operands[number] = renamed


def _next(op: ir.Operation) -> ir.Operation:
    ops = [view.operation for view in op.block.operations]
    return ops[ops.index(op) + 1]
