"""Scalar ops on the CPU against float64, over wide ranges: 0, subnormals, infinities, NaN."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from diagc.testing.agreement import Agreement, agreement, ir_agreement
from diagc.testing.scalar_cases import (
    FLOATS,
    FUNCTIONS,
    INTEGER_OPS,
    INTEGERS,
    LONG,
    PREDICATES,
    REALS,
    SEED,
    Scalar,
    check_elementwise,
    map_module,
    maps_module,
    numbers,
    ulps,
    wide_range,
)


def compiled(body: str, inputs: Sequence[str], result: str) -> Agreement:
    return compiled_maps([Scalar(body, inputs, result)])


def compiled_maps(cases: Sequence[Scalar]) -> Agreement:
    both = ir_agreement(maps_module(cases))
    assert 1 <= len(both.kernels) <= len(cases)
    assert both.fall_backs == []
    return both


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_within_a_few_units_of_the_last_place(name: str, dtype: str) -> None:
    exact, bound = FUNCTIONS[name]
    x = wide_range(dtype)
    both = compiled(f"math.{name} %x0 : {dtype}", [dtype], dtype)
    with np.errstate(all="ignore"):
        error = ulps(both.program.run([x])[0], exact(x.astype(LONG)), dtype)
    assert error <= bound, f"seed {SEED}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["powf", "atan2", "copysign"])
def test_functions_of_two_arguments(name: str, dtype: str) -> None:
    rng = np.random.default_rng(SEED)
    x = wide_range(dtype)
    y = rng.permutation(x)
    both = compiled(f"math.{name} %x0, %x1 : {dtype}", [dtype, dtype], dtype)
    exact = {"powf": np.power, "atan2": np.arctan2, "copysign": np.copysign}[name]
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(LONG), y.astype(LONG))
        assert ulps(both.program.run([x, y])[0], wanted, dtype) <= 1.5, f"seed {SEED}"


# what users call is made of these; the tails of GELU and SiLU cancel as they do in torch
COMPOSED: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0,
    "silu": lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
    "gelu": lambda x: 0.5 * x * math.erfc(-x * math.sqrt(0.5)),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
    "relu": lambda x: max(x, 0.0),
}
HALF_ULP = {"f32": 3e-7, "f64": 6e-16, "bf16": 4.0e-3, "f16": 5.0e-4}


@pytest.mark.parametrize("dtype", HALF_ULP)
@pytest.mark.parametrize("name", COMPOSED)
def test_activations(name: str, dtype: str) -> None:
    both = agreement(f"axis n\ndiagram f(X: n {dtype}) {{\n  return {name}(X)\n}}\n")
    assert both.fall_backs == []
    (x,) = both.random({"n": 5000}, SEED, 4.0)
    wanted = np.array([COMPOSED[name](float(v)) for v in x])
    (found,) = both.program.run([x])
    error = np.abs(found.astype(np.float64) - wanted) / np.maximum(np.abs(wanted), 1.0)
    assert error.max() <= HALF_ULP[dtype], f"seed {SEED}"


def check(*cases: tuple[str, Sequence[str], str]) -> None:
    """Both meanings of each agree elementwise, within one rounding of the result.

    They are body, types of the inputs and of the result; those that share inputs are one kernel.
    """
    maps = [Scalar(*case) for case in cases]
    check_elementwise(compiled_maps(maps), maps)


@pytest.mark.parametrize("dtype", REALS)
def test_float_arithmetic(dtype: str) -> None:
    ops = ("addf", "subf", "mulf", "divf", "remf", "maximumf", "minimumf", "maxnumf", "minnumf")
    check(*((f"arith.{op} %x0, %x1 : {dtype}", [dtype, dtype], dtype) for op in ops))


@pytest.mark.parametrize("dtype", REALS)
def test_other_ops_of_floats(dtype: str) -> None:
    check(
        (f"arith.negf %x0 : {dtype}", [dtype], dtype),
        (f"math.clampf %x0 to [%x1, %x2] : {dtype}", [dtype] * 3, dtype),
        (f"arith.select %x0, %x1, %x2 : {dtype}", ["i1", dtype, dtype], dtype),
        *((f"math.{op} %x0 : {dtype}", [dtype], "i1") for op in ("isnan", "isinf", "isfinite")),
    )


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_comparisons_of_floats(dtype: str) -> None:
    check(
        *(
            (f"arith.cmpf {predicate}, %x0, %x1 : {dtype}", [dtype, dtype], "i1")
            for predicate in PREDICATES.split()
        )
    )


@pytest.mark.parametrize("dtype", REALS)
def test_casts_between_floats_and_integers(dtype: str) -> None:
    integers = ("i8", "i16", "i32", "i64")
    check(
        *((f"arith.sitofp %x0 : {integer} to {dtype}", [integer], dtype) for integer in integers),
        *((f"arith.fptosi %x0 : {dtype} to {integer}", [dtype], integer) for integer in integers),
        (f"arith.uitofp %x0 : i1 to {dtype}", ["i1"], dtype),
    )


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [("f16", "f32"), ("bf16", "f32"), ("f32", "f64"), ("f16", "f64"), ("bf16", "f64")],
)
def test_casts_between_floats(narrow: str, wide: str) -> None:
    check(
        (f"arith.extf %x0 : {narrow} to {wide}", [narrow], wide),
        (f"arith.truncf %x0 : {wide} to {narrow}", [wide], narrow),
    )


@pytest.mark.parametrize(
    ("float_type", "integer"), [("f32", "i32"), ("f64", "i64"), ("bf16", "i16"), ("f16", "i16")]
)
def test_bits(float_type: str, integer: str) -> None:
    both = compiled(f"arith.bitcast %x0 : {float_type} to {integer}", [float_type], integer)
    values = numbers(float_type, SEED)
    values = values[~np.isnan(values)]
    np.testing.assert_array_equal(both.program.run([values])[0], both.reference.run([values])[0])
    back = compiled(f"arith.bitcast %x0 : {integer} to {float_type}", [integer], float_type)
    bits = both.program.run([values])[0]
    np.testing.assert_array_equal(back.program.run([bits])[0], values)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_arithmetic(dtype: str) -> None:
    ops = INTEGER_OPS.split()
    check(*((f"arith.{op} %x0, %x1 : {dtype}", [dtype, dtype], dtype) for op in ops))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_comparisons_and_choices_of_integers(dtype: str) -> None:
    predicates = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")
    cases: list[tuple[str, Sequence[str], str]] = [
        (f"arith.cmpi {predicate}, %x0, %x1 : {dtype}", [dtype, dtype], "i1")
        for predicate in predicates
    ]
    cases.append((f"arith.select %x0, %x1, %x2 : {dtype}", ["i1", dtype, dtype], dtype))
    if dtype != "index":
        cases += [
            (f"math.absi %x0 : {dtype}", [dtype], dtype),
            (f"arith.extui %x0 : i1 to {dtype}", ["i1"], dtype),
            (f"arith.index_cast %x0 : index to {dtype}", ["index"], dtype),
        ]
    check(*cases)


@pytest.mark.parametrize(("narrow", "wide"), [("i8", "i16"), ("i8", "i64"), ("i32", "i64")])
def test_casts_between_integers(narrow: str, wide: str) -> None:
    check(
        (f"arith.extsi %x0 : {narrow} to {wide}", [narrow], wide),
        (f"arith.extui %x0 : {narrow} to {wide}", [narrow], wide),
        (f"arith.trunci %x0 : {wide} to {narrow}", [wide], narrow),
    )


def test_logic() -> None:
    check(
        *((f"arith.{op} %x0, %x1 : i1", ["i1", "i1"], "i1") for op in ("andi", "ori", "xori")),
        ("arith.cmpi eq, %x0, %x1 : i1", ["i1", "i1"], "i1"),
        ("arith.select %x0, %x1, %x2 : i1", ["i1", "i1", "i1"], "i1"),
    )


def test_sentinels_compare_with_positions_as_they_should() -> None:
    body = """arith.constant 5 : index
    %z = arith.index_cast %x0 : i64 to index
    %r = arith.cmpi sgt, %z, %y : index"""
    source = map_module(body, ["i64"], "i1").replace('"diag.yield"(%y)', '"diag.yield"(%r)')
    both = ir_agreement(source)
    values = np.array([2**63 - 1, -(2**63), 2**40, -(2**40), 5, 6])
    assert both.program.run([values])[0].tolist() == [True, False, True, False, False, True]
