"""Scalar ops of arith and math on register types: 16-bit floats are f32, positions are i32."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir, math_dialect
from diagc.targets.nvptx.tiles.instructions import Code

__all__ = ["Scalar", "as_value", "computed_type", "emit_scalar"]

Scalar: TypeAlias = ir.Value | bool | int | float
"""A value in registers, or a Python number that is known when the kernel is written."""

_LOG2_E = math.log2(math.e)


def computed_type(type_: ir.Type) -> ir.Type:
    """The type that elements of a type are computed in."""
    if isinstance(type_, (ir.F16Type, ir.BF16Type)):
        return ir.F32Type.get()
    return ir.IntegerType.get_signless(32) if isinstance(type_, ir.IndexType) else type_


def as_value(code: Code, type_: ir.Type, scalar: Scalar) -> ir.Value:
    """A scalar as a value of the type that elements of `type_` are computed in."""
    if isinstance(scalar, ir.Value):
        return scalar
    return code.constant(computed_type(type_), scalar)


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
    rule = _RULES.get(op.name)
    if rule is not None:
        return rule(code, op, values)
    if not op.name.startswith("arith.") or len(op.results) != 1:
        raise UnsupportedError(
            op.name, reason="tiles have no rule for it", location=op.location
        )
    return _generic(code, op, values)


def _fold(op: ir.Operation, operands: Sequence[Scalar]) -> Scalar | None:
    """Constants, and logic with a known side."""
    if op.name == "arith.constant":
        attr = op.attributes["value"]
        if isinstance(attr, ir.BoolAttr) or str(op.results[0].type) == "i1":
            return bool(attr.value)
        return attr.value if isinstance(attr, (ir.FloatAttr, ir.IntegerAttr)) else None
    known = [x for x in operands if isinstance(x, bool)]
    others = [x for x in operands if not isinstance(x, bool)]
    if not known or op.name not in ("arith.andi", "arith.ori", "arith.xori"):
        return None
    if op.name == "arith.xori":
        return (known[0] ^ known[1]) if len(known) == 2 else (None if known[0] else others[0])
    decisive = op.name == "arith.ori"
    if decisive in known:
        return decisive
    return others[0] if others else not decisive


def _generic(_code: Code, op: ir.Operation, values: Sequence[ir.Value]) -> ir.Value:
    """The same op on computed types, with fused multiply and add allowed."""
    attributes = {
        name: op.attributes[name] for name in op.attributes if not name.startswith("diag.")
    }
    if op.name in _FUSIBLE:
        attributes["fastmath"] = ir.Attribute.parse("#arith.fastmath<contract>")
    new = ir.Operation.create(
        op.name,
        results=[computed_type(op.results[0].type)],
        operands=list(values),
        attributes=attributes,
    )
    return new.results[0]


_FUSIBLE = ("arith.addf", "arith.subf", "arith.mulf")


def _resize(code: Code, op: ir.Operation, values: Sequence[ir.Value]) -> ir.Value:
    """extf and truncf: 16-bit floats are f32 here."""
    wanted = computed_type(op.results[0].type)
    if values[0].type != wanted:
        raise UnsupportedError(op.name, reason="tiles have no f64", location=op.location)
    return values[0]


def _resize_integer(_code: Code, op: ir.Operation, values: Sequence[ir.Value]) -> ir.Value:
    """Between the widths of integers."""
    (value,) = values
    wanted = computed_type(op.results[0].type)
    if wanted == value.type:
        return value
    if wanted.width < value.type.width:
        return arith.trunci(wanted, value)
    unsigned = op.name in ("arith.extui", "arith.index_castui") or value.type.width == 1
    return arith.extui(wanted, value) if unsigned else arith.extsi(wanted, value)


def _exp2(code: Code, _op: ir.Operation, values: Sequence[ir.Value]) -> ir.Value:
    return code.exp2(values[0])


def _exp(code: Code, _op: ir.Operation, values: Sequence[ir.Value]) -> ir.Value:
    """exp(x) = 2**(x log2 e), with one fused multiplication where x is a product or a difference.

    exp(a c - m) costs one fma and one ex2 then, as m log2 e is the same for a row.
    """
    (value,) = values
    scale = code.constant(code.f32, _LOG2_E)
    difference = _operands(value, "arith.subf")
    if difference is None:
        return code.exp2(arith.mulf(value, scale))
    shifted, shift = difference
    negative = arith.mulf(shift, code.constant(code.f32, -_LOG2_E))
    product = _operands(shifted, "arith.mulf")
    factor = None if product is None else _literal(product[1])
    if product is not None and factor is not None and math.isfinite(factor) and factor != 0:
        scale = code.constant(code.f32, factor * _LOG2_E)
        shifted = product[0]
    return code.exp2(code.fma(shifted, scale, negative))


def _operands(value: ir.Value, name: str) -> tuple[ir.Value, ir.Value] | None:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != name:
        return None
    return owner.operands[0], owner.operands[1]


def _literal(value: ir.Value) -> float | None:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != "arith.constant":
        return None
    return float(ir.FloatAttr(owner.attributes["value"]).value)


def _absolute(_code: Code, _op: ir.Operation, values: Sequence[ir.Value]) -> ir.Value:
    return math_dialect.absf(values[0])


def _root(_code: Code, _op: ir.Operation, values: Sequence[ir.Value]) -> ir.Value:
    return math_dialect.sqrt(values[0])


def _reciprocal_root(code: Code, _op: ir.Operation, values: Sequence[ir.Value]) -> ir.Value:
    return arith.divf(code.constant(code.f32, 1.0), math_dialect.sqrt(values[0]))


Rule = Callable[[Code, ir.Operation, Sequence[ir.Value]], ir.Value]

_RULES: Mapping[str, Rule] = {
    "arith.extf": _resize,
    "arith.truncf": _resize,
    "math.exp": _exp,
    "math.exp2": _exp2,
    "math.absf": _absolute,
    "math.sqrt": _root,
    "math.rsqrt": _reciprocal_root,
    **dict.fromkeys(
        (
            "arith.index_cast",
            "arith.index_castui",
            "arith.extsi",
            "arith.extui",
            "arith.trunci",
        ),
        _resize_integer,
    ),
}
