"""Scalar ops of a GPU thread in the simulator, against extended precision and the interpreter."""

from collections.abc import Sequence

import mpmath
import numpy as np
import pytest

from diagc.simulator import SimulatorOptions
from diagc.simulator.program import simulated_program
from diagc.testing.agreement import Agreement, ir_agreement
from diagc.testing.scalar_cases import (
    FUNCTIONS,
    INTEGER_OPS,
    INTEGERS,
    LONG,
    PREDICATES,
    REALS,
    SEED,
    Array,
    Scalar,
    check_elementwise,
    map_module,
    maps_module,
    numbers,
    ulps,
    wide_range,
)

QUICK = SimulatorOptions(checking=False)  # no thread looks at what another one does
# in f64, to units of the last place
PRECISE = {
    "exp": 1.1,
    "exp2": 1.1,
    "expm1": 2.5,
    "log": 1.5,
    "log2": 1.6,
    "log10": 3.0,
    "log1p": 2.5,
    "tanh": 3.0,
    "acos": 5.0,
    "acosh": 2.5,
    "asin": 5.0,
    "asinh": 3.0,
    "atan": 5.0,
    "atanh": 3.0,
    "cbrt": 1.1,
    "cosh": 2.5,
    "sinh": 2.5,
    "sqrt": 0.51,
    "rsqrt": 1.6,
    "sin": 1.1,
    "cos": 1.1,
    "tan": 2.0,
    "floor": 0.0,
    "ceil": 0.0,
    "trunc": 0.0,
    "roundeven": 0.0,
    "round": 0.0,
    "absf": 0.0,
}


def compiled(body: str, inputs: Sequence[str], result: str) -> Agreement:
    return compiled_maps([Scalar(body, inputs, result)])


def compiled_maps(cases: Sequence[Scalar]) -> Agreement:
    both = ir_agreement(maps_module(cases), target="nvptx")
    assert both.fall_backs == []
    return Agreement(simulated_program(both.program, QUICK), both.reference)


def check(*cases: tuple[str, Sequence[str], str]) -> None:
    """Those that share inputs are computed by one kernel."""
    maps = [Scalar(*case) for case in cases]
    check_elementwise(compiled_maps(maps), maps)


def error(name: str, dtype: str) -> float:
    exact, _ = FUNCTIONS[name]
    x = wide_range(dtype)
    both = compiled(f"math.{name} %x0 : {dtype}", [dtype], dtype)
    with np.errstate(all="ignore"):
        return ulps(both.program.run([x])[0], exact(x.astype(LONG)), dtype)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f32_functions_are_within_a_few_units_of_the_last_place(name: str) -> None:
    assert error(name, "f32") <= FUNCTIONS[name][1], f"seed {SEED}"


@pytest.mark.parametrize("name", PRECISE)
def test_f64_functions_are_within_a_few_units_of_the_last_place(name: str) -> None:
    assert error(name, "f64") <= PRECISE[name], f"seed {SEED}"


def of_two(name: str, dtype: str, x: Array, y: Array) -> Array:
    dialect = "arith" if name == "remf" else "math"
    both = compiled(f"{dialect}.{name} %x0, %x1 : {dtype}", [dtype, dtype], dtype)
    with np.errstate(all="ignore"):
        return both.program.run([x, y])[0]


EXACT = {"powf": np.power, "atan2": np.arctan2, "copysign": np.copysign}


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", EXACT)
def test_functions_of_two_arguments(name: str, dtype: str) -> None:
    x = wide_range(dtype)
    y = np.random.default_rng(SEED).permutation(x)
    with np.errstate(all="ignore"):
        wanted = EXACT[name](x.astype(LONG), y.astype(LONG))
    limit = 5.0 if (name, dtype) == ("atan2", "f64") else 1.5
    assert ulps(of_two(name, dtype, x, y), wanted, dtype) <= limit, f"seed {SEED}"


def test_erf_of_f64() -> None:
    x = np.concatenate([wide_range("f64")[::6], np.linspace(-6.5, 6.5, 2001), [np.nan]])
    both = compiled("math.erf %x0 : f64", ["f64"], "f64")
    with mpmath.workprec(200):
        exact = [mpmath.nstr(mpmath.erf(mpmath.mpf(float(v))), 25) for v in x]
    assert ulps(both.program.run([x])[0], np.array([LONG(v) for v in exact]), "f64") <= 1.6


def test_powers_that_nearly_overflow() -> None:
    """An error of y log x is one of the result: 710 units of the last place, if it were rounded."""
    rng = np.random.default_rng(SEED)
    x = np.exp2(rng.uniform(-2, 2, 3000))
    y = rng.uniform(-745, 709, 3000) / np.log(x)
    with mpmath.workprec(200), np.errstate(all="ignore"):
        exact = [float(mpmath.mpf(a) ** mpmath.mpf(b)) for a, b in zip(x, y, strict=True)]
    assert ulps(of_two("powf", "f64", x, y), np.array(exact, LONG), "f64") <= 2.0


def test_remainders_of_f64_are_exact() -> None:
    """Of numbers as far apart as there are, and where the quotient is just below a short one."""
    x = wide_range("f64")
    rng = np.random.default_rng(SEED)
    y = rng.permutation(x)
    step = rng.uniform(1, 2, 4000) * np.exp2(rng.integers(-300, 300, 4000))
    whole = np.exp2(rng.integers(0, 400, 4000)) * rng.integers(1, 2**25, 4000)
    near = np.nextafter(step * whole, rng.choice([0.0, np.inf], 4000))
    x, y = np.concatenate([x, near, step * whole]), np.concatenate([y, step, step])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(of_two("remf", "f64", x, y), np.fmod(x, y))


# the second is the double that is next to a multiple of pi/2, of all
HARD_ANGLES = (
    *(5.319372648326541e255, 6381956970095103 * 2.0**797, np.pi, np.pi / 2, 2.0**27, 2.0**27 + 1),
    *(1e22, 1.7976931348623157e308, 2.0**1023, 134217729.0000001, 5e-324, 1e-300, 0.0, -0.0),
)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_f64_angles_next_to_multiples_of_a_quarter_turn(name: str) -> None:
    """The rest has all its digits where 60 of them cancel."""
    rng = np.random.default_rng(SEED)
    quarters = np.pi / 2 * np.rint(np.exp2(rng.uniform(0, 60, 1500)))
    x = np.concatenate([HARD_ANGLES, quarters, np.exp2(rng.uniform(-1074, 1023.9, 1500))])
    x = np.concatenate([x, -x])
    both = compiled(f"math.{name} %x0 : f64", ["f64"], "f64")
    (found,) = both.program.run([x])
    with mpmath.workprec(1300):
        exact = [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x]
        values = np.array([LONG(mpmath.nstr(v, 25)) for v in exact])
    assert ulps(found, values, "f64") <= (2.0 if name == "tan" else 1.1), f"seed {SEED}"
    assert name == "cos" or np.array_equal(np.signbit(found[x == 0]), np.signbit(x[x == 0]))


def test_exp_of_what_is_not_positive() -> None:
    source = map_module("math.exp %x0 {diag.nonpositive} : f32", ["f32"], "f32")
    both = ir_agreement(source, target="nvptx")
    program = simulated_program(both.program, QUICK)
    x = -np.abs(wide_range("f32"))
    (found,) = program.run([x])
    exact = np.exp(x.astype(np.float64))
    assert np.abs(np.nan_to_num(found - exact)).max() <= 2e-7
    assert (found[x < -88] == 0).all()  # exactly: a row that is masked everywhere sums to 0
    assert np.array_equal(np.isnan(found), np.isnan(x))


@pytest.mark.parametrize("dtype", REALS)
def test_arithmetic_of_floats(dtype: str) -> None:
    ops = ("addf", "subf", "mulf", "divf", "remf", "maximumf", "minimumf", "maxnumf", "minnumf")
    check(
        *((f"arith.{op} %x0, %x1 : {dtype}", [dtype, dtype], dtype) for op in ops),
        (f"arith.negf %x0 : {dtype}", [dtype], dtype),
        (f"math.clampf %x0 to [%x1, %x2] : {dtype}", [dtype] * 3, dtype),
        *((f"math.{op} %x0 : {dtype}", [dtype], "i1") for op in ("isnan", "isinf", "isfinite")),
    )


def test_comparisons_of_floats() -> None:
    check(
        *(
            (f"arith.cmpf {predicate}, %x0, %x1 : f32", ["f32", "f32"], "i1")
            for predicate in PREDICATES.split()
        )
    )


@pytest.mark.parametrize("dtype", REALS)
def test_casts_of_floats(dtype: str) -> None:
    integers, wides = ("i8", "i16", "i32", "i64"), ("f32", "f64")
    cases: list[tuple[str, Sequence[str], str]] = [
        *((f"arith.sitofp %x0 : {integer} to {dtype}", [integer], dtype) for integer in integers),
        *((f"arith.fptosi %x0 : {dtype} to {integer}", [dtype], integer) for integer in integers),
        (f"arith.uitofp %x0 : i1 to {dtype}", ["i1"], dtype),
    ]
    if dtype in ("f16", "bf16"):
        cases += ((f"arith.extf %x0 : {dtype} to {wide}", [dtype], wide) for wide in wides)
        cases += ((f"arith.truncf %x0 : {wide} to {dtype}", [wide], dtype) for wide in wides)
    check(*cases)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_arithmetic_of_integers(dtype: str) -> None:
    ops, predicates = INTEGER_OPS.split(), ("eq", "slt", "sge", "ult", "uge")
    check(
        *((f"arith.{op} %x0, %x1 : {dtype}", [dtype, dtype], dtype) for op in ops),
        *((f"arith.cmpi {p}, %x0, %x1 : {dtype}", [dtype, dtype], "i1") for p in predicates),
    )


@pytest.mark.parametrize(
    ("float_type", "integer"), [("f32", "i32"), ("f64", "i64"), ("bf16", "i16"), ("f16", "i16")]
)
def test_bits(float_type: str, integer: str) -> None:
    both = compiled(f"arith.bitcast %x0 : {float_type} to {integer}", [float_type], integer)
    values = numbers(float_type, SEED)
    values = values[~np.isnan(values)]
    np.testing.assert_array_equal(both.program.run([values])[0], both.reference.run([values])[0])
