"""f8E4M3FN from and to f32 by integer arithmetic, the same bits on every target.

Four bits of exponent with bias 7, three of mantissa, no infinity: the largest number is 448, and
127 (with either sign) is NaN. "FP8 Formats for Deep Learning", arXiv 2209.05433. Rounding is that
of torch's casts and of PTX's `cvt.rn.satfinite`: to nearest, ties to even; what is larger than 448,
infinity too, becomes 448.
"""

from diagc.mlir import arith, ir
from diagc.targets.elementwise.code import ScalarCode, is_vector

__all__ = ["float8_bits", "float8_rounded", "float8_value", "is_float8"]

_REBIAS = 120 << 23
"""From the exponent's bias of 7 to that of f32, 127."""
_NAN = 0x7F
_NO_SIGN = 0x7FFFFFFF
_INFINITY = 0x7F800000
_LARGEST = 0x43E00000  # 448
_SMALLEST_NORMAL = 0x3C800000  # 2**-6
_UNIT_MAGNET = 0x46800000  # 2**14: sums with it are multiples of 2**-9, the smallest number
_HALF_UNIT = 0x7FFFF


def is_float8(type_: ir.Type) -> bool:
    """Whether elements are f8E4M3FN."""
    return isinstance(type_, ir.Float8E4M3FNType)


def float8_value(code: ScalarCode, bits: ir.Value) -> ir.Value:
    """The f32 (exact) that a byte stands for; scalars or vectors.

    Subnormal numbers are a difference of normal ones, so that it does not matter whether the
    hardware flushes them.
    """
    wide = arith.extui(_like(bits, code.i32), bits)
    size = arith.andi(wide, code.like(wide, 0x7F))
    shifted = arith.shli(size, code.like(wide, 20))
    normal = _number(code, arith.addi(shifted, code.like(wide, _REBIAS)))
    raised = _number(code, arith.addi(shifted, code.like(wide, _REBIAS + (1 << 23))))
    small = arith.subf(raised, code.like(raised, 2.0**-6))
    is_small = arith.cmpi(arith.CmpIPredicate.ult, size, code.like(size, 8))
    is_nan = arith.cmpi(arith.CmpIPredicate.eq, size, code.like(size, _NAN))
    value = arith.select(is_small, small, normal)
    value = arith.select(is_nan, code.like(value, float("nan")), value)
    sign = arith.shli(arith.andi(wide, code.like(wide, 0x80)), code.like(wide, 24))
    return _number(code, arith.ori(arith.bitcast(wide.type, value), sign))


def float8_bits(code: ScalarCode, value: ir.Value) -> ir.Value:
    """The byte (i8) of the nearest f8E4M3FN to an f32."""
    word = arith.bitcast(_like(value, code.i32), value)
    size = arith.andi(word, code.like(word, _NO_SIGN))
    magnet = code.like(word, _UNIT_MAGNET)
    unit = arith.addf(_number(code, size), _number(code, magnet))
    small = arith.subi(arith.bitcast(word.type, unit), magnet)
    kept = arith.minui(size, code.like(size, _LARGEST))
    odd = arith.andi(arith.shrui(kept, code.like(size, 20)), code.like(size, 1))
    rounded = arith.addi(arith.addi(kept, code.like(size, _HALF_UNIT - _REBIAS)), odd)
    normal = arith.shrui(rounded, code.like(rounded, 20))
    is_small = arith.cmpi(arith.CmpIPredicate.ult, size, code.like(size, _SMALLEST_NORMAL))
    is_nan = arith.cmpi(arith.CmpIPredicate.ugt, size, code.like(size, _INFINITY))
    found = arith.select(is_small, small, normal)
    found = arith.select(is_nan, code.like(found, _NAN), found)
    sign = arith.andi(arith.shrui(word, code.like(word, 24)), code.like(word, 0x80))
    return arith.trunci(_like(value, code.i8), arith.ori(found, sign))


def float8_rounded(code: ScalarCode, value: ir.Value) -> ir.Value:
    """The f32 that is the nearest f8E4M3FN to an f32."""
    return float8_value(code, float8_bits(code, value))


def _like(value: ir.Value, scalar: ir.Type) -> ir.Type:
    """`scalar`, or a vector of it when `value` is one."""
    return ir.VectorType.get(value.type.shape, scalar) if is_vector(value) else scalar


def _number(code: ScalarCode, bits: ir.Value) -> ir.Value:
    return arith.bitcast(_like(bits, code.f32), bits)
