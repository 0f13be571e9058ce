"""Maps that a few operations of any array library do as well as a kernel could."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from diagc.algebra.dataflow import defining_op
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["LIBRARY_OPERATIONS", "Operation", "library_operations"]

# scalar op -> number of operands; "copy" broadcasts and converts
LIBRARY_OPERATIONS: Mapping[str, int] = {
    "copy": 1,
    "arith.addf": 2,
    "arith.subf": 2,
    "arith.mulf": 2,
    "arith.divf": 2,
    "arith.maximumf": 2,
    "arith.minimumf": 2,
    "arith.negf": 1,
    "math.exp": 1,
    "math.log": 1,
    "math.sqrt": 1,
    "math.tanh": 1,
    "math.sin": 1,
    "math.cos": 1,
    "math.absf": 1,
}
_CONVERSIONS = ("arith.extf", "arith.truncf")
_LEAVES = (*_CONVERSIONS, "diag.element", "arith.constant", "diag.yield")

_CAST = 3
"""Ops of a map that converts an element."""

SMALL_RESULT = 4096
"""Elements up to which a few calls of the library cost less than a kernel saves."""
MOST_OPERATIONS = 3


@dataclass(frozen=True)
class Operation:
    """One operation: its name in `LIBRARY_OPERATIONS`, and wires, numbers or earlier results.

    An earlier result is the int that counts the operations before it.
    """

    name: str
    operands: tuple[ir.Value | float | int, ...]


def library_operations(op: ir.Operation) -> tuple[Operation, ...] | None:
    """The operations of a map that the library may do, conversions between floats aside.

    That is one operation, or a few where the result is small; None for other maps and other ops.
    """
    if op.name != "diag.map":
        return None
    body = [inner.operation for inner in op.regions[0].blocks[0].operations]
    core = [o for o in body if o.name not in _LEAVES]
    if any(diag.is_stored_float(o.results[0].type) for o in body[:-1]) and len(body) > _CAST:
        return None  # the library does not compute with f8
    if len(core) > (MOST_OPERATIONS if _is_small(op.results[0]) else 1):
        return None
    found: dict[ir.Value, int] = {}
    operations = []
    for number, inner in enumerate(core):
        operands = _operands(inner, found)
        if operands is None or inner.name not in LIBRARY_OPERATIONS:
            return None
        operations.append(Operation(inner.name, operands))
        found[inner.results[0]] = number
    return tuple(operations) or _copy(body[-1])


def _is_small(result: ir.Value) -> bool:
    sizes = diag.dims(result).values()
    return diag.DYNAMIC not in sizes and prod(sizes) <= SMALL_RESULT


def _copy(yield_op: ir.Operation) -> tuple[Operation, ...] | None:
    source = _operand(yield_op.operands[0], {})
    return (Operation("copy", (source,)),) if isinstance(source, ir.Value) else None


def _operands(
    op: ir.Operation, found: Mapping[ir.Value, int]
) -> tuple[ir.Value | float | int, ...] | None:
    operands = [_operand(value, found) for value in op.operands]
    known = tuple(x for x in operands if x is not None)
    all_numbers = all(isinstance(x, float) for x in known)
    return None if len(known) < len(operands) or all_numbers else known


def _operand(value: ir.Value, found: Mapping[ir.Value, int]) -> ir.Value | float | int | None:
    """What a scalar is: the wire of an element, a float constant, or an earlier result."""
    op = defining_op(value)
    while op is not None and op.name in _CONVERSIONS:
        value = op.operands[0]
        op = defining_op(value)
    if value in found:
        return found[value]
    if op is not None and op.name == "diag.element":
        wire = op.operands[0]
        is_literal = defining_op(wire) is not None and not diag.labels(wire)
        return None if is_literal else wire
    if op is not None and op.name == "arith.constant" and diag.is_float(value.type):
        return float(ir.FloatAttr(op.attributes["value"]).value)
    return None
