"""Scalar functions of a GPU thread, without libdevice: hardware instructions and polynomials.

f32: `ex2.approx` on the reduced argument for exponentials, the shared polynomials for the rest. f64
and what is rare in f32 is computed in f64 by series on a reduced range.
"""

from collections.abc import Callable, Mapping, Sequence
from math import factorial, log, pi

from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir, math_dialect
from diagc.targets.elementwise import approximations
from diagc.targets.elementwise.approximations import LN2_HIGH, LN2_LOW, LOG2_E, ROUND, polynomial
from diagc.targets.elementwise.code import Rule, ScalarCode

__all__ = ["RULES"]

Values = Sequence[ir.Value]

LARGEST_SMALL_ANGLE = 8192.0


def _is_double(value: ir.Value) -> bool:
    return isinstance(value.type, ir.F64Type)


def _compare(predicate: str, a: ir.Value, b: ir.Value) -> ir.Value:
    return arith.cmpf(getattr(arith.CmpFPredicate, predicate), a, b)


# ---- instructions --------------------------------------------------------------------------------


def _intrinsic(name: str) -> Rule:
    """A function that LLVM has as an intrinsic of the same type: exact, no library."""

    def emit(code: ScalarCode, op: ir.Operation, operands: Values) -> ir.Value:
        return code.intrinsic(name, operands[0].type, operands)

    return emit


def sqrt(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Square root, rounded to nearest."""
    return code.intrinsic("llvm.sqrt", x.type, [x])


def absolute(code: ScalarCode, x: ir.Value) -> ir.Value:
    """|x|."""
    return code.intrinsic("llvm.fabs", x.type, [x])


def _sqrt(code: ScalarCode, _op: ir.Operation, operands: Values) -> ir.Value:
    return sqrt(code, operands[0])


def _reciprocal_root(code: ScalarCode, _op: ir.Operation, operands: Values) -> ir.Value:
    (x,) = operands
    return arith.divf(code.like(x, 1.0), sqrt(code, x))


def _round(code: ScalarCode, _op: ir.Operation, operands: Values) -> ir.Value:
    """Halves away from 0: trunc(x), plus a sign where the rest is a half or more."""
    (x,) = operands
    whole = code.intrinsic("llvm.trunc", x.type, [x])
    rest = absolute(code, arith.subf(x, whole))
    one = math_dialect.copysign(code.like(x, 1.0), x)
    found = arith.addf(whole, one)
    found = arith.select(_compare("OGE", rest, code.like(x, 0.5)), found, whole)
    return math_dialect.copysign(found, x)


def _is_infinite(code: ScalarCode, _op: ir.Operation, operands: Values) -> ir.Value:
    (x,) = operands
    return _compare("OEQ", absolute(code, x), code.like(x, float("inf")))


# ---- f32 -----------------------------------------------------------------------------------------


def exp(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Exp over the whole range: 2^n * ex2(r / ln 2), r = x - n ln 2 in two parts, |r| <= ln 2 / 2."""
    low, high = code.like(x, -104.0), code.like(x, 89.0)
    clamped = arith.minnumf(arith.maxnumf(x, low), high)
    rounded = code.fma(clamped, code.like(x, LOG2_E), code.like(x, ROUND))
    n = arith.subf(rounded, code.like(x, ROUND))
    r = code.fma(n, code.like(x, -LN2_HIGH), clamped)
    r = code.fma(n, code.like(x, -LN2_LOW), r)
    value = _ex2(code, arith.mulf(r, code.like(x, LOG2_E)))
    value = _scaled(code, value, rounded)
    return arith.select(_compare("UNO", x, x), x, value)


def exp_nonpositive(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Exp of x <= 0 (or slightly above): results below 2^-126 become exactly 0."""
    rounded = code.fma(x, code.like(x, LOG2_E), code.like(x, ROUND))
    n = arith.subf(rounded, code.like(x, ROUND))
    r = code.fma(n, code.like(x, -approximations.LN2), x)
    value = _ex2(code, arith.mulf(r, code.like(x, LOG2_E)))
    bits, shift = arith.bitcast(code.i32, value), arith.bitcast(code.i32, rounded)
    shift = arith.shli(shift, code.like(shift, 23))
    scaled = arith.bitcast(code.f32, arith.addi(bits, shift))
    tiny = _compare("OLT", x, code.like(x, approximations.EXP_UNDERFLOW))
    return arith.select(tiny, code.like(x, 0.0), scaled)


def _ex2(code: ScalarCode, x: ir.Value) -> ir.Value:
    return code.intrinsic("llvm.nvvm.ex2.approx.ftz.f32", x.type, [x])


def _scaled(code: ScalarCode, value: ir.Value, rounded: ir.Value) -> ir.Value:
    """Value * 2^n in two factors, because 2^n alone may overflow; n stands in low bits."""
    exponent = arith.bitcast(code.i32, rounded)
    exponent = arith.subi(exponent, code.like(exponent, 0x4B400000))
    half = arith.shrsi(exponent, code.like(exponent, 1))
    for part in (half, arith.subi(exponent, half)):
        biased = arith.addi(part, code.like(part, 127))
        power = arith.bitcast(code.f32, arith.shli(biased, code.like(biased, 23)))
        value = arith.mulf(value, power)
    return value


def _by_double(function: Callable[..., ir.Value]) -> Callable[..., ir.Value]:
    """An f32 function by way of f64: right but for the last rounding."""

    def emit(code: ScalarCode, *operands: ir.Value) -> ir.Value:
        wide = [arith.extf(ir.F64Type.get(), x) for x in operands]
        return arith.truncf(code.f32, function(code, *wide))

    return emit


# ---- f64 -----------------------------------------------------------------------------------------

_LN2_PARTS = (0.693147180369123816490, 1.90821492927058770002e-10)
_ROUND64 = 6755399441055744.0  # 1.5 * 2^52
_EXP64 = tuple(1 / factorial(k) for k in range(14))
# (log((1 + s) / (1 - s)) - 2 s) / s^3 in s^2
_LOG64 = tuple(2 / (2 * k + 3) for k in range(11))
_SIN64 = tuple((-1) ** k / factorial(2 * k + 1) for k in range(9))
_COS64 = tuple((-1) ** k / factorial(2 * k) for k in range(9))
# pi/2 in three parts of 33 bits: products with whole numbers below 2^20 are exact
_HALF_PI = (1.57079632673412561417e0, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
LARGEST_ANGLE = 2.0**20 * pi / 2


def _bits64(x: ir.Value) -> ir.Value:
    return arith.bitcast(ir.IntegerType.get_signless(64), x)


def _float64(bits: ir.Value) -> ir.Value:
    return arith.bitcast(ir.F64Type.get(), bits)


def exp64(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Exp in f64 by its series on |r| <= ln 2 / 2."""
    clamped = arith.minnumf(arith.maxnumf(x, code.like(x, -746.0)), code.like(x, 710.0))
    rounded = code.fma(clamped, code.like(x, 1 / log(2)), code.like(x, _ROUND64))
    n = arith.subf(rounded, code.like(x, _ROUND64))
    r = clamped
    for part in _LN2_PARTS:
        r = code.fma(n, code.like(x, -part), r)
    value = polynomial(code, _EXP64, r)
    exponent = arith.subi(_bits64(rounded), _bits64(code.like(x, _ROUND64)))
    half = arith.shrsi(exponent, code.like(exponent, 1))
    for part_ in (half, arith.subi(exponent, half)):
        biased = arith.addi(part_, code.like(part_, 1023))
        value = arith.mulf(value, _float64(arith.shli(biased, code.like(biased, 52))))
    return arith.select(_compare("UNO", x, x), x, value)


def log64(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Natural logarithm in f64: x = 2^e m, log m = 2 artanh(s), s = (m - 1) / (m + 1)."""
    tiny = _compare("OLT", x, code.like(x, 2.0**-1022))
    scaled = arith.select(tiny, arith.mulf(x, code.like(x, 2.0**54)), x)
    bits = _bits64(scaled)
    shifted = arith.subi(bits, code.like(bits, 0x3FE6A09E667F3BCD))
    exponent = arith.shrsi(shifted, code.like(bits, 52))
    m = _float64(arith.subi(bits, arith.shli(exponent, code.like(bits, 52))))
    e = arith.sitofp(x.type, exponent)
    e = arith.select(tiny, arith.subf(e, code.like(x, 54.0)), e)
    one = code.like(x, 1.0)
    f = arith.subf(m, one)
    s = arith.divf(f, arith.addf(m, one))
    square = arith.mulf(s, s)
    # log m = f - s (f - R), R = 2 s^3 (1/3 + ...) / s: f is exact, so little is lost near 1
    tail = arith.mulf(square, polynomial(code, _LOG64, square))
    value = arith.subf(f, arith.mulf(s, arith.subf(f, tail)))
    value = arith.addf(value, arith.mulf(e, code.like(x, _LN2_PARTS[1])))
    value = code.fma(e, code.like(x, _LN2_PARTS[0]), value)
    value = arith.select(_compare("OEQ", x, code.like(x, float("inf"))), x, value)
    is_zero = _compare("OEQ", x, code.like(x, 0.0))
    value = arith.select(is_zero, code.like(x, float("-inf")), value)
    return arith.select(_compare("ULT", x, code.like(x, 0.0)), code.like(x, float("nan")), value)


def _sincos64(quarter: int) -> Callable[[ScalarCode, ir.Value], ir.Value]:
    def emit(code: ScalarCode, x: ir.Value) -> ir.Value:
        """Sine of x + quarter * pi / 2; NaN beyond `LARGEST_ANGLE`, which is refused before."""
        rounded = code.fma(x, code.like(x, 2 / pi), code.like(x, _ROUND64))
        n = arith.subf(rounded, code.like(x, _ROUND64))
        r = x
        for part in _HALF_PI:
            r = code.fma(n, code.like(x, -part), r)
        square = arith.mulf(r, r)
        sine = arith.mulf(r, polynomial(code, _SIN64, square))
        cosine = polynomial(code, _COS64, square)
        bits = _bits64(rounded)
        quadrant = arith.addi(bits, code.like(bits, quarter))
        value = arith.select(_bit(code, quadrant, 1), cosine, sine)
        return arith.select(_bit(code, quadrant, 2), arith.negf(value), value)

    return emit


def _bit(code: ScalarCode, bits: ir.Value, bit: int) -> ir.Value:
    found = arith.andi(bits, code.like(bits, bit))
    return arith.cmpi(arith.CmpIPredicate.ne, found, code.like(bits, 0))


def expm1_64(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Exp(x) - 1 in f64 (Kahan)."""
    return approximations.expm1_by(code, x, lambda v: exp64(code, v), lambda v: log64(code, v))


def tanh64(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Hyperbolic tangent in f64: t / (t + 2), t = expm1(2 |x|), with its sign."""
    size = arith.minnumf(absolute(code, x), code.like(x, 30.0))
    t = expm1_64(code, arith.addf(size, size))
    value = arith.divf(t, arith.addf(t, code.like(x, 2.0)))
    value = math_dialect.copysign(value, x)
    return arith.select(_compare("UNO", x, x), x, value)


def log1p64(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Log(1 + x) in f64."""
    return approximations.log1p_by(code, x, lambda v: log64(code, v))


# ---- f32 and f64 by name -------------------------------------------------------------------------

Function = Callable[[ScalarCode, ir.Value], ir.Value]

F32: Mapping[str, Function] = {
    **approximations.F32_FUNCTIONS,
    "math.exp": exp,
}
F64: Mapping[str, Function] = {
    "math.exp": exp64,
    "math.exp2": lambda code, x: exp64(code, arith.mulf(x, code.like(x, log(2)))),
    "math.expm1": expm1_64,
    "math.log": log64,
    "math.log1p": log1p64,
    "math.log2": lambda code, x: arith.mulf(log64(code, x), code.like(x, 1 / log(2))),
    "math.log10": lambda code, x: arith.mulf(log64(code, x), code.like(x, 1 / log(10))),
    "math.tanh": tanh64,
}


def _function(code: ScalarCode, op: ir.Operation, operands: Values) -> ir.Value:
    (x,) = operands
    if _is_double(x):
        if op.name not in F64:
            raise UnsupportedError(op.name, reason="in f64 on a GPU", location=op.location)
        return F64[op.name](code, x)
    if op.name == "math.exp" and "diag.nonpositive" in op.attributes:
        return exp_nonpositive(code, x)
    if op.name in F32:
        return F32[op.name](code, x)
    return _by_double(F64[op.name])(code, x)


def _angle(code: ScalarCode, op: ir.Operation, operands: Values) -> ir.Value:
    """Sine and cosine through f64, which reduces every angle below 2^20 turns well."""
    raise UnsupportedError(op.name, reason="on a GPU", location=op.location)


def _power(code: ScalarCode, op: ir.Operation, operands: Values) -> ir.Value:
    raise UnsupportedError(op.name, reason="on a GPU", location=op.location)


RULES: Mapping[str, Rule] = {
    "math.sqrt": _sqrt,
    "math.rsqrt": _reciprocal_root,
    "math.absf": _intrinsic("llvm.fabs"),
    "math.floor": _intrinsic("llvm.floor"),
    "math.ceil": _intrinsic("llvm.ceil"),
    "math.trunc": _intrinsic("llvm.trunc"),
    "math.roundeven": _intrinsic("llvm.rint"),
    "math.round": _round,
    "math.isinf": _is_infinite,
    **dict.fromkeys((*F32, *F64), _function),
}
