"""Element types as numpy sees them: float64, int64 or bool, and rounding to narrower types."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from diagc.mlir import ir

__all__ = [
    *("Array", "bit_width", "float8_bits", "float8_numbers", "numpy_dtype", "round_to"),
    *("to_unsigned", "wrap"),
]

Array: TypeAlias = npt.NDArray[Any]

# element type -> (bits of the significand, smallest exponent of a normal number, largest number)
_FORMATS = {
    "f8E4M3FN": (4, -6, 448.0),
    "f16": (11, -14, 65504.0),
    "bf16": (8, -126, float.fromhex("0x1.fep127")),
    "f32": (24, -126, float.fromhex("0x1.fffffep127")),
}


def numpy_dtype(type_: ir.Type) -> np.dtype[Any]:
    """The dtype that the interpreter computes elements of `type_` in."""
    if isinstance(type_, ir.IntegerType):
        return _BOOL if type_.width == 1 else _INT
    return _INT if isinstance(type_, ir.IndexType) else _FLOAT


_BOOL, _INT, _FLOAT = np.dtype(np.bool_), np.dtype(np.int64), np.dtype(np.float64)


def bit_width(type_: ir.Type) -> int:
    """Bits of an integer type; `index` has 64."""
    return 64 if isinstance(type_, ir.IndexType) else int(ir.IntegerType(type_).width)


def round_to(values: Array, type_: str) -> Array:
    """Round float64 values to the nearest number of a float type, ties to even.

    `type_` is f8E4M3FN, f16, bf16, f32 or f64. Too large numbers become infinite, in f8
    the largest, as infinity does; subnormals are kept.
    """
    if type_ not in _FORMATS:
        return values
    digits, smallest, largest = _FORMATS[type_]
    _, exponent = np.frexp(values)
    quantum = np.maximum(exponent, smallest + 1) - digits
    rounded = np.ldexp(np.rint(np.ldexp(values, -quantum)), quantum)
    rounded = np.where(np.isfinite(values), rounded, values)
    if type_ == "f8E4M3FN":
        return np.clip(rounded, -largest, largest)
    return np.where(np.abs(rounded) > largest, np.copysign(np.inf, rounded), rounded)


_EXPONENTS, _MANTISSAS = np.divmod(np.arange(128), 8)
_FLOAT8 = np.ldexp(_MANTISSAS + 8.0 * (_EXPONENTS > 0), np.maximum(_EXPONENTS, 1) - 10)
_FLOAT8[127] = np.nan
"""What the bytes 0 to 127 stand for in f8E4M3FN, in order."""


def float8_bits(values: Array) -> Array:
    """The bytes (uint8) of the nearest f8E4M3FN to float64 values."""
    found = np.searchsorted(_FLOAT8[:127], np.abs(round_to(values, "f8E4M3FN")))
    return np.asarray(found + 128 * np.signbit(values), dtype=np.uint8)


def float8_numbers(bits: Array) -> Array:
    """The float64 numbers that bytes (uint8) of f8E4M3FN stand for."""
    return np.where(bits < 128, _FLOAT8[bits & 127], -_FLOAT8[bits & 127])


def wrap(values: Array, type_: ir.Type) -> Array:
    """Integers modulo the width of `type_`, as two's complement in int64; bool for i1."""
    width = bit_width(type_)
    values = np.asarray(values).astype(np.int64)
    if width == 1:
        return (values & 1).astype(np.bool_)
    if width >= 64:
        return values
    half = np.int64(1) << (width - 1)
    mask = (np.int64(1) << width) - 1
    return ((values + half) & mask) - half


def to_unsigned(values: Array, type_: ir.Type) -> Array:
    """The bits of two's complement integers of `type_` read as unsigned numbers (uint64)."""
    width = bit_width(type_)
    unsigned = values.astype(np.int64).view(np.uint64)
    return unsigned if width >= 64 else unsigned & np.uint64((1 << width) - 1)
