"""The meaning of arith and math ops, elementwise on float64, int64 and bool arrays.

Integers are two's complement: results are wrapped to the width of their type. Floats are float64
whatever their type says, unless casts are rounded.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.interp.frame import Frame
from diagc.targets.interp.rounding import (
    Array,
    bit_width,
    float8_bits,
    float8_numbers,
    round_to,
    to_unsigned,
    wrap,
)
from diagc.targets.interp.rules import rule

__all__: list[str] = []

Function = Callable[..., Any]

_SQRT_2 = math.sqrt(2.0)


def _each(function: Callable[[float], float]) -> Function:
    """A function of the standard library, elementwise; NaN stays NaN."""
    ufunc = np.frompyfunc(lambda x: math.nan if x != x else function(x), 1, 1)
    return lambda x: np.asarray(ufunc(x), dtype=np.float64)


def _sign_of_dividend(lhs: Array, rhs: Array) -> Array:
    return np.fmod(lhs, rhs)


def _round_half_away(x: Array) -> Array:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def _power(base: Array, exponent: Array) -> Array:
    return np.power(base, exponent.astype(np.float64))


_FLOAT: dict[str, Function] = {
    "arith.addf": np.add,
    "arith.divf": np.divide,
    "arith.maximumf": np.maximum,
    "arith.maxnumf": np.fmax,
    "arith.minimumf": np.minimum,
    "arith.minnumf": np.fmin,
    "arith.mulf": np.multiply,
    "arith.negf": np.negative,
    "arith.remf": _sign_of_dividend,
    "arith.subf": np.subtract,
    "math.absf": np.abs,
    "math.acos": np.arccos,
    "math.acosh": np.arccosh,
    "math.asin": np.arcsin,
    "math.asinh": np.arcsinh,
    "math.atan": np.arctan,
    "math.atan2": np.arctan2,
    "math.atanh": np.arctanh,
    "math.cbrt": np.cbrt,
    "math.ceil": np.ceil,
    "math.clampf": np.clip,
    "math.copysign": np.copysign,
    "math.cos": np.cos,
    "math.cosh": np.cosh,
    "math.erf": _each(math.erf),
    "math.erfc": _each(math.erfc),
    "math.exp": np.exp,
    "math.exp2": np.exp2,
    "math.expm1": np.expm1,
    "math.floor": np.floor,
    "math.fma": lambda a, b, c: a * b + c,
    "math.fpowi": _power,
    "math.isfinite": np.isfinite,
    "math.isinf": np.isinf,
    "math.isnan": np.isnan,
    "math.log": np.log,
    "math.log10": np.log10,
    "math.log1p": np.log1p,
    "math.log2": np.log2,
    "math.powf": np.power,
    "math.round": _round_half_away,
    "math.roundeven": np.rint,
    "math.rsqrt": lambda x: 1.0 / np.sqrt(x),
    "math.sin": np.sin,
    "math.sinh": np.sinh,
    "math.sqrt": np.sqrt,
    "math.tan": np.tan,
    "math.tanh": np.tanh,
    "math.trunc": np.trunc,
}


def _divide_toward_zero(lhs: Array, rhs: Array) -> Array:
    divisor = np.where(rhs == 0, 1, rhs)  # division by zero has no meaning; it must not trap
    return np.sign(lhs) * np.sign(divisor) * (np.abs(lhs) // np.abs(divisor))


def _remainder_toward_zero(lhs: Array, rhs: Array) -> Array:
    return lhs - _divide_toward_zero(lhs, rhs) * np.where(rhs == 0, 1, rhs)


def _shift_left(lhs: Array, rhs: Array) -> Array:
    return np.where(rhs < 64, lhs << np.minimum(rhs, 63), 0)


_SIGNED: dict[str, Function] = {
    "arith.addi": np.add,
    "arith.andi": np.bitwise_and,
    "arith.ceildivsi": lambda a, b: -(-a // np.where(b == 0, 1, b)),
    "arith.divsi": _divide_toward_zero,
    "arith.floordivsi": lambda a, b: a // np.where(b == 0, 1, b),
    "arith.maxsi": np.maximum,
    "arith.minsi": np.minimum,
    "arith.muli": np.multiply,
    "arith.ori": np.bitwise_or,
    "arith.remsi": _remainder_toward_zero,
    "arith.shli": _shift_left,
    "arith.shrsi": lambda a, b: a >> np.minimum(b, 63),
    "arith.subi": np.subtract,
    "arith.xori": np.bitwise_xor,
    "math.absi": np.abs,
    "math.ipowi": lambda a, b: np.power(a, np.maximum(b, 0)),
}

_UNSIGNED: dict[str, Function] = {
    "arith.ceildivui": lambda a, b: (a + np.maximum(b, 1) - 1) // np.maximum(b, 1),
    "arith.divui": lambda a, b: a // np.maximum(b, 1),
    "arith.maxui": np.maximum,
    "arith.minui": np.minimum,
    "arith.remui": lambda a, b: a % np.maximum(b, 1),
    "arith.shrui": lambda a, b: np.where(b < 64, a >> np.minimum(b, 63), 0),
    "math.ctpop": np.bitwise_count,
}


@rule(*_FLOAT)
def _float_op(op: ir.Operation, frame: Frame) -> list[Array]:
    return [_FLOAT[op.name](*frame.operands(op))]


@rule(*_SIGNED)
def _signed_op(op: ir.Operation, frame: Frame) -> list[Array]:
    operands = [_signed(array) for array in frame.operands(op)]
    return [wrap(_SIGNED[op.name](*operands), op.results[0].type)]


def _signed(array: Array) -> Array:
    """int64; true is -1, as the one bit of i1 says."""
    return -array.astype(np.int64) if array.dtype == np.bool_ else array


@rule(*_UNSIGNED)
def _unsigned_op(op: ir.Operation, frame: Frame) -> list[Array]:
    type_ = op.results[0].type
    operands = [to_unsigned(array, type_) for array in frame.operands(op)]
    result = np.asarray(_UNSIGNED[op.name](*operands)).astype(np.uint64)
    return [wrap(result.view(np.int64), type_)]


# predicate number -> comparison, and what it gives when an operand is NaN
_CMPF: tuple[tuple[Function, bool], ...] = tuple(
    (function, unordered)
    for unordered in (False, True)
    for function in (
        np.equal,
        np.greater,
        np.greater_equal,
        np.less,
        np.less_equal,
        np.not_equal,
    )
)
_CMPI: tuple[Function, ...] = (
    np.equal,
    np.not_equal,
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
)


@rule("arith.cmpf")
def _cmpf(op: ir.Operation, frame: Frame) -> list[Array]:
    """Predicates: 0 false, 1-6 ordered, 7 neither is NaN, 8-13 unordered, 14 a NaN, 15 true."""
    lhs, rhs = frame.operands(op)
    nan = np.isnan(lhs) | np.isnan(rhs)
    number = op.attributes["predicate"].value
    whole = {0: np.zeros_like(nan), 7: ~nan, 14: nan, 15: np.ones_like(nan)}
    if number in whole:
        return [whole[number]]
    function, unordered = _CMPF[number - 1 if number < 7 else number - 2]
    return [np.where(nan, unordered, function(lhs, rhs))]


@rule("arith.cmpi")
def _cmpi(op: ir.Operation, frame: Frame) -> list[Array]:
    """Predicates: eq, ne, signed lt le gt ge, unsigned lt le gt ge."""
    lhs, rhs = (_signed(array) for array in frame.operands(op))
    number = op.attributes["predicate"].value
    if number < 6:
        return [_CMPI[number](lhs, rhs)]
    type_ = op.operands[0].type
    return [_CMPI[number - 4](to_unsigned(lhs, type_), to_unsigned(rhs, type_))]


@rule("arith.select")
def _select(op: ir.Operation, frame: Frame) -> list[Array]:
    return [np.where(*frame.operands(op))]


@rule("arith.constant")
def _constant(op: ir.Operation, frame: Frame) -> list[Array]:
    return [np.asarray(op.attributes["value"].value)]


@rule("arith.extf", "arith.index_cast", "arith.extsi", "arith.sitofp", "arith.trunci")
def _signed_cast(op: ir.Operation, frame: Frame) -> list[Array]:
    (operand,) = frame.operands(op)
    type_ = op.results[0].type
    if isinstance(type_, (ir.IntegerType, ir.IndexType)):
        return [wrap(_signed(operand), type_)]
    return [_signed(operand).astype(np.float64)]


@rule("arith.extui", "arith.index_castui", "arith.uitofp")
def _unsigned_cast(op: ir.Operation, frame: Frame) -> list[Array]:
    (operand,) = frame.operands(op)
    unsigned = to_unsigned(operand, op.operands[0].type)
    type_ = op.results[0].type
    if isinstance(type_, (ir.IntegerType, ir.IndexType)):
        return [wrap(unsigned.view(np.int64), type_)]
    return [unsigned.astype(np.float64)]


@rule("arith.truncf")
def _truncf(op: ir.Operation, frame: Frame) -> list[Array]:
    (operand,) = frame.operands(op)
    if not frame.options.round_casts and not diag.is_stored_float(op.results[0].type):
        return [operand]
    return [round_to(operand, str(op.results[0].type))]


@rule("arith.fptosi", "arith.fptoui")
def _float_to_int(op: ir.Operation, frame: Frame) -> list[Array]:
    """Toward zero; values that do not fit have no meaning and give 0."""
    (operand,) = frame.operands(op)
    type_ = op.results[0].type
    limit = 2.0 ** min(bit_width(type_), 63)
    whole = np.where(np.abs(operand) < limit, np.trunc(operand), 0.0)
    return [wrap(whole.astype(np.int64), type_)]


# width and class of a type -> the numpy dtype that holds its bits
_BITS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
_INTS = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}


@rule("arith.bitcast")
def _bitcast(op: ir.Operation, frame: Frame) -> list[Array]:
    (operand,) = frame.operands(op)
    return [_from_bits(_to_bits(operand, op.operands[0].type), op.results[0].type)]


def _to_bits(array: Array, type_: ir.Type) -> Array:
    """The bits of numbers of `type_`, as int64."""
    if str(type_) == "f8E4M3FN":
        return float8_bits(array).view(np.int8).astype(np.int64)
    if str(type_) == "bf16":
        single = round_to(array, "bf16").astype(np.float32)
        return (single.view(np.int32) >> 16).astype(np.int64)
    if str(type_) in _BITS:
        typed = array.astype(_BITS[str(type_)])
        return typed.view(_INTS[8 * typed.itemsize]).astype(np.int64)
    return _signed(array)


def _from_bits(bits: Array, type_: ir.Type) -> Array:
    if str(type_) == "f8E4M3FN":
        return float8_numbers(bits.astype(np.uint8))
    if str(type_) == "bf16":
        return (bits.astype(np.int32) << 16).view(np.float32).astype(np.float64)
    if str(type_) in _BITS:
        dtype = np.dtype(_BITS[str(type_)])
        return bits.astype(_INTS[8 * dtype.itemsize]).view(dtype).astype(np.float64)
    return wrap(bits, type_)
