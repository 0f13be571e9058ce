"""Sine, cosine and tangent of f32 angles of any size, computed in f64.

Small angles lose n pi/2 in three parts (Cody and Waite); for large ones x * 2/pi is multiplied out
in integers (Payne and Hanek).
"""

from collections.abc import Sequence
from math import factorial, pi

from diagc.mlir import arith, ir
from diagc.targets.elementwise.approximations import polynomial
from diagc.targets.elementwise.code import ScalarCode
from diagc.targets.nvptx import quadrants

__all__ = ["sine", "tangent"]

_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, in the low bits
_SIN = tuple((-1) ** k / factorial(2 * k + 1) for k in range(8))
_COS = tuple((-1) ** k / factorial(2 * k) for k in range(9))
# pi/2 in three parts of 33 bits: x - n * part is exact for the first, whatever n
_HALF_PI = (1.57079632673412561417e0, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
# 2/pi = 0.A2F9836E4E44..., 32 bits each
_TWO_OVER_PI = (
    *(0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0),
    *(0xDB629599, 0x3C439041, 0xFE5163AB, 0xDEBBC561),
)


def sine(code: ScalarCode, x: ir.Value, quarter: int) -> ir.Value:
    """Sine of x + quarter * pi/2; x is an f32 number in f64."""
    rest, quadrant = _reduced(code, x)
    return quadrants.sine(code, *_of_rest(code, rest), quadrant, quarter)


def tangent(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Tangent of an f32 number in f64."""
    rest, quadrant = _reduced(code, x)
    return quadrants.tangent(code, *_of_rest(code, rest), quadrant)


def _of_rest(code: ScalarCode, rest: ir.Value) -> tuple[ir.Value, ir.Value]:
    square = arith.mulf(rest, rest)
    sin = arith.mulf(rest, polynomial(code, _SIN, square))
    return sin, polynomial(code, _COS, square)


def _reduced(code: ScalarCode, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """(r, n) with x = r + n pi/2, |r| <= pi/4; n in 64 bits, right modulo 4. NaN for infinities."""
    rest, quadrant = quadrants.reduced(code, x, _large, _small, 1)
    return rest, quadrant


def _small(code: ScalarCode, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    rounded = code.fma(x, code.like(x, 2 / pi), code.like(x, _ROUND))
    n = arith.subf(rounded, code.like(x, _ROUND))
    rest = x
    for part in _HALF_PI:
        rest = code.fma(n, code.like(x, -part), rest)
    # the product -0 + 0 of a small angle would lose the sign of a zero
    rest = arith.select(arith.cmpf(arith.CmpFPredicate.OEQ, x, code.like(x, 0.0)), x, rest)
    return rest, arith.bitcast(ir.IntegerType.get_signless(64), rounded)


def _large(code: ScalarCode, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """|x| = m 2^e, m of 24 bits. Bits of 2/pi of a weight from 2^(2 - e) make multiples of 4.

    The 128 behind them times m, without what overflows, are x * 2/pi in units of 2^-126.
    """
    i64 = ir.IntegerType.get_signless(64)
    bits = arith.bitcast(i64, code.absolute(x))
    exponent = arith.shrui(bits, code.like(bits, 52))
    m = arith.andi(arith.shrui(bits, code.like(bits, 29)), code.like(bits, (1 << 23) - 1))
    m = arith.ori(m, code.like(bits, 1 << 23))
    skipped = arith.subi(exponent, code.like(bits, 1023 + 23 + 2))
    first = arith.shrui(skipped, code.like(bits, 5))
    places = arith.andi(skipped, code.like(bits, 31))
    words = [_word(code, first, k) for k in range(5)]
    high, low = (_joined(code, words[k : k + 3], places) for k in (0, 2))
    product = arith.addi(arith.muli(high, m), _high_product(code, low, m))
    quadrant = arith.shrui(product, code.like(bits, 62))
    fraction = arith.shli(product, code.like(bits, 2))
    # read as a signed number it counts from the nearest quadrant
    quadrant = arith.addi(quadrant, arith.shrui(fraction, code.like(bits, 63)))
    rest = arith.mulf(arith.sitofp(x.type, fraction), code.like(x, pi / 2 / 2.0**64))
    return _with_sign(code, x, rest, quadrant)


def _with_sign(
    code: ScalarCode, x: ir.Value, rest: ir.Value, quadrant: ir.Value
) -> tuple[ir.Value, ir.Value]:
    negative = arith.cmpf(arith.CmpFPredicate.OLT, x, code.like(x, 0.0))
    rest = arith.select(negative, arith.negf(rest), rest)
    turned = arith.subi(code.like(quadrant, 0), quadrant)
    infinite = arith.cmpf(arith.CmpFPredicate.OEQ, code.absolute(x), code.like(x, float("inf")))
    rest = arith.select(infinite, code.like(x, float("nan")), rest)
    return rest, arith.select(negative, turned, quadrant)


def _word(code: ScalarCode, first: ir.Value, offset: int) -> ir.Value:
    """Word `first + offset` of 2/pi, by comparisons: the table is short."""
    found = code.like(first, 0)
    for number, word in enumerate(_TWO_OVER_PI):
        wanted = number - offset
        if wanted >= 0:
            same = arith.cmpi(arith.CmpIPredicate.eq, first, code.like(first, wanted))
            found = arith.select(same, code.like(first, word), found)
    return found


def _joined(code: ScalarCode, words: Sequence[ir.Value], places: ir.Value) -> ir.Value:
    """64 bits of three words of 32, from a place of the first on."""
    half = code.like(places, 32)
    upper = arith.ori(arith.shli(words[0], half), words[1])
    behind = arith.shrui(words[2], arith.subi(half, places))
    return arith.ori(arith.shli(upper, places), behind)


def _high_product(code: ScalarCode, low: ir.Value, m: ir.Value) -> ir.Value:
    """The upper 64 bits of a product of 64 and 24 bits."""
    half = code.like(low, 32)
    upper = arith.muli(arith.shrui(low, half), m)
    lower = arith.muli(arith.andi(low, code.like(low, (1 << 32) - 1)), m)
    return arith.shrui(arith.addi(upper, arith.shrui(lower, half)), half)
