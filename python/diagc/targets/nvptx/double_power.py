"""x^y and the error function in f64, within few units of the last place."""

from diagc.mlir import arith, ir
from diagc.targets.elementwise.approximations import polynomial
from diagc.targets.elementwise.code import ScalarCode
from diagc.targets.nvptx import double_functions as double
from diagc.targets.nvptx.pairs_of_doubles import Pair, add, multiply, product, sorted_sum, total

__all__ = ["erf", "power"]

# (log((1 + s) / (1 - s)) - 2 s - 2/3 s^3) / s^5 in s^2
_LOG = tuple(2 / (2 * k + 5) for k in range(10))
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
# ln 2: the first part has 21 zeros at the end, so that its multiples are exact
_LN2 = (0.693147180369123816490, 1.9082149292705877e-10)
# erf(x) / x in x^2 for |x| <= 1: relative error 3e-17 (interpolation in Chebyshev's nodes)
_ERF = (
    *(1.1283791670955126, -0.37612638903183754, 0.1128379167095512, -0.02686617064512984),
    *(0.0052239776254232985, -0.000854832702193483, 0.00012055332902888736),
    *(-1.4925647567519332e-05, 1.6462045441468418e-06, -1.6364642158167616e-07),
    *(1.4792401209404813e-08, -1.216456005728345e-09, 8.709045129053106e-11),
    -4.230945824295338e-12,
)
# exp(x^2) (1 - erf(x)) in (x - 2) / (x + 2) for 1 <= x <= 6: relative error 1.3e-16
_ERFC = (
    *(0.25539567631050575, -0.4271858474139584, 0.24165819424246635, -0.07897858101573312),
    *(0.0037328924043450165, 0.006997461739294057, -0.0008471432520133931),
    *(-0.0009819770302602721, 4.355563777487973e-05, 0.000174361235301249),
    *(2.7524819609205997e-05, -2.758046502798232e-05, -1.3960863250756434e-05),
    *(1.393439667993715e-06, 3.7443735332653078e-06, 1.1995052231035317e-06),
    *(-3.9035732044924444e-07, -5.494144104124559e-07, -1.632065834667942e-07),
    1.892763506249027e-07,
)


def erf(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Error function: a polynomial up to 1, beyond it 1 - exp(-x^2) times another."""
    size, one, two = code.absolute(x), code.like(x, 1.0), code.like(x, 2.0)
    small = arith.mulf(x, polynomial(code, _ERF, arith.mulf(x, x)))
    capped = arith.minnumf(size, code.like(x, 6.0))
    place = arith.divf(arith.subf(capped, two), arith.addf(capped, two))
    decay = double.exp(code, arith.negf(arith.mulf(capped, capped)))
    large = arith.subf(one, arith.mulf(decay, polynomial(code, _ERFC, place)))
    is_small = arith.cmpf(arith.CmpFPredicate.OLT, size, one)
    value = arith.select(is_small, small, code.copysign(large, x))
    return arith.select(arith.cmpf(arith.CmpFPredicate.UNO, x, x), x, value)


def power(code: ScalarCode, x: ir.Value, y: ir.Value) -> ir.Value:
    """x^y with a logarithm of 65 bits, as an error of y log x is one of the result."""
    return double.power_by(code, x, y, lambda size: _power(code, size, y))


def _power(code: ScalarCode, size: ir.Value, y: ir.Value) -> ir.Value:
    """exp(y log size), size >= 0."""
    logarithm = _logarithm(code, size)
    found = product(code, y, logarithm.high)
    low = code.fma(y, logarithm.low, found.low)
    # beyond the range of results, and where the product is infinite, it does not matter
    within = arith.cmpf(
        arith.CmpFPredicate.OLT, code.absolute(found.high), code.like(size, 2.0**10)
    )
    return double.exp(code, found.high, arith.select(within, low, code.like(size, 0.0)))


def _logarithm(code: ScalarCode, x: ir.Value) -> Pair:
    """E ln 2 + log m as a pair; plain for 0 and infinity."""
    m, e = double.split_exponent(code, x)
    one, zero = code.like(x, 1.0), code.like(x, 0.0)
    s = _quotient(code, arith.subf(m, one), total(m, one))
    square = multiply(code, s, s)
    cube = multiply(code, square, s)
    third = multiply(code, cube, Pair(*(code.like(x, part) for part in _TWO_THIRDS)))
    fifth = arith.mulf(arith.mulf(cube.high, square.high), polynomial(code, _LOG, square.high))
    twice = Pair(arith.addf(s.high, s.high), arith.addf(s.low, s.low))
    log_m = add(twice, Pair(third.high, arith.addf(third.low, fifth)))
    exact = arith.mulf(e, code.like(x, _LN2[0]))
    rest = product(code, e, code.like(x, _LN2[1]))
    found = add(add(Pair(exact, zero), rest), log_m)
    plain = double.logarithm(code, x)
    regular = arith.cmpf(arith.CmpFPredicate.OLT, code.absolute(plain), code.like(x, float("inf")))
    return Pair(arith.select(regular, found.high, plain), arith.select(regular, found.low, zero))


def _quotient(code: ScalarCode, a: ir.Value, b: Pair) -> Pair:
    """A / b; what the rounded quotient leaves is divided once more."""
    high = arith.divf(a, b.high)
    left = code.fma(arith.negf(high), b.high, a)
    left = code.fma(arith.negf(high), b.low, left)
    return sorted_sum(high, arith.divf(left, b.high))
