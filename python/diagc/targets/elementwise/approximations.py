"""f32 elementary functions as polynomials on vectors: libm calls would split vectors.

Coefficients are least-squares fits, reweighted towards the smallest largest relative error, on the
reduced range named beside each; `test_cpu_functions` measures the error of each against f64.
NaN goes through all of them.
"""

from collections.abc import Callable, Sequence
from functools import partial

from diagc.mlir import arith, ir
from diagc.targets.elementwise.code import ScalarCode as Code

__all__ = ["F32_FUNCTIONS", "exp", "exp_nonpositive", "polynomial"]

# exp on [-ln2/2, ln2/2]: relative error 9.2e-8 (degree 5) and 2.0e-9 (degree 6)
EXP5 = (
    1.0,
    0.9999997019767761,
    0.4999915063381195,
    0.1666763573884964,
    0.04189793020486832,
    0.008290314115583897,
)
EXP6 = (
    1.0,
    1.0,
    0.4999999403953552,
    0.16666431725025177,
    0.04166800156235695,
    0.00837415549904108,
    0.0013843653723597527,
)
# (exp(x) - 1 - x) / x^2 on [-ln2/2, ln2/2], relative to exp(x) - 1: 1.3e-8
EXPM1 = (
    0.4999999701976776,
    0.1666654348373413,
    0.04166720062494278,
    0.00836651399731636,
    0.0013882522471249104,
)
# (log(1+t) - t + t^2/2) / t^3 on [sqrt(1/2)-1, sqrt(2)-1]: 5.8e-9
LOG = (
    0.3333333134651184,
    -0.2500081956386566,
    0.20001226663589478,
    -0.16623356938362122,
    0.14201758801937103,
    -0.13160182535648346,
    0.12761574983596802,
    -0.07634492963552475,
)
# (tanh(x) - x) / x^3 in x^2 for |x| < 0.625: 4.1e-9
TANH = (
    -0.3333328366279602,
    0.13331490755081177,
    -0.05374349653720856,
    0.020650586113333702,
    -0.005717044696211815,
)
# erf(x) / x in x^2 for |x| < 0.6: 8.1e-9
ERF = (
    1.1283791065216064,
    -0.37612512707710266,
    0.112809918820858,
    -0.026646995916962624,
    0.00451236916705966,
)
# -log(1 - erf(x)) / x for 0.6 <= x <= 4: absolute error of erf 9.1e-9
ERFC = (
    1.1285089254379272,
    0.6357589960098267,
    0.10517236590385437,
    -0.022805126383900642,
    0.003178426530212164,
    -0.00020813709124922752,
)
LOG2_E, LN2 = 1.44269504088896341, 0.69314718055994531
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.42860682030941723e-06
ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold
EXP_UNDERFLOW = -87.33654
_SCALE, _CURRENT_ROUNDING = "llvm.x86.avx512.mask.scalef.ps.512", 4


def polynomial(code: Code, coefficients: Sequence[float], x: ir.Value) -> ir.Value:
    """Horner's rule; the constant term comes first."""
    value = code.like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = code.fma(value, x, code.like(x, coefficient))
    return value


def _ordered(predicate: str, a: ir.Value, b: ir.Value) -> ir.Value:
    return arith.cmpf(getattr(arith.CmpFPredicate, predicate), a, b)


def _at_least(code: Code, x: ir.Value, low: float) -> ir.Value:
    """max(x, low) that keeps NaN in x (one instruction on x86)."""
    bound = code.like(x, low)
    return code.select(_ordered("OLT", x, bound), bound, x)


def _bits(code: Code, x: ir.Value) -> ir.Value:
    type_ = (
        code.i32
        if not isinstance(x.type, ir.VectorType)
        else ir.VectorType.get(x.type.shape, code.i32)
    )
    return arith.bitcast(type_, x)


def _floats(code: Code, bits: ir.Value) -> ir.Value:
    type_ = (
        code.f32
        if not isinstance(bits.type, ir.VectorType)
        else ir.VectorType.get(bits.type.shape, code.f32)
    )
    return arith.bitcast(type_, bits)


def _reduce_exp(code: Code, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """N = round(x / ln 2) as a float and in the low bits of another, and r = x - n ln 2."""
    rounded = code.fma(x, code.like(x, LOG2_E), code.like(x, ROUND))
    n = arith.subf(rounded, code.like(x, ROUND))
    return n, rounded, code.fma(n, code.like(x, -LN2_HIGH), x)


def exp_nonpositive(code: Code, x: ir.Value) -> ir.Value:
    """Exp of x <= 0 (or slightly above): 12 operations; results below 2^-126 become 0.

    Exactly 0, so that the sum of a row that is masked everywhere is 0. The two-part ln 2 is left
    out: where n is large the result is small, and the absolute error stays below 1e-8.
    """
    rounded = code.fma(x, code.like(x, LOG2_E), code.like(x, ROUND))
    n = arith.subf(rounded, code.like(x, ROUND))
    r = code.fma(n, code.like(x, -LN2), x)
    value = polynomial(code, EXP5, r)
    shifted = arith.shli(_bits(code, rounded), code.like(_bits(code, rounded), 23))
    scaled = _floats(code, arith.addi(_bits(code, value), shifted))
    # the selection becomes the mask of the integer addition
    return code.select(_ordered("OLT", x, code.like(x, EXP_UNDERFLOW)), code.like(x, 0.0), scaled)


def _clamped(code: Code, x: ir.Value, low: float, high: float) -> ir.Value:
    """min(max(x, low), high); NaN gives NaN or a bound."""
    bound = code.like(x, high)
    x = _at_least(code, x, low)
    return code.select(_ordered("OGT", x, bound), bound, x)


def exp(code: Code, x: ir.Value) -> ir.Value:
    """Exp over the whole range: inf above 88.73, 0 below -104, relative error 2e-7."""
    n, rounded, r = _reduce_exp(code, _clamped(code, x, -104.0, 89.0))
    r = code.fma(n, code.like(x, -LN2_LOW), r)
    value = _scaled(code, polynomial(code, EXP6, r), rounded)
    return code.select(_ordered("UNO", x, x), x, value)


def exp2(code: Code, x: ir.Value) -> ir.Value:
    """2 to the x; the whole part of x is taken off exactly."""
    clamped = _clamped(code, x, -150.0, 129.0)
    rounded = arith.addf(clamped, code.like(x, ROUND))
    n = arith.subf(rounded, code.like(x, ROUND))
    r = arith.mulf(arith.subf(clamped, n), code.like(x, LN2))
    value = _scaled(code, polynomial(code, EXP6, r), rounded)
    return code.select(_ordered("UNO", x, x), x, value)


def expm1(code: Code, x: ir.Value) -> ir.Value:
    """Exp(x) - 1 without cancellation: 2^n * (exp(r) - 1) + (2^n - 1)."""
    n, rounded, r = _reduce_exp(code, _clamped(code, x, -104.0, 89.0))
    r = code.fma(n, code.like(x, -LN2_LOW), r)
    small = code.fma(arith.mulf(r, r), polynomial(code, EXPM1, r), r)
    one = code.like(x, 1.0)
    value = arith.addf(_scaled(code, small, rounded), arith.subf(_scaled(code, one, rounded), one))
    # 2^128 alone is infinite where the difference is not
    large = _scaled(code, arith.addf(small, one), rounded)
    value = code.select(_ordered("OGT", x, code.like(x, 44.0)), large, value)
    return code.select(_ordered("UNO", x, x), x, value)


def _scaled(code: Code, value: ir.Value, rounded: ir.Value) -> ir.Value:
    """Value * 2^n, where n, in the low bits of `rounded`, is -150 to 129.

    Without an instruction for it there are two factors, because 2^n alone may overflow.
    """
    if code.scales(value.type):
        n = arith.subf(rounded, code.like(rounded, ROUND))
        every = code.scalar(ir.IntegerType.get_signless(16), -1)
        mode = code.scalar(code.i32, _CURRENT_ROUNDING)
        return code.intrinsic(_SCALE, value.type, [value, n, value, every, mode])
    exponent = _bits(code, rounded)
    exponent = arith.subi(exponent, code.like(exponent, 0x4B400000))
    half = arith.shrsi(exponent, code.like(exponent, 1))
    rest = arith.subi(exponent, half)
    return arith.mulf(arith.mulf(value, _power_of_two(code, half)), _power_of_two(code, rest))


def _power_of_two(code: Code, exponent: ir.Value) -> ir.Value:
    biased = arith.addi(exponent, code.like(exponent, 127))
    return _floats(code, arith.shli(biased, code.like(exponent, 23)))


def log(code: Code, x: ir.Value) -> ir.Value:
    """Natural logarithm: -inf at 0, NaN below, relative error 2e-7."""
    tiny = _ordered("OLT", x, code.like(x, 1.17549435e-38))
    scaled = code.select(tiny, arith.mulf(x, code.like(x, 2.0**25)), x)
    bits = _bits(code, scaled)
    # mantissa in [sqrt(1/2), sqrt(2))
    shifted = arith.subi(bits, code.like(bits, 0x3F3504F3))
    exponent = arith.shrsi(shifted, code.like(bits, 23))
    mantissa = _floats(code, arith.subi(bits, arith.shli(exponent, code.like(bits, 23))))
    exponent_float = arith.sitofp(x.type, exponent)
    exponent_float = code.select(
        tiny, arith.subf(exponent_float, code.like(x, 25.0)), exponent_float
    )
    t = arith.subf(mantissa, code.like(x, 1.0))
    square = arith.mulf(t, t)
    tail = arith.mulf(arith.mulf(square, t), polynomial(code, LOG, t))
    tail = code.fma(exponent_float, code.like(x, LN2_LOW), tail)
    tail = code.fma(square, code.like(x, -0.5), tail)
    value = code.fma(exponent_float, code.like(x, LN2_HIGH), arith.addf(t, tail))
    infinite = _ordered("OEQ", x, code.like(x, float("inf")))
    value = code.select(infinite, x, value)
    value = code.select(_ordered("OEQ", x, code.like(x, 0.0)), code.like(x, float("-inf")), value)
    return code.select(_ordered("ULT", x, code.like(x, 0.0)), code.like(x, float("nan")), value)


def log1p(code: Code, x: ir.Value) -> ir.Value:
    """Log(1 + x): what 1 + x rounds away is put back to first order."""
    return log1p_by(code, x, partial(log, code))


def log1p_by(code: Code, x: ir.Value, log: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """Log(1 + x) from a logarithm: log(u) * x / (u - 1) with u = 1 + x."""
    one = code.like(x, 1.0)
    u = arith.addf(x, one)
    shift = arith.subf(u, one)
    value = arith.mulf(log(u), arith.divf(x, shift))
    value = code.select(_ordered("OEQ", u, one), x, value)
    # the quotient is not a number where u is infinite
    return code.select(_ordered("OEQ", x, code.like(x, float("inf"))), x, value)


def expm1_by(
    code: Code,
    x: ir.Value,
    exp: Callable[[ir.Value], ir.Value],
    log: Callable[[ir.Value], ir.Value],
) -> ir.Value:
    """Exp(x) - 1 from an exponential and a logarithm (Kahan): (u - 1) * x / log(u), u = exp(x)."""
    one = code.like(x, 1.0)
    u = exp(x)
    shift = arith.subf(u, one)
    value = arith.mulf(shift, arith.divf(x, log(u)))
    value = code.select(_ordered("OEQ", u, one), x, value)
    # u is 0 or infinite, or rounds the logarithm away
    plain = arith.ori(
        _ordered("OEQ", shift, code.like(x, -1.0)), _ordered("OEQ", u, code.like(x, float("inf")))
    )
    return code.select(plain, shift, value)


def tanh(code: Code, x: ir.Value) -> ir.Value:
    """Hyperbolic tangent, relative error 3e-7."""
    size = code.absolute(x)
    square = arith.mulf(x, x)
    small = code.fma(arith.mulf(square, x), polynomial(code, TANH, square), x)
    decay = exp_nonpositive(code, arith.mulf(size, code.like(x, -2.0)))
    one = code.like(x, 1.0)
    large = arith.divf(arith.subf(one, decay), arith.addf(one, decay))
    return code.select(_ordered("OLT", size, code.like(x, 0.625)), small, code.copysign(large, x))


def erf(code: Code, x: ir.Value) -> ir.Value:
    """Error function, relative error 2e-7: 1 - exp(-p(|x|)) where |x| is not small."""
    size = code.absolute(x)
    small = arith.mulf(x, polynomial(code, ERF, arith.mulf(x, x)))
    bound = code.like(x, 4.0)
    capped = code.select(_ordered("OGT", size, bound), bound, size)
    exponent = arith.mulf(capped, polynomial(code, ERFC, capped))
    large = arith.subf(code.like(x, 1.0), exp_nonpositive(code, arith.negf(exponent)))
    is_small = _ordered("OLT", size, code.like(x, 0.6))
    value = code.select(is_small, small, code.copysign(large, x))
    return code.select(_ordered("UNO", x, x), x, value)


F32_FUNCTIONS: dict[str, Callable[[Code, ir.Value], ir.Value]] = {
    "math.exp": exp,
    "math.exp2": exp2,
    "math.expm1": expm1,
    "math.log": log,
    "math.log1p": log1p,
    "math.tanh": tanh,
    "math.erf": erf,
}
