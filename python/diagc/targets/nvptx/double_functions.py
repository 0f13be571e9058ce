"""f64 functions of a GPU thread by series on a reduced range; rare f32 functions use them too."""

from collections.abc import Callable
from math import factorial, log, pi

from diagc.mlir import arith, ir
from diagc.targets.elementwise import approximations
from diagc.targets.elementwise.approximations import polynomial
from diagc.targets.elementwise.code import ScalarCode

__all__ = [
    *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cosh", "exp", "exp2"),
    *("expm1", "log1p", "logarithm", "power", "power_by", "sinh", "split_exponent", "tanh"),
]


def _compare(predicate: str, a: ir.Value, b: ir.Value) -> ir.Value:
    return arith.cmpf(getattr(arith.CmpFPredicate, predicate), a, b)


_LN2_PARTS = (0.693147180369123816490, 1.90821492927058770002e-10)
# atan(t) / t in t^2 for |t| <= tan(pi / 16)
_ATAN = tuple((-1) ** k / (2 * k + 1) for k in range(11))
_NONE = float("-inf")
_ROUND64 = 6755399441055744.0  # 1.5 * 2^52
_EXP = tuple(1 / factorial(k) for k in range(14))
# (log((1 + s) / (1 - s)) - 2 s) / s^3 in s^2
_LOG = tuple(2 / (2 * k + 3) for k in range(11))


def _bits64(x: ir.Value) -> ir.Value:
    return arith.bitcast(ir.IntegerType.get_signless(64), x)


def _float64(bits: ir.Value) -> ir.Value:
    return arith.bitcast(ir.F64Type.get(), bits)


def exp(code: ScalarCode, x: ir.Value, low: ir.Value | None = None) -> ir.Value:
    """Exp in f64 by its series on |r| <= ln 2 / 2; of x + low, where that is given."""
    clamped = arith.minnumf(arith.maxnumf(x, code.like(x, -746.0)), code.like(x, 710.0))
    rounded = code.fma(clamped, code.like(x, 1 / log(2)), code.like(x, _ROUND64))
    n = arith.subf(rounded, code.like(x, _ROUND64))
    r = clamped
    for part in _LN2_PARTS:
        r = code.fma(n, code.like(x, -part), r)
    return arith.select(_compare("UNO", x, x), x, _scaled_exp(code, r, rounded, low))


def exp2(code: ScalarCode, x: ir.Value) -> ir.Value:
    """2^x in f64; the whole part of x is taken off exactly."""
    clamped = arith.minnumf(arith.maxnumf(x, code.like(x, -1080.0)), code.like(x, 1025.0))
    rounded = arith.addf(clamped, code.like(x, _ROUND64))
    rest = arith.subf(clamped, arith.subf(rounded, code.like(x, _ROUND64)))
    value = _scaled_exp(code, arith.mulf(rest, code.like(x, log(2))), rounded)
    return arith.select(_compare("UNO", x, x), x, value)


def _scaled_exp(
    code: ScalarCode, r: ir.Value, rounded: ir.Value, low: ir.Value | None = None
) -> ir.Value:
    """Exp(r) 2^n in two factors, as 2^n alone may overflow; n stands in low bits."""
    value = polynomial(code, _EXP, r)
    value = value if low is None else code.fma(value, low, value)
    exponent = arith.subi(_bits64(rounded), _bits64(code.like(r, _ROUND64)))
    half = arith.shrsi(exponent, code.like(exponent, 1))
    for part in (half, arith.subi(exponent, half)):
        biased = arith.addi(part, code.like(part, 1023))
        value = arith.mulf(value, _float64(arith.shli(biased, code.like(biased, 52))))
    return value


def split_exponent(code: ScalarCode, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """(m, e) with x = m 2^e, sqrt(1/2) <= m < sqrt(2), of finite x > 0."""
    tiny = _compare("OLT", x, code.like(x, 2.0**-1022))
    scaled = arith.select(tiny, arith.mulf(x, code.like(x, 2.0**54)), x)
    bits = _bits64(scaled)
    shifted = arith.subi(bits, code.like(bits, 0x3FE6A09E667F3BCD))
    exponent = arith.shrsi(shifted, code.like(bits, 52))
    m = _float64(arith.subi(bits, arith.shli(exponent, code.like(bits, 52))))
    e = arith.sitofp(x.type, exponent)
    return m, arith.select(tiny, arith.subf(e, code.like(x, 54.0)), e)


def logarithm(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Natural logarithm in f64: x = 2^e m, log m = 2 artanh(s), s = (m - 1) / (m + 1)."""
    m, e = split_exponent(code, x)
    one = code.like(x, 1.0)
    f = arith.subf(m, one)
    s = arith.divf(f, arith.addf(m, one))
    square = arith.mulf(s, s)
    # log m = f - s (f - R), R = 2 s^3 (1/3 + ...) / s: f is exact, so little is lost near 1
    tail = arith.mulf(square, polynomial(code, _LOG, square))
    value = arith.subf(f, arith.mulf(s, arith.subf(f, tail)))
    value = arith.addf(value, arith.mulf(e, code.like(x, _LN2_PARTS[1])))
    value = code.fma(e, code.like(x, _LN2_PARTS[0]), value)
    value = arith.select(_compare("OEQ", x, code.like(x, float("inf"))), x, value)
    is_zero = _compare("OEQ", x, code.like(x, 0.0))
    value = arith.select(is_zero, code.like(x, float("-inf")), value)
    return arith.select(_compare("ULT", x, code.like(x, 0.0)), code.like(x, float("nan")), value)


def expm1(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Exp(x) - 1 in f64 (Kahan)."""
    return approximations.expm1_by(code, x, lambda v: exp(code, v), lambda v: logarithm(code, v))


def tanh(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Hyperbolic tangent in f64: t / (t + 2), t = expm1(2 |x|), with its sign."""
    size = arith.minnumf(code.absolute(x), code.like(x, 30.0))
    t = expm1(code, arith.addf(size, size))
    value = arith.divf(t, arith.addf(t, code.like(x, 2.0)))
    value = code.copysign(value, x)
    return arith.select(_compare("UNO", x, x), x, value)


def log1p(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Log(1 + x) in f64."""
    return approximations.log1p_by(code, x, lambda v: logarithm(code, v))


def sinh(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Hyperbolic sine: (t + t / (t + 1)) / 2, t = expm1(|x|)."""
    size, one, half = code.absolute(x), code.like(x, 1.0), code.like(x, 0.5)
    t = expm1(code, size)
    value = arith.mulf(arith.addf(t, arith.divf(t, arith.addf(t, one))), half)
    return code.copysign(_or_half_exp(code, size, value), x)


def cosh(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Hyperbolic cosine."""
    size = code.absolute(x)
    t = exp(code, size)
    value = arith.mulf(arith.addf(t, arith.divf(code.like(x, 1.0), t)), code.like(x, 0.5))
    return _or_half_exp(code, size, value)


def _or_half_exp(code: ScalarCode, size: ir.Value, value: ir.Value) -> ir.Value:
    """The value, or exp(size) / 2 where that is the same but for an early overflow."""
    root = exp(code, arith.mulf(size, code.like(size, 0.5)))
    half = arith.mulf(arith.mulf(root, code.like(size, 0.5)), root)
    return arith.select(_compare("OGT", size, code.like(size, 40.0)), half, value)


def asinh(code: ScalarCode, x: ir.Value) -> ir.Value:
    """log1p(|x| + x^2 / (1 + sqrt(x^2 + 1))), with the sign of x."""
    size, one = code.absolute(x), code.like(x, 1.0)
    square = arith.mulf(x, x)
    root = _root(code, arith.addf(square, one))
    value = log1p(code, arith.addf(size, arith.divf(square, arith.addf(one, root))))
    return code.copysign(_or_log_of_double(code, size, value), x)


def acosh(code: ScalarCode, x: ir.Value) -> ir.Value:
    """log1p(t + sqrt(2 t + t^2)), t = x - 1."""
    t = arith.subf(x, code.like(x, 1.0))
    root = _root(code, arith.mulf(t, arith.addf(t, code.like(x, 2.0))))
    value = _or_log_of_double(code, x, log1p(code, arith.addf(t, root)))
    return arith.select(_compare("OLT", t, code.like(x, 0.0)), code.like(x, float("nan")), value)


def _or_log_of_double(code: ScalarCode, x: ir.Value, value: ir.Value) -> ir.Value:
    """The value, or log(2 x) where x^2 could overflow and that is the same."""
    large = arith.addf(logarithm(code, x), code.like(x, log(2)))
    return arith.select(_compare("OGT", x, code.like(x, 2.0**30)), large, value)


def atanh(code: ScalarCode, x: ir.Value) -> ir.Value:
    """log1p(2 x / (1 - x)) / 2, of |x| with its sign."""
    size = code.absolute(x)
    ratio = arith.divf(arith.addf(size, size), arith.subf(code.like(x, 1.0), size))
    return code.copysign(arith.mulf(log1p(code, ratio), code.like(x, 0.5)), x)


def cbrt(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Cube root: exp(log|x| / 3), one step of Newton's, the sign of x."""
    size = code.absolute(x)
    tiny = _compare("OLT", size, code.like(x, 2.0**-600))
    size = arith.select(tiny, arith.mulf(size, code.like(x, 2.0**600)), size)
    y = exp(code, arith.mulf(logarithm(code, size), code.like(x, 1 / 3)))
    square = arith.mulf(y, y)
    step = arith.divf(code.fma(square, y, arith.negf(size)), arith.mulf(square, code.like(x, 3.0)))
    better = arith.subf(y, step)
    y = arith.select(_compare("ORD", better, better), better, y)  # 0 and infinity stay
    y = arith.select(tiny, arith.mulf(y, code.like(x, 2.0**-200)), y)
    return code.copysign(y, x)


def atan(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Arc tangent: of 1 / |x| beyond 1, its argument halved twice, then the series."""
    size, one = code.absolute(x), code.like(x, 1.0)
    beyond = _compare("OGT", size, one)
    t = arith.select(beyond, arith.divf(one, size), size)
    for _ in range(2):  # atan t = 2 atan(t / (1 + sqrt(1 + t^2)))
        t = arith.divf(t, arith.addf(one, _root(code, code.fma(t, t, one))))
    value = arith.mulf(t, polynomial(code, _ATAN, arith.mulf(t, t)))
    value = arith.mulf(value, code.like(x, 4.0))
    value = arith.select(beyond, arith.subf(code.like(x, pi / 2), value), value)
    value = arith.select(_compare("OLT", size, code.like(x, 2.0**-30)), size, value)
    return code.copysign(value, x)


def asin(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Arc sine: atan(x / sqrt((1 - x) (1 + x)))."""
    one = code.like(x, 1.0)
    product = arith.mulf(arith.subf(one, x), arith.addf(one, x))
    return atan(code, arith.divf(x, _root(code, product)))


def acos(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Arc cosine: 2 atan(sqrt((1 - x) / (1 + x)))."""
    one = code.like(x, 1.0)
    root = _root(code, arith.divf(arith.subf(one, x), arith.addf(one, x)))
    return arith.mulf(atan(code, root), code.like(x, 2.0))


def atan2(code: ScalarCode, y: ir.Value, x: ir.Value) -> ir.Value:
    """Angle of the point (x, y)."""
    wide, high = code.absolute(x), code.absolute(y)
    steep = _compare("OGT", high, wide)
    low = arith.select(steep, wide, high)
    top = arith.select(steep, high, wide)
    ratio = arith.divf(low, top)
    zero, one = code.like(x, 0.0), code.like(x, 1.0)
    ratio = arith.select(_compare("OEQ", top, zero), zero, ratio)
    equal = arith.andi(_compare("OEQ", low, top), _compare("ONE", top, zero))
    value = atan(code, arith.select(equal, one, ratio))
    value = arith.select(steep, arith.subf(code.like(x, pi / 2), value), value)
    left = _compare("OLT", code.copysign(one, x), zero)
    value = arith.select(left, arith.subf(code.like(x, pi), value), value)
    # NaN has no size that compares
    value = arith.select(_compare("UNO", x, y), arith.addf(x, y), value)
    return code.copysign(value, y)


def power(code: ScalarCode, x: ir.Value, y: ir.Value) -> ir.Value:
    """x^y of f32 numbers: exp(y log|x|) loses ten bits at most."""
    return power_by(code, x, y, lambda size: exp(code, arith.mulf(y, logarithm(code, size))))


def power_by(
    code: ScalarCode, x: ir.Value, y: ir.Value, of_size: Callable[[ir.Value], ir.Value]
) -> ir.Value:
    """x^y by way of |x|^y, negative where x is and y is odd; cases as in C99, annex F."""
    size, one, zero = code.absolute(x), code.like(x, 1.0), code.like(x, 0.0)
    value = of_size(size)
    value = arith.select(_compare("OEQ", size, one), one, value)
    half = arith.mulf(y, code.like(x, 0.5))
    whole = _compare("OEQ", code.intrinsic("llvm.trunc", x.type, [y]), y)
    even = _compare("OEQ", code.intrinsic("llvm.trunc", x.type, [half]), half)
    odd = arith.andi(whole, arith.cmpi(arith.CmpIPredicate.eq, even, code.like(even, 0)))
    value = arith.select(odd, code.copysign(value, x), value)
    finite_negative = arith.andi(_compare("OLT", x, zero), _compare("OGT", x, code.like(x, _NONE)))
    undefined = arith.andi(finite_negative, _compare("ONE", _fraction(code, y), zero))
    value = arith.select(undefined, code.like(x, float("nan")), value)
    value = arith.select(_compare("UNO", x, y), arith.addf(x, y), value)
    certain = arith.ori(_compare("OEQ", y, zero), _compare("OEQ", x, one))
    return arith.select(certain, one, value)


def _fraction(code: ScalarCode, y: ir.Value) -> ir.Value:
    """What is behind the point; 0 for infinities."""
    rest = arith.subf(y, code.intrinsic("llvm.trunc", y.type, [y]))
    return arith.select(_compare("UNO", rest, rest), code.like(y, 0.0), rest)


def _root(code: ScalarCode, x: ir.Value) -> ir.Value:
    return code.intrinsic("llvm.sqrt", x.type, [x])
