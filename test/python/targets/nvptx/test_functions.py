"""Scalar ops of a GPU thread in the simulator, against extended precision and the interpreter."""

from collections.abc import Sequence

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
    check_elementwise,
    map_module,
    numbers,
    ulps,
    wide_range,
)

QUICK = SimulatorOptions(checking=False)  # no thread looks at what another one does
# in f64, to units of the last place; the others are refused in f64
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
    "floor": 0.0,
    "ceil": 0.0,
    "trunc": 0.0,
    "roundeven": 0.0,
    "round": 0.0,
    "absf": 0.0,
}


def compiled(body: str, inputs: Sequence[str], result: str) -> Agreement:
    both = ir_agreement(map_module(body, inputs, result), target="nvptx")
    assert both.fall_backs == []
    return Agreement(simulated_program(both.program, QUICK), both.reference)


def check(body: str, inputs: Sequence[str], result: str) -> None:
    check_elementwise(compiled(body, inputs, result), body, inputs, result)


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


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - set(PRECISE)))
def test_f64_functions_without_precise_code_are_refused(name: str) -> None:
    source = map_module(f"math.{name} %x0 : f64", ["f64"], "f64")
    (why,) = ir_agreement(source, target="nvptx").fall_backs
    assert f"'math.{name}' is not supported yet: in f64 on a GPU" in why


@pytest.mark.parametrize("name", ["powf", "atan2", "copysign"])
def test_functions_of_two_arguments(name: str) -> None:
    x = wide_range("f32")
    y = np.random.default_rng(SEED).permutation(x)
    both = compiled(f"math.{name} %x0, %x1 : f32", ["f32", "f32"], "f32")
    exact = {"powf": np.power, "atan2": np.arctan2, "copysign": np.copysign}[name]
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(LONG), y.astype(LONG))
        assert ulps(both.program.run([x, y])[0], wanted, "f32") <= 1.5, f"seed {SEED}"


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
    for op in ("addf", "subf", "mulf", "divf", "maximumf", "minimumf", "maxnumf", "minnumf"):
        check(f"arith.{op} %x0, %x1 : {dtype}", [dtype, dtype], dtype)
    if dtype != "f64":
        check(f"arith.remf %x0, %x1 : {dtype}", [dtype, dtype], dtype)
    check(f"arith.negf %x0 : {dtype}", [dtype], dtype)
    check(f"math.clampf %x0 to [%x1, %x2] : {dtype}", [dtype] * 3, dtype)
    for op in ("isnan", "isinf", "isfinite"):
        check(f"math.{op} %x0 : {dtype}", [dtype], "i1")


@pytest.mark.parametrize("predicate", PREDICATES.split())
def test_comparisons_of_floats(predicate: str) -> None:
    check(f"arith.cmpf {predicate}, %x0, %x1 : f32", ["f32", "f32"], "i1")


@pytest.mark.parametrize("dtype", REALS)
def test_casts_of_floats(dtype: str) -> None:
    for integer in ("i8", "i16", "i32", "i64"):
        check(f"arith.sitofp %x0 : {integer} to {dtype}", [integer], dtype)
        check(f"arith.fptosi %x0 : {dtype} to {integer}", [dtype], integer)
    check(f"arith.uitofp %x0 : i1 to {dtype}", ["i1"], dtype)
    if dtype in ("f16", "bf16"):
        for wide in ("f32", "f64"):
            check(f"arith.extf %x0 : {dtype} to {wide}", [dtype], wide)
            check(f"arith.truncf %x0 : {wide} to {dtype}", [wide], dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_arithmetic_of_integers(dtype: str) -> None:
    for op in INTEGER_OPS.split():
        check(f"arith.{op} %x0, %x1 : {dtype}", [dtype, dtype], dtype)
    for predicate in ("eq", "slt", "sge", "ult", "uge"):
        check(f"arith.cmpi {predicate}, %x0, %x1 : {dtype}", [dtype, dtype], "i1")


@pytest.mark.parametrize(
    ("float_type", "integer"), [("f32", "i32"), ("f64", "i64"), ("bf16", "i16"), ("f16", "i16")]
)
def test_bits(float_type: str, integer: str) -> None:
    both = compiled(f"arith.bitcast %x0 : {float_type} to {integer}", [float_type], integer)
    values = numbers(float_type, SEED)
    values = values[~np.isnan(values)]
    np.testing.assert_array_equal(both.program.run([values])[0], both.reference.run([values])[0])
