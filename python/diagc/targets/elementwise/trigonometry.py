"""f32 sine and cosine on vectors; where an argument is large the library takes the whole vector."""

from collections.abc import Callable

from diagc.mlir import arith, ir, math_dialect, scf
from diagc.targets.elementwise.approximations import polynomial
from diagc.targets.elementwise.code import ScalarCode as Code
from diagc.targets.elementwise.code import is_vector

__all__ = ["cos", "sin"]

# (sin(x) - x) / x^3 in x^2 for |x| <= pi/4: 4.1e-9, relative to sin(x)
SIN = (-0.16666653752326965, 0.008332112804055214, -0.00019508741388563067)
# (cos(x) - 1 + x^2/2) / x^4 in x^2 for |x| <= pi/4: 1.1e-10
COS = (0.04166664555668831, -0.0013887305976822972, 2.4431205019936897e-05)
# pi/2 in three parts of few bits: their products with whole numbers below LARGEST are exact
PARTS = (1.5703125, 4.837512969970703125e-4, 7.549789948768648e-8)
TWO_OVER_PI = 0.6366197723675814
LARGEST = 8192.0
ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold


def sin(code: Code, x: ir.Value) -> ir.Value:
    """Sine, absolute error 1e-7."""
    return _or_library(code, x, 0, math_dialect.sin)


def cos(code: Code, x: ir.Value) -> ir.Value:
    """Cosine, absolute error 1e-7."""
    return _or_library(code, x, 1, math_dialect.cos)


def _or_library(
    code: Code, x: ir.Value, quarter: int, library: Callable[[ir.Value], ir.Value]
) -> ir.Value:
    """The polynomials, unless some argument is large or NaN."""
    size = code.absolute(x)
    large = arith.cmpf(arith.CmpFPredicate.UGT, size, code.like(x, LARGEST))
    if is_vector(x):
        large = code.reduce_vector("or", large)
    branch = scf.IfOp(large, [x.type], has_else=True)
    with ir.InsertionPoint(branch.then_block):
        scf.yield_([library(x)])
    with ir.InsertionPoint(branch.else_block):
        scf.yield_([_polynomials(code, x, quarter)])
    return branch.results[0]


def _polynomials(code: Code, x: ir.Value, quarter: int) -> ir.Value:
    """Sine of x + quarter * pi/2: sine or cosine of the remainder, with the quadrant's sign."""
    rounded = code.fma(x, code.like(x, TWO_OVER_PI), code.like(x, ROUND))
    n = arith.subf(rounded, code.like(x, ROUND))
    r = x
    for part in PARTS:
        r = code.fma(n, code.like(x, -part), r)
    square = arith.mulf(r, r)
    sine = code.fma(arith.mulf(square, r), polynomial(code, SIN, square), r)
    half = code.fma(square, code.like(x, -0.5), code.like(x, 1.0))
    cosine = code.fma(arith.mulf(square, square), polynomial(code, COS, square), half)
    quadrant = _quadrant(code, rounded, quarter)
    odd = arith.cmpi(arith.CmpIPredicate.ne, _bit(code, quadrant, 1), code.like(quadrant, 0))
    value = code.select(odd, cosine, sine)
    flip = arith.cmpi(arith.CmpIPredicate.ne, _bit(code, quadrant, 2), code.like(quadrant, 0))
    return code.select(flip, arith.negf(value), value)


def _quadrant(code: Code, rounded: ir.Value, quarter: int) -> ir.Value:
    """The low bits of the whole number that was rounded to, plus `quarter`."""
    i32 = code.vector_type(code.i32) if is_vector(rounded) else code.i32
    bits = arith.bitcast(i32, rounded)
    return arith.addi(bits, code.like(bits, quarter))


def _bit(code: Code, bits: ir.Value, bit: int) -> ir.Value:
    return arith.andi(bits, code.like(bits, bit))
