"""Scalar expressions -> arith and math ops at the insertion point."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from diagc.errors import InternalError
from diagc.frontend.torch.scalar import INDEX, Apply, Const, Expr, ScalarType, is_float
from diagc.mlir import arith, ir, math_dialect

__all__ = ["element_type", "emit_scalar", "literal"]

_INTEGERS = {
    torch.bool: 1,
    torch.int8: 8,
    torch.uint8: 8,
    torch.int16: 16,
    torch.int32: 32,
    torch.int64: 64,
}
_UNSIGNED = (torch.bool, torch.uint8)


def element_type(dtype: ScalarType) -> ir.Type:
    """The MLIR type of one element.

    Raises:
        InternalError: a dtype that wires do not hold.
    """
    if dtype == INDEX:
        return ir.IndexType.get()
    floats = {
        torch.float8_e4m3fn: ir.Float8E4M3FNType,
        torch.float16: ir.F16Type,
        torch.bfloat16: ir.BF16Type,
        torch.float32: ir.F32Type,
        torch.float64: ir.F64Type,
    }
    assert isinstance(dtype, torch.dtype)
    if dtype in floats:
        return floats[dtype].get()
    if dtype in _INTEGERS:
        return ir.IntegerType.get_signless(_INTEGERS[dtype])
    raise InternalError(f"wires cannot hold {dtype}")


def literal(value: float | bool, dtype: ScalarType) -> ir.Value:
    """An `arith.constant`."""
    type_ = element_type(dtype)
    if is_float(dtype):
        return arith.constant(type_, ir.FloatAttr.get(type_, float(value)))
    if isinstance(type_, ir.IntegerType) and type_.width == 1:
        return arith.constant(type_, ir.IntegerAttr.get(type_, bool(value)))
    return arith.constant(type_, ir.IntegerAttr.get(type_, int(value)))


def emit_scalar(expr: Expr, leaf: Callable[[Expr], ir.Value]) -> ir.Value:
    """Emit an expression, each part once; `leaf` gives the values of operands and positions."""
    return _Emitter(leaf).value(expr)


class _Emitter:
    def __init__(self, leaf: Callable[[Expr], ir.Value]) -> None:
        self._leaf = leaf
        self._done: dict[int, ir.Value] = {}

    def value(self, expr: Expr) -> ir.Value:
        if id(expr) not in self._done:
            self._done[id(expr)] = self._emit(expr)
        return self._done[id(expr)]

    def _emit(self, expr: Expr) -> ir.Value:
        if isinstance(expr, Const):
            return literal(expr.value, expr.dtype)
        if not isinstance(expr, Apply):
            return self._leaf(expr)
        values = [self.value(arg) for arg in expr.args]
        if expr.name == "cast":
            return _emit_cast(values[0], expr.args[0].dtype, expr.dtype)
        return _emit_apply(expr.name, values, expr.args[-1].dtype)


def _emit_apply(name: str, values: Sequence[ir.Value], dtype: ScalarType) -> ir.Value:
    """One operation; `dtype` is that of the operands."""
    if name in _FLOAT_COMPARE:
        return _compare(name, values, dtype)
    table = _FLOAT if is_float(dtype) else _BOOL if dtype == torch.bool else _INTEGER
    if name not in table:
        raise InternalError(f"scalar operation '{name}' is not defined on {dtype}")
    result: ir.Value = table[name](*values)
    return result


# --- comparisons and conversions ---------------------------------------------------------------

_FLOAT_COMPARE = {"eq": "OEQ", "ne": "UNE", "lt": "OLT", "le": "OLE", "gt": "OGT", "ge": "OGE"}
_SIGNED_COMPARE = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}
_UNSIGNED_COMPARE = {"eq": "eq", "ne": "ne", "lt": "ult", "le": "ule", "gt": "ugt", "ge": "uge"}


def _compare(name: str, values: Sequence[ir.Value], dtype: ScalarType) -> ir.Value:
    if is_float(dtype):
        return arith.cmpf(getattr(arith.CmpFPredicate, _FLOAT_COMPARE[name]), *values)
    names = _UNSIGNED_COMPARE if dtype in _UNSIGNED else _SIGNED_COMPARE
    return arith.cmpi(getattr(arith.CmpIPredicate, names[name]), *values)


def _emit_cast(value: ir.Value, source: ScalarType, target: ScalarType) -> ir.Value:
    if target == torch.bool:
        return _compare("ne", (value, literal(0, source)), source)
    if INDEX in (source, target):
        return _cast_index(value, source, target)
    type_ = element_type(target)
    if is_float(source) and is_float(target):
        return _resize_float(value, type_)
    if is_float(source):
        return arith.fptoui(type_, value) if target in _UNSIGNED else arith.fptosi(type_, value)
    if is_float(target):
        return arith.uitofp(type_, value) if source in _UNSIGNED else arith.sitofp(type_, value)
    return _resize_integer(value, type_, source in _UNSIGNED)


def _cast_index(value: ir.Value, source: ScalarType, target: ScalarType) -> ir.Value:
    """Convert between index and anything, through i64."""
    i64 = element_type(torch.int64)
    if source == INDEX:
        return _emit_from(arith.index_cast(i64, value), torch.int64, target)
    return arith.index_cast(element_type(INDEX), _emit_from(value, source, torch.int64))


def _emit_from(value: ir.Value, source: ScalarType, target: ScalarType) -> ir.Value:
    return value if source == target else _emit_cast(value, source, target)


def _resize_float(value: ir.Value, type_: ir.Type) -> ir.Value:
    """Between bf16 and f16 through f32, because neither holds the other."""
    old, new = value.type.width, type_.width
    if old == new:
        return arith.truncf(type_, arith.extf(ir.F32Type.get(), value))
    return arith.extf(type_, value) if old < new else arith.truncf(type_, value)


def _resize_integer(value: ir.Value, type_: ir.Type, unsigned: bool) -> ir.Value:
    old, new = value.type.width, type_.width
    if old == new:
        return value
    if old > new:
        return arith.trunci(type_, value)
    return arith.extui(type_, value) if unsigned else arith.extsi(type_, value)


# --- arithmetic --------------------------------------------------------------------------------


def _float_literal(value: float, like: ir.Value) -> ir.Value:
    return arith.constant(like.type, ir.FloatAttr.get(like.type, value))


def _integer_literal(value: int, like: ir.Value) -> ir.Value:
    return arith.constant(like.type, ir.IntegerAttr.get(like.type, value))


def _fmod(x: ir.Value, y: ir.Value) -> ir.Value:
    return arith.remf(x, y)


def _remainder(x: ir.Value, y: ir.Value) -> ir.Value:
    """Python's %: the sign of the divisor."""
    rest = arith.remf(x, y)
    zero = _float_literal(0.0, x)
    olt, une = arith.CmpFPredicate.OLT, arith.CmpFPredicate.UNE
    opposite = arith.xori(arith.cmpf(olt, rest, zero), arith.cmpf(olt, y, zero))
    wrong = arith.andi(arith.cmpf(une, rest, zero), opposite)
    return arith.select(wrong, arith.addf(rest, y), rest)


def _integer_remainder(x: ir.Value, y: ir.Value) -> ir.Value:
    return arith.subi(x, arith.muli(arith.floordivsi(x, y), y))


def _integer_abs(x: ir.Value) -> ir.Value:
    return math_dialect.absi(x)


_FLOAT_FUNCTIONS = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "erfc"),
    *("floor", "ceil", "trunc"),
)

_FLOAT: Mapping[str, Callable[..., Any]] = {
    "add": arith.addf,
    "sub": arith.subf,
    "mul": arith.mulf,
    "div": arith.divf,
    "max": arith.maximumf,
    "min": arith.minimumf,
    "neg": arith.negf,
    "abs": math_dialect.absf,
    "pow": math_dialect.powf,
    "atan2": math_dialect.atan2,
    "copysign": math_dialect.copysign,
    "fmod": _fmod,
    "remainder": _remainder,
    "select": arith.select,
    "round": math_dialect.roundeven,
    **{name: getattr(math_dialect, name) for name in _FLOAT_FUNCTIONS},
}

_INTEGER: Mapping[str, Callable[..., Any]] = {
    "add": arith.addi,
    "sub": arith.subi,
    "mul": arith.muli,
    "floordiv": arith.floordivsi,
    "truncdiv": arith.divsi,
    "remainder": _integer_remainder,
    "fmod": arith.remsi,
    "max": arith.maxsi,
    "min": arith.minsi,
    "neg": lambda x: arith.subi(_integer_literal(0, x), x),
    "abs": _integer_abs,
    "pow": math_dialect.ipowi,
    "and": arith.andi,
    "or": arith.ori,
    "xor": arith.xori,
    "not": lambda x: arith.xori(x, _integer_literal(-1, x)),
    "select": arith.select,
    "floor": lambda x: x,
    "ceil": lambda x: x,
    "trunc": lambda x: x,
    "round": lambda x: x,
}

_BOOL: Mapping[str, Callable[..., Any]] = {
    "and": arith.andi,
    "or": arith.ori,
    "xor": arith.xori,
    "add": arith.ori,
    "mul": arith.andi,
    "max": arith.ori,
    "min": arith.andi,
    "not": lambda x: arith.xori(x, _integer_literal(1, x)),
    "select": arith.select,
}
