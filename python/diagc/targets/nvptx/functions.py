"""Scalar functions of a GPU thread, without libdevice: hardware instructions and polynomials.

f32: `ex2.approx` on the reduced argument for exponentials, the shared polynomials for what is
frequent; what is rare in f32 is computed in f64 (`double_functions`, `angles`), as is f64, whose
angles, powers and erf need more care (`double_angles`, `double_power`).
"""

from collections.abc import Callable, Mapping, Sequence
from math import log

from diagc.mlir import arith, ir, scf
from diagc.targets.elementwise import approximations
from diagc.targets.elementwise.approximations import LN2_HIGH, LN2_LOW, LOG2_E, ROUND
from diagc.targets.elementwise.code import Rule, ScalarCode
from diagc.targets.nvptx import angles, double_angles, double_power
from diagc.targets.nvptx import double_functions as double

__all__ = ["RULES"]

Values = Sequence[ir.Value]


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
    one = code.copysign(code.like(x, 1.0), x)
    found = arith.addf(whole, one)
    found = arith.select(_compare("OGE", rest, code.like(x, 0.5)), found, whole)
    return code.copysign(found, x)


def _is_infinite(code: ScalarCode, _op: ir.Operation, operands: Values) -> ir.Value:
    (x,) = operands
    return _compare("OEQ", absolute(code, x), code.like(x, float("inf")))


# ---- f32 -----------------------------------------------------------------------------------------


def exp(code: ScalarCode, x: ir.Value) -> ir.Value:
    """Exp over the whole range: 2^n * ex2(r / ln 2), r = x - n ln 2 in two parts."""
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


# ---- f32 and f64 by name -------------------------------------------------------------------------

Function = Callable[[ScalarCode, ir.Value], ir.Value]

F32: Mapping[str, Function] = {**approximations.F32_FUNCTIONS, "math.exp": exp}

# computed in f64; those in `PRECISE` serve f32, too
PRECISE: Mapping[str, Function] = {
    "math.exp": double.exp,
    "math.exp2": double.exp2,
    "math.expm1": double.expm1,
    "math.log": double.logarithm,
    "math.log1p": double.log1p,
    "math.log2": lambda code, x: _scaled_logarithm(code, x, 2),
    "math.log10": lambda code, x: _scaled_logarithm(code, x, 10),
    "math.tanh": double.tanh,
    "math.acos": double.acos,
    "math.acosh": double.acosh,
    "math.asin": double.asin,
    "math.asinh": double.asinh,
    "math.atan": double.atan,
    "math.atanh": double.atanh,
    "math.cbrt": double.cbrt,
    "math.cosh": double.cosh,
    "math.sinh": double.sinh,
}
ANGLES: Mapping[str, Function] = {
    "math.sin": lambda code, x: angles.sine(code, x, 0),
    "math.cos": lambda code, x: angles.sine(code, x, 1),
    "math.tan": angles.tangent,
}
DOUBLE: Mapping[str, Function] = {
    **PRECISE,
    "math.sin": lambda code, x: double_angles.sine(code, x, 0),
    "math.cos": lambda code, x: double_angles.sine(code, x, 1),
    "math.tan": double_angles.tangent,
    "math.erf": double_power.erf,
}


def _scaled_logarithm(code: ScalarCode, x: ir.Value, base: int) -> ir.Value:
    return arith.mulf(double.logarithm(code, x), code.like(x, 1 / log(base)))


def _function(code: ScalarCode, op: ir.Operation, operands: Values) -> ir.Value:
    (x,) = operands
    if _is_double(x):
        return DOUBLE[op.name](code, x)
    if op.name == "math.exp" and "diag.nonpositive" in op.attributes:
        return exp_nonpositive(code, x)
    if op.name in F32:
        return F32[op.name](code, x)
    table = PRECISE if op.name in PRECISE else ANGLES
    return arith.truncf(code.f32, table[op.name](code, arith.extf(ir.F64Type.get(), x)))


def _of_two(precise: Callable[..., ir.Value], rough: Callable[..., ir.Value]) -> Rule:
    """A function of two numbers: of f64, or of f32 by way of f64."""

    def emit(code: ScalarCode, op: ir.Operation, operands: Values) -> ir.Value:
        wide = [_widened(x) for x in operands]
        if _is_double(operands[0]):
            return precise(code, *wide)
        return arith.truncf(code.f32, rough(code, *wide))

    return emit


def _widened(x: ir.Value) -> ir.Value:
    f64 = ir.F64Type.get()
    is_integer = isinstance(x.type, ir.IntegerType)
    if _is_double(x):
        return x
    return arith.sitofp(f64, x) if is_integer else arith.extf(f64, x)


def remainder(code: ScalarCode, x: ir.Value, y: ir.Value) -> ir.Value:
    """The remainder, exact: quotients are taken off 26 bits at a time.

    q is the quotient, rounded to nearest and cut to 26 bits. Where rounding lifts it to the next
    such number, x - q y is negative and tiny, and one unit of q is given back; all is a multiple of
    that unit times the last place of y, and fits 53 bits.
    """
    size, step = code.absolute(x), code.absolute(y)
    steps = [step]
    for power in (1000, 500):  # divisors that keep the quotient finite
        steps.append(arith.mulf(steps[-1], code.like(x, 2.0**power)))
    loop = scf.WhileOp([x.type], [size])
    before = loop.before.blocks.append(x.type)
    with ir.InsertionPoint(before):
        (rest,) = before.arguments
        scf.condition(_compare("OGE", rest, step), [rest])
    after = loop.after.blocks.append(x.type)
    with ir.InsertionPoint(after):
        (rest,) = after.arguments
        divisor = step
        for larger in steps[1:]:
            divisor = arith.select(_compare("OGE", rest, larger), larger, divisor)
        scf.yield_([_less_some_quotient(code, rest, divisor)])
    value = code.copysign(loop.results[0], x)
    # an infinite x or a y of 0 have no remainder; what is smaller than y is its own
    infinite = _compare("OEQ", size, code.like(x, float("inf")))
    undefined = arith.ori(infinite, _compare("OEQ", step, code.like(x, 0.0)))
    value = arith.select(undefined, code.like(x, float("nan")), value)
    return arith.select(_compare("UNO", x, y), arith.addf(x, y), value)


def _less_some_quotient(code: ScalarCode, rest: ir.Value, step: ir.Value) -> ir.Value:
    i64 = ir.IntegerType.get_signless(64)
    quotient = code.intrinsic("llvm.trunc", rest.type, [arith.divf(rest, step)])
    bits = arith.bitcast(i64, quotient)
    quotient = arith.bitcast(rest.type, arith.andi(bits, code.like(bits, -(1 << 27))))
    left = code.fma(arith.negf(quotient), step, rest)
    power = arith.bitcast(rest.type, arith.andi(bits, code.like(bits, 0x7FF << 52)))
    unit = arith.maxnumf(arith.mulf(power, code.like(rest, 2.0**-25)), code.like(rest, 1.0))
    given_back = code.fma(unit, step, left)
    return arith.select(_compare("OLT", left, code.like(rest, 0.0)), given_back, left)


RULES: Mapping[str, Rule] = {
    "math.sqrt": _sqrt,
    "math.rsqrt": _reciprocal_root,
    "math.absf": _intrinsic("llvm.fabs"),
    "math.copysign": _intrinsic("llvm.copysign"),
    "math.floor": _intrinsic("llvm.floor"),
    "math.ceil": _intrinsic("llvm.ceil"),
    "math.trunc": _intrinsic("llvm.trunc"),
    "math.roundeven": _intrinsic("llvm.rint"),
    "math.round": _round,
    "math.isinf": _is_infinite,
    "math.powf": _of_two(double_power.power, double.power),
    "math.fpowi": _of_two(double_power.power, double.power),
    "math.atan2": _of_two(double.atan2, double.atan2),
    "arith.remf": _of_two(remainder, remainder),
    **dict.fromkeys((*F32, *DOUBLE), _function),
}
