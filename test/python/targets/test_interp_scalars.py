"""The interpreter on arith and math ops, against Python's own arithmetic."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from diagc.context import make_context
from diagc.mlir import ir
from diagc.targets import interp

Array = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def context() -> Iterator[ir.Context]:
    with make_context() as ctx, ir.Location.unknown():
        yield ctx


def scalar(
    text: str, source: str, result: str, *inputs: Any, first: str = "", **how: Any
) -> list[Any]:
    """Evaluate `text`, an op on scalars %e0, %e1 of type `source`, elementwise, after `first`."""
    wires = [f'tensor<?x{source}, ["n"]>' for _ in inputs]
    out = f'tensor<?x{result}, ["n"]>'
    arguments = ", ".join(f"%a{i}: {wire}" for i, wire in enumerate(wires))
    elements = "\n".join(
        f'%e{i} = "diag.element"(%a{i}) : ({wire}) -> {source}' for i, wire in enumerate(wires)
    )
    module = ir.Module.parse(f"""func.func @main({arguments}) -> {out} {{
      %r = "diag.map"() ({{
        {elements}
        {first}
        %y = {text}
        "diag.yield"(%y) : ({result}) -> ()
      }}) : () -> {out}
      return %r : {out}
    }}""")
    (array,) = interp.evaluate(module, [np.asarray(x) for x in inputs], **how)
    values: list[Any] = array.tolist()
    return values


X = [-2.5, -1.0, -0.3, 0.2, 0.7, 1.0, 2.5, 11.0]

UNARY: list[tuple[str, Callable[[float], float], Callable[[float], bool]]] = [
    ("absf", abs, lambda x: True),
    ("acos", math.acos, lambda x: abs(x) <= 1),
    ("asinh", math.asinh, lambda x: True),
    ("atan", math.atan, lambda x: True),
    ("cbrt", math.cbrt, lambda x: True),
    ("ceil", math.ceil, lambda x: True),
    ("cos", math.cos, lambda x: True),
    ("erf", math.erf, lambda x: True),
    ("erfc", math.erfc, lambda x: True),
    ("exp", math.exp, lambda x: True),
    ("exp2", math.exp2, lambda x: True),
    ("expm1", math.expm1, lambda x: True),
    ("floor", math.floor, lambda x: True),
    ("log", math.log, lambda x: x > 0),
    ("log10", math.log10, lambda x: x > 0),
    ("log1p", math.log1p, lambda x: x > -1),
    ("log2", math.log2, lambda x: x > 0),
    ("roundeven", round, lambda x: True),
    ("rsqrt", lambda x: 1 / math.sqrt(x), lambda x: x > 0),
    ("sin", math.sin, lambda x: True),
    ("sinh", math.sinh, lambda x: True),
    ("sqrt", math.sqrt, lambda x: x >= 0),
    ("tan", math.tan, lambda x: True),
    ("tanh", math.tanh, lambda x: True),
    ("trunc", math.trunc, lambda x: True),
]


@pytest.mark.parametrize(("name", "function", "domain"), UNARY, ids=[row[0] for row in UNARY])
def test_math_op(name: str, function: Any, domain: Any) -> None:
    x = [v for v in X if domain(v)]
    out = scalar(f"math.{name} %e0 : f32", "f32", "f32", x)
    np.testing.assert_allclose(out, [function(v) for v in x], rtol=1e-14)


def test_math_ops_outside_their_domain_give_nan_or_infinity_and_no_warning() -> None:
    assert np.isnan(scalar("math.sqrt %e0 : f32", "f32", "f32", [-1.0, math.nan])).all()
    assert scalar("math.log %e0 : f32", "f32", "f32", [0.0]) == [-math.inf]
    assert scalar("math.exp %e0 : f32", "f32", "f32", [math.inf, -math.inf]) == [math.inf, 0.0]
    assert np.isnan(scalar("math.erf %e0 : f32", "f32", "f32", [math.nan])).all()
    assert scalar("math.round %e0 : f32", "f32", "f32", [0.5, -2.5]) == [1.0, -3.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arith.addf", [4.5, math.nan]),
        ("arith.subf", [-1.5, math.nan]),
        ("arith.mulf", [4.5, math.nan]),
        ("arith.divf", [0.5, math.nan]),
        ("arith.maximumf", [3.0, math.nan]),
        ("arith.maxnumf", [3.0, 2.0]),
        ("arith.minimumf", [1.5, math.nan]),
        ("arith.minnumf", [1.5, 2.0]),
        ("math.powf", [1.5**3, math.nan]),
        ("math.atan2", [math.atan2(1.5, 3.0), math.nan]),
        ("arith.remf", [1.5, math.nan]),
    ],
)
def test_binary_float_op(text: str, expected: list[float]) -> None:
    out = scalar(f"{text} %e0, %e1 : f32", "f32", "f32", [1.5, 2.0], [3.0, math.nan])
    np.testing.assert_allclose(out, expected)


ORDERED = {
    "oeq": [False, True, False, False],
    "ogt": [False, False, True, False],
    "oge": [False, True, True, False],
    "olt": [True, False, False, False],
    "ole": [True, True, False, False],
    "one": [True, False, True, False],
    "ord": [True, True, True, False],
}


@pytest.mark.parametrize("predicate", [*ORDERED, "false", "true", "uno"])
def test_cmpf(predicate: str) -> None:
    left, right = [1.0, 2.0, 3.0, math.nan], [2.0, 2.0, 2.0, 2.0]
    out = scalar(f"arith.cmpf {predicate}, %e0, %e1 : f32", "f32", "i1", left, right)
    expected = {
        **ORDERED,
        "false": [False] * 4,
        "true": [True] * 4,
        "uno": [False, False, False, True],
    }
    assert out == expected[predicate]
    if predicate in ORDERED and predicate != "ord":
        unordered = f"arith.cmpf u{predicate[1:]}, %e0, %e1 : f32"
        assert scalar(unordered, "f32", "i1", left, right) == [*ORDERED[predicate][:3], True]


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("eq", [False, True, False]),
        ("ne", [True, False, True]),
        ("slt", [True, False, False]),
        ("sge", [False, True, True]),
        ("ult", [False, False, False]),
        ("uge", [True, True, True]),
        ("ugt", [True, False, True]),
        ("sle", [True, True, False]),
    ],
)
def test_cmpi(predicate: str, expected: list[bool]) -> None:
    out = scalar(f"arith.cmpi {predicate}, %e0, %e1 : i32", "i32", "i1", [-1, 2, 7], [2, 2, 2])
    assert out == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arith.addi", [0, -5, -126]),
        ("arith.subi", [0, -9, 124]),
        ("arith.muli", [0, -14, 125]),
        ("arith.divsi", [1, -3, 42]),
        ("arith.floordivsi", [1, -4, 42]),
        ("arith.ceildivsi", [1, -3, 43]),
        ("arith.remsi", [0, -1, 1]),
        ("arith.andi", [-128, 0, 3]),
        ("arith.ori", [-128, -5, 127]),
        ("arith.xori", [0, -5, 124]),
        ("arith.maxsi", [-128, 2, 127]),
        ("arith.minsi", [-128, -7, 3]),
        ("arith.maxui", [-128, -7, 127]),
        ("arith.minui", [-128, 2, 3]),
        ("arith.divui", [1, 124, 42]),
        ("arith.remui", [0, 1, 1]),
    ],
)
def test_integer_op_wraps_to_its_width(text: str, expected: list[int]) -> None:
    left, right = np.array([-128, -7, 127]), np.array([-128, 2, 3])
    out = scalar(f"{text} %e0, %e1 : i8", "i8", "i8", left, right)
    assert out == expected


def test_shifts_and_bit_count() -> None:
    ones = [1, 1, 4]
    assert scalar("arith.shli %e0, %e1 : i8", "i8", "i8", [3, 127, -1], ones) == [6, -2, -16]
    assert scalar("arith.shrsi %e0, %e1 : i8", "i8", "i8", [3, -2, -128], ones) == [1, -1, -8]
    assert scalar("arith.shrui %e0, %e1 : i8", "i8", "i8", [3, -2, -128], ones) == [1, 127, 8]
    assert scalar("math.ctpop %e0 : i8", "i8", "i8", [3, -1, 0]) == [2, 8, 0]


def test_logic_on_i1() -> None:
    left, right = np.array([True, True, False]), np.array([True, False, False])
    assert scalar("arith.andi %e0, %e1 : i1", "i1", "i1", left, right) == [True, False, False]
    assert scalar("arith.ori %e0, %e1 : i1", "i1", "i1", left, right) == [True, True, False]
    assert scalar("arith.xori %e0, %e1 : i1", "i1", "i1", left, right) == [False, True, False]
    assert scalar("arith.extui %e0 : i1 to i32", "i1", "i32", left) == [1, 1, 0]
    assert scalar("arith.extsi %e0 : i1 to i32", "i1", "i32", left) == [-1, -1, 0]
    assert scalar("arith.uitofp %e0 : i1 to f32", "i1", "f32", left) == [1.0, 1.0, 0.0]


def test_casts() -> None:
    assert scalar("arith.index_cast %e0 : index to i32", "index", "i32", [5, 2**31]) == [
        5,
        -(2**31),
    ]
    assert scalar("arith.trunci %e0 : i32 to i8", "i32", "i8", [300, -129]) == [44, 127]
    assert scalar("arith.extui %e0 : i8 to i32", "i8", "i32", [-1]) == [255]
    assert scalar("arith.sitofp %e0 : i8 to f32", "i8", "f32", [-3]) == [-3.0]
    assert scalar("arith.fptosi %e0 : f32 to i32", "f32", "i32", [-3.7, 3.7]) == [-3, 3]
    assert scalar("arith.fptoui %e0 : f32 to i8", "f32", "i8", [200.5]) == [-56]
    assert scalar("arith.bitcast %e0 : f32 to i32", "f32", "i32", [1.0]) == [0x3F800000]
    assert scalar("arith.bitcast %e0 : i16 to bf16", "i16", "bf16", [0x3FC0]) == [1.5]
    assert scalar("arith.bitcast %e0 : bf16 to i16", "bf16", "i16", [1.5]) == [0x3FC0]


def test_select_takes_nothing_from_the_other_side() -> None:
    text = "arith.select %c, %e0, %e1 : f32"
    first = "%c = arith.cmpf ord, %e0, %e0 : f32"
    left, right = [1.0, math.nan, 4.0], [math.nan, 2.0, 3.0]
    assert scalar(text, "f32", "f32", left, right, first=first) == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(("type_", "dtype"), [("f16", np.float16), ("f32", np.float32)])
def test_round_to_agrees_with_numpy(type_: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate(
        [
            rng.normal(size=2000) * 2.0 ** rng.integers(-30, 20, size=2000),
            [0.0, -0.0, np.inf, -np.inf, np.nan, 65504.0, 65519.0, 65520.0, 1e-7, 1e300, 5e-324],
            1 + (np.arange(200) + 0.5) / 1024,
        ]
    )
    with np.errstate(all="ignore"):
        expected = x.astype(dtype).astype(np.float64)
    assert np.array_equal(interp.round_to(x, type_), expected, equal_nan=True)


def test_round_to_bf16_is_the_nearest_with_ties_to_even() -> None:
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-40, 3.4e38, np.nan, -np.inf])
    expected = [1.0, 1.0, 1 + 2**-6, 1 + 2**-7, np.inf, np.nan, -np.inf]
    assert np.array_equal(interp.round_to(x, "bf16"), expected, equal_nan=True)
    tiny = np.array([2.0**-133, 2.0**-134, 2.0**-134 * 1.5])
    assert interp.round_to(tiny, "bf16").tolist() == [2.0**-133, 0.0, 2.0**-133]


def test_casts_round_only_when_asked() -> None:
    x = [1 + 2**-12]
    assert scalar("arith.truncf %e0 : f32 to bf16", "f32", "bf16", x) == x
    assert scalar("arith.truncf %e0 : f32 to bf16", "f32", "bf16", x, round_casts=True) == [1.0]
