"""Scalars of map bodies in registers: known ones are folded, exponentials are one instruction."""

import math
from collections.abc import Sequence
from typing import TypeAlias

from diagc.mlir import arith, ir
from diagc.targets.elementwise.scalars import compute_type, emit_scalar_op
from diagc.targets.nvptx.tiles.instructions import Code

__all__ = ["LOG2_E", "Scalar", "as_value", "emit_scalar"]

Scalar: TypeAlias = ir.Value | bool | int | float
"""A value in registers, or a Python number that is known when the kernel is written."""

LOG2_E = math.log2(math.e)


def as_value(code: Code, type_: ir.Type, scalar: Scalar) -> ir.Value:
    """A scalar as a value of the type that elements of `type_` are computed in."""
    if isinstance(scalar, ir.Value):
        return scalar
    return code.scalar(compute_type(type_), scalar)


def emit_scalar(code: Code, op: ir.Operation, operands: Sequence[Scalar]) -> Scalar:
    """One op of a map body.

    Raises:
        UnsupportedError: there is no rule for it.
    """
    folded = _fold(op, operands)
    if folded is not None:
        return folded
    values = [
        as_value(code, operand.type, scalar)
        for operand, scalar in zip(op.operands, operands, strict=True)
    ]
    if op.name == "math.exp" and "diag.nonpositive" in op.attributes:
        return _exp(code, values[0])
    found = emit_scalar_op(code, op, values)
    if op.name in _FUSIBLE:
        found.owner.attributes["fastmath"] = code.contract
    return found


_FUSIBLE = ("arith.addf", "arith.mulf")
"""May become one fused multiply and add; a difference may be one of equal numbers, exactly 0."""


def _fold(op: ir.Operation, operands: Sequence[Scalar]) -> Scalar | None:
    """Constants, and logic with a known side."""
    if op.name == "arith.constant":
        attr = op.attributes["value"]
        if str(op.results[0].type) == "i1":
            return bool(attr.value)
        return attr.value if isinstance(attr, (ir.FloatAttr, ir.IntegerAttr)) else None
    known = [x for x in operands if isinstance(x, bool)]
    others = [x for x in operands if not isinstance(x, bool)]
    if not known or op.name not in ("arith.andi", "arith.ori", "arith.xori"):
        return None
    if op.name == "arith.xori":
        if len(known) == 2:
            return known[0] ^ known[1]
        return None if known[0] else others[0]
    decisive = op.name == "arith.ori"
    if decisive in known:
        return decisive
    return others[0] if others else not decisive


def _exp(code: Code, value: ir.Value) -> ir.Value:
    """exp(x) = 2**(x log2 e) for x <= 0, of which small results matter less than large ones.

    A difference x = a - m is rounded before it is scaled: it is exact at a = m, however large m is.
    Where that need not be so, `references` takes one instruction less.
    """
    return code.exp2(arith.mulf(value, code.scalar(code.f32, LOG2_E)))
