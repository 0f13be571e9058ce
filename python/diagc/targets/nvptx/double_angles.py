"""Sine, cosine and tangent of f64 angles of any size, within 2 units of the last place.

Angles up to 2^27 lose n pi/2 in three parts of 53 bits; larger ones are multiplied by 192 bits of
2/pi in integers (Payne and Hanek). The rest is a pair of doubles, so that it has all digits also
next to a multiple of pi/2.
"""

from collections.abc import Sequence
from math import factorial, pi

from diagc.mlir import arith, ir
from diagc.targets.elementwise.approximations import polynomial
from diagc.targets.elementwise.code import ScalarCode
from diagc.targets.nvptx import quadrants
from diagc.targets.nvptx.pairs_of_doubles import Pair, product, sorted_sum, total

__all__ = ["sine", "tangent"]

_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, in the low bits
# (sin(x) - x) / x^3 and (cos(x) - 1 + x^2/2) / x^4, in x^2, for |x| <= pi/4: below 1e-19
_SIN = tuple((-1) ** k / factorial(2 * k + 1) for k in range(1, 9))
_COS = tuple((-1) ** k / factorial(2 * k) for k in range(2, 10))
_HALF_PI = (pi / 2, 6.123233995736766e-17, -1.4973849048591698e-33)
# 64 zeros, as bits in front of the point are wanted too, and 2/pi, the most significant word first
_TWO_OVER_PI = (
    0,
    *(0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561),
    *(0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484),
    *(0xE99C7026B45F7E41, 0x3991D639835339F4, 0x9C845F8BBDF9283B, 0x1FF897FFDE05980F),
    *(0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D, 0x7527BAC7EBE5F17B),
    *(0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB, 0xF0CFBC209AF4361D),
)

Words = Sequence[ir.Value]
"""64-bit words of a whole number, the most significant first."""


def sine(code: ScalarCode, x: ir.Value, quarter: int) -> ir.Value:
    """Sine of x + quarter * pi/2."""
    rest, quadrant = _reduced(code, x)
    return quadrants.sine(code, *_of_rest(code, rest), quadrant, quarter)


def tangent(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Tangent: the quotient of sine and cosine of the rest, or its negative inverse."""
    rest, quadrant = _reduced(code, x)
    return quadrants.tangent(code, *_of_rest(code, rest), quadrant)


def _of_rest(code: ScalarCode, rest: Pair) -> tuple[ir.Value, ir.Value]:
    """Sine and cosine of |r| <= pi/4; what is small is added first."""
    r, low = rest
    one = code.like(r, 1.0)
    square = arith.mulf(r, r)
    half = arith.mulf(square, code.like(r, 0.5))
    small = arith.mulf(low, arith.subf(one, half))
    small = code.fma(arith.mulf(square, r), polynomial(code, _SIN, square), small)
    # 0 + 0 would lose the sign of a zero
    sin = arith.select(_equal(r, code.like(r, 0.0)), r, arith.addf(r, small))
    near = arith.subf(one, half)
    lost = arith.subf(arith.subf(one, near), half)
    tail = arith.mulf(arith.mulf(square, square), polynomial(code, _COS, square))
    tail = arith.subf(tail, arith.mulf(r, low))
    return sin, arith.addf(near, arith.addf(lost, tail))


def _equal(a: ir.Value, b: ir.Value) -> ir.Value:
    return arith.cmpf(arith.CmpFPredicate.OEQ, a, b)


def _reduced(code: ScalarCode, x: ir.Value) -> tuple[Pair, ir.Value]:
    """(r, n) with x = r + n pi/2, |r| <= pi/4; n in 64 bits, right modulo 4. NaN for infinities."""
    high, low, quadrant = quadrants.reduced(code, x, _large, _small, 2)
    return Pair(high, low), quadrant


def _small(code: ScalarCode, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    rounded = code.fma(x, code.like(x, 2 / pi), code.like(x, _ROUND))
    n = arith.subf(rounded, code.like(x, _ROUND))
    first, second, third = (code.like(x, part) for part in _HALF_PI)
    rest = code.fma(arith.negf(n), first, x)  # exact: n pi/2 is near x
    taken = product(code, n, second)
    left = total(rest, arith.negf(taken.high))
    low = arith.subf(left.low, taken.low)
    low = code.fma(arith.negf(n), third, low)
    found = sorted_sum(left.high, low)
    unturned = _equal(n, code.like(n, 0.0))
    high = arith.select(unturned, x, found.high)
    low = arith.select(unturned, code.like(x, 0.0), found.low)
    return high, low, arith.bitcast(ir.IntegerType.get_signless(64), rounded)


# ---- large angles --------------------------------------------------------------------------------


def _large(code: ScalarCode, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """|x| = m 2^e, m of 53 bits: 192 bits of 2/pi from weight 2^(1 - e), times m, modulo 2^192.

    Bits before those make multiples of 4; the first two bits of the product are the quadrant.
    """
    i64 = ir.IntegerType.get_signless(64)
    bits = arith.bitcast(i64, code.absolute(x))
    exponent = arith.shrui(bits, code.like(bits, 52))
    m = arith.andi(bits, code.like(bits, (1 << 52) - 1))
    m = arith.ori(m, code.like(bits, 1 << 52))
    # e - 2 bits of 2/pi are skipped, behind the 64 zeros
    skipped = arith.subi(exponent, code.like(bits, 1023 + 52 + 2 - 64))
    first = arith.shrui(skipped, code.like(bits, 6))
    places = arith.andi(skipped, code.like(bits, 63))
    words = [_word(code, first, offset) for offset in range(4)]
    bits_of_two = [_joined(code, words[k], words[k + 1], places) for k in range(3)]
    quadrant, high, low = _fraction(code, _times(code, bits_of_two, m))
    rest = _in_radians(code, _as_pair(code, high, low))
    return _with_sign(code, x, rest, quadrant)


def _word(code: ScalarCode, first: ir.Value, offset: int) -> ir.Value:
    """Word `first + offset` of 2/pi, by comparisons."""
    found = code.like(first, 0)
    for number, word in enumerate(_TWO_OVER_PI[offset:]):
        same = arith.cmpi(arith.CmpIPredicate.eq, first, code.like(first, number))
        signed = word - (1 << 64) if word >> 63 else word
        found = arith.select(same, code.like(first, signed), found)
    return found


def _joined(code: ScalarCode, upper: ir.Value, lower: ir.Value, places: ir.Value) -> ir.Value:
    """64 bits of two words, from a place of the first on (0 to 63)."""
    behind = arith.shrui(lower, code.like(places, 1))
    behind = arith.shrui(behind, arith.subi(code.like(places, 63), places))
    return arith.ori(arith.shli(upper, places), behind)


def _times(code: ScalarCode, words: Words, m: ir.Value) -> Words:
    """A number of three words times one word, without what overflows."""
    high, middle, low = words
    last = arith.muli(low, m)
    second = arith.muli(middle, m)
    summed = arith.addi(second, _high_product(code, low, m))
    carried = arith.cmpi(arith.CmpIPredicate.ult, summed, second)
    carry = arith.addi(_high_product(code, middle, m), arith.extui(second.type, carried))
    return arith.addi(arith.muli(high, m), carry), summed, last


def _high_product(code: ScalarCode, a: ir.Value, b: ir.Value) -> ir.Value:
    """The upper 64 bits of a product, by halves."""
    half, mask = code.like(a, 32), code.like(a, (1 << 32) - 1)
    a_high, a_low = arith.shrui(a, half), arith.andi(a, mask)
    b_high, b_low = arith.shrui(b, half), arith.andi(b, mask)
    low = arith.shrui(arith.muli(a_low, b_low), half)
    left = arith.addi(arith.muli(a_high, b_low), low)
    right = arith.addi(arith.muli(a_low, b_high), arith.andi(left, mask))
    high = arith.addi(arith.muli(a_high, b_high), arith.shrui(left, half))
    return arith.addi(high, arith.shrui(right, half))


def _fraction(code: ScalarCode, words: Words) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The nearest quadrant, and what is left as a signed number of 128 bits in units of 2^-128."""
    two, most = code.like(words[0], 2), code.like(words[0], 62)
    quadrant = arith.shrui(words[0], most)
    high, low = (
        arith.ori(arith.shli(words[k], two), arith.shrui(words[k + 1], most)) for k in range(2)
    )
    return arith.addi(quadrant, arith.shrui(high, code.like(high, 63))), high, low


def _as_pair(code: ScalarCode, high: ir.Value, low: ir.Value) -> Pair:
    """A signed number of 128 bits times 2^-128: four halves of words are exact doubles."""
    f64, half, mask = ir.F64Type.get(), code.like(high, 32), code.like(high, (1 << 32) - 1)
    parts = (
        arith.shrsi(high, half),
        arith.andi(high, mask),
        arith.shrui(low, half),
        arith.andi(low, mask),
    )
    numbers = [arith.sitofp(f64, part) for part in parts]
    scaled = [
        arith.mulf(number, code.like(number, 2.0 ** (-32 * (k + 1))))
        for k, number in enumerate(numbers)
    ]
    upper, lower = total(*scaled[:2]), total(*scaled[2:])
    # the upper sum may be 0 or have few bits: then nothing of it was lost
    both = total(upper.high, arith.addf(upper.low, lower.high))
    return sorted_sum(both.high, arith.addf(both.low, lower.low))


def _in_radians(code: ScalarCode, turns: Pair) -> Pair:
    """A number of quarter turns as an angle."""
    first, second, _ = (code.like(turns.high, part) for part in _HALF_PI)
    angle = product(code, turns.high, first)
    low = code.fma(turns.high, second, angle.low)
    return sorted_sum(angle.high, code.fma(turns.low, first, low))


def _with_sign(
    code: ScalarCode, x: ir.Value, rest: Pair, quadrant: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    negative = arith.cmpf(arith.CmpFPredicate.OLT, x, code.like(x, 0.0))
    infinite = _equal(code.absolute(x), code.like(x, float("inf")))
    high, low = (arith.select(negative, arith.negf(part), part) for part in rest)
    high = arith.select(infinite, code.like(x, float("nan")), high)
    turned = arith.subi(code.like(quadrant, 0), quadrant)
    return high, low, arith.select(negative, turned, quadrant)
