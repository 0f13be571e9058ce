"""Clones ops with a value mapping that also reaches what their regions capture.

The Python bindings have no IRMapping: `Operation.clone` keeps all operands. Maps and streams
capture outer wires, so the operands of nested ops must be looked up too.
"""

from collections.abc import Iterable, MutableMapping

from diagc.mlir import ir

__all__ = [
    "Mapping",
    "array_ops",
    "clone",
    "clone_all",
    "nested_ops",
    "remap_operands",
    "used_values",
]

Mapping = MutableMapping[ir.Value, ir.Value]


def nested_ops(op: ir.Operation) -> list[ir.Operation]:
    """`op` itself and every op below it, outermost first."""
    found = [op]
    for region in op.regions:
        for block in region.blocks:
            for child in block.operations:
                found += nested_ops(child.operation)
    return found


def array_ops(op: ir.Operation) -> list[ir.Operation]:
    """As `nested_ops`, without the scalar ops in bodies of maps."""
    found = [op]
    if op.name == "diag.map":
        return found
    for region in op.regions:
        for block in region.blocks:
            for child in block.operations:
                found += array_ops(child.operation)
    return found


def used_values(op: ir.Operation) -> list[ir.Value]:
    """Values that `op`, with its regions, uses and does not define: operands and captures.

    In the order of first use, each once.
    """
    defined: set[ir.Value] = set()
    used: dict[ir.Value, None] = {}
    for nested in nested_ops(op):
        used.update(dict.fromkeys(nested.operands))
        defined.update(nested.results)
        for region in nested.regions:
            for block in region.blocks:
                defined.update(block.arguments)
    return [value for value in used if value not in defined]


def remap_operands(op: ir.Operation, mapping: Mapping) -> None:
    """Replace, in `op` and below it, every operand that `mapping` knows."""
    for nested in nested_ops(op):
        for number, value in enumerate(nested.operands):
            if value in mapping:
                nested.operands[number] = mapping[value]


def clone(op: ir.Operation, mapping: Mapping, ip: ir.InsertionPoint | None = None) -> ir.Operation:
    """Clone `op` at `ip` (default: the ambient one) with mapped operands and captures.

    Values that `mapping` lacks stay as they are. The results of `op` are added to `mapping`, so
    that ops cloned in order refer to each other. Location and attributes are kept.
    """
    op = op.operation
    with ip or ir.InsertionPoint.current:
        copy = op.clone()
    remap_operands(copy.operation, mapping)
    for old, new in zip(op.results, copy.operation.results, strict=True):
        mapping[old] = new
    return copy.operation


def clone_all(
    ops: Iterable[ir.Operation], mapping: Mapping, ip: ir.InsertionPoint | None = None
) -> list[ir.Operation]:
    """Clone ops in order with one mapping."""
    return [clone(op, mapping, ip) for op in ops]
