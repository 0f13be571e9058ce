"""Maxima that are only a stream's running reference, where NaN need not be propagated.

A maximum that passes NaN on costs three instructions a vector instead of one. The reference of a
stable exponential does not need it: the NaN element itself reaches the sums through `exp(a - m)`.
"""

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.cpu.nodes import yielded

__all__ = ["reference_maxima"]


def reference_maxima(kernel: ir.Operation) -> frozenset[ir.Value]:
    """Results of max reductions in stream bodies that may ignore NaN.

    The state that such a maximum updates is read by nothing after the stream and compared with no
    element, and the reduced wire is read by another op of the body too.
    """
    found: set[ir.Value] = set()
    for op in diag.walk_ops(kernel.regions[0]):
        if op.name == "diag.stream":
            found |= _of_stream(op)
    return frozenset(found)


def _of_stream(stream: ir.Operation) -> set[ir.Value]:
    body, tail = stream.regions[1].blocks[0], stream.regions[3].blocks[0]
    found: set[ir.Value] = set()
    for update, argument in zip(yielded(body), tail.arguments, strict=False):
        if any(True for _ in argument.uses) or _is_compared(update):
            continue
        for op in body.operations:
            if _is_maximum(op.operation) and _updates(op.operation, update):
                found.add(op.operation.results[0])
    return found


def _is_compared(value: ir.Value) -> bool:
    """Whether elements are compared with a maximum: those that are NaN would find another one."""
    elements = [use.owner.operation for use in value.uses if use.owner.name == "diag.element"]
    compares = [use.owner.operation for e in elements for use in e.results[0].uses]
    return any(
        op.name == "arith.cmpf" and not any(_is_constant(operand) for operand in op.operands)
        for op in compares
    )


def _is_constant(value: ir.Value) -> bool:
    owner = value.owner
    return not isinstance(owner, ir.Block) and owner.operation.name == "arith.constant"


def _is_maximum(op: ir.Operation) -> bool:
    if op.name != "diag.reduce" or ir.StringAttr(op.attributes["kind"]).value != "max":
        return False
    readers = {_reader(use.owner.operation) for use in op.operands[0].uses}
    return len(readers) > 1


def _updates(op: ir.Operation, update: ir.Value) -> bool:
    """Whether the only reader of a reduction is the map that yields the new state."""
    readers = {_reader(use.owner.operation) for use in op.results[0].uses}
    owner = update.owner
    return not isinstance(owner, ir.Block) and readers == {owner.operation}


def _reader(op: ir.Operation) -> ir.Operation:
    return op.parent.operation if op.name == "diag.element" else op
