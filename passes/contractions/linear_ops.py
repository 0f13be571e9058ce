"""Contractions and sums as linear functions of each operand."""

from diagc.algebra.dataflow import reduced_axes
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["apply_linear", "linear_operands"]


def linear_operands(op: ir.Operation) -> range:
    """Operands in which `op` is linear."""
    if op.name == "diag.contract":
        return range(2)
    is_sum = op.name == "diag.reduce" and op.attributes["kind"].value == "add"
    return range(1 if is_sum and diag.is_float(diag.element_type(op.results[0])) else 0)


def apply_linear(op: ir.Operation, number: int, operand: ir.Value) -> ir.Value:
    """`op` applied to another operand; its result is in the type that sums are kept in."""
    axes = reduced_axes(op)
    if op.name == "diag.reduce":
        return diag.reduce(operand, axes, "add")
    operands = list(op.operands)
    operands[number] = operand
    wide = any(isinstance(diag.element_type(o), ir.F64Type) for o in operands)
    acc = ir.TypeAttr(op.attributes["acc"]).value if "acc" in op.attributes else None
    result = ir.F64Type.get() if wide else ir.F32Type.get()
    return diag.contract(operands[0], operands[1], axes, dtype=result, acc=acc)
