"""Inputs and exact results for tests of scalar ops, over wide ranges: 0, subnormals, inf, NaN."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diagc.testing.agreement import Agreement

__all__ = [
    "FLOATS",
    "FUNCTIONS",
    "INTEGERS",
    "INTEGER_OPS",
    "LONG",
    "PREDICATES",
    "REALS",
    "SEED",
    "Array",
    "Scalar",
    "check_elementwise",
    "map_module",
    "maps_module",
    "numbers",
    "ulps",
    "wide_range",
]  # fmt: skip

SEED = 20250317
Array = Any
LONG = np.longdouble
FLOATS: dict[str, Any] = {"f32": np.float32, "f64": np.float64}


@dataclass(frozen=True)
class Scalar:
    """A scalar computation: `body` computes from %x0, %x1 and so on, of the types `inputs`."""

    body: str
    inputs: Sequence[str]
    result: str

    @property
    def arguments(self) -> dict[str, str]:
        """Names of the function's arguments that it reads, with their types; see `_operands`."""
        op = self.body.split()[0].partition(".")[2]
        kinds = {"shli": "shift", "shrsi": "shift", "fptosi": "small"}
        count = len(self.inputs)
        kind = [kinds[op] if op in kinds and i == count - 1 else "any" for i in range(count)]
        return {f"%{kind[i]}_{t}_{i}": t for i, t in enumerate(self.inputs)}


_WIRE = 'tensor<?x{}, ["n"]>'


def map_module(body: str, inputs: Sequence[str], result: str) -> str:
    """A module with one map."""
    return maps_module([Scalar(body, inputs, result)])


def maps_module(cases: Sequence[Scalar]) -> str:
    """A module with one map a case; those that share inputs become one kernel."""
    arguments = (f"{a}: {_WIRE.format(dtype)}" for a, dtype in _all_arguments(cases).items())
    maps = "".join(_map_text(k, case) for k, case in enumerate(cases))
    results = ", ".join(_WIRE.format(case.result) for case in cases)
    names = ", ".join(f"%r{k}" for k in range(len(cases)))
    head = f"func.func @main({', '.join(arguments)}) -> ({results})"
    return f"{head} {{{maps}\n  return {names} : {results}\n}}\n"


def _all_arguments(cases: Sequence[Scalar]) -> dict[str, str]:
    return {name: dtype for case in cases for name, dtype in case.arguments.items()}


def _map_text(number: int, case: Scalar) -> str:
    reads = "\n".join(
        f'    %x{i} = "diag.element"({name}) : ({_WIRE.format(dtype)}) -> {dtype}'
        for i, (name, dtype) in enumerate(case.arguments.items())
    )
    return f"""
  %r{number} = "diag.map"() ({{
{reads}
    %y = {case.body}
    "diag.yield"(%y) : ({case.result}) -> ()
  }}) : () -> {_WIRE.format(case.result)}"""


def wide_range(dtype: str) -> Array:
    """All magnitudes of a type, many near 1, both signs, and special numbers."""
    info = np.finfo(FLOATS[dtype])
    rng = np.random.default_rng(SEED)
    low, high = math.log2(float(info.tiny)) - info.nmant, math.log2(float(info.max))
    exponents = np.concatenate([rng.uniform(low, high - 1e-3, 6000), rng.uniform(-10, 7, 12000)])
    special = [
        *(0.0, float(info.tiny), float(info.smallest_subnormal), float(info.max), math.inf),
        *(0.5, 0.6, 0.625, 1.0, 1.5, 2.0, 2.5, 3.5, 4.0, math.log(2), math.pi, math.pi / 2, 1e5),
        *(88.72, 88.8, 89.0, 103.9, 104.5, 709.7, 710.0, 745.2, 8191.9, 8192.5, 8388607.5, 2**31),
    ]
    sizes = np.concatenate([special, np.exp2(exponents)])
    return np.concatenate([sizes, -sizes, [math.nan]]).astype(FLOATS[dtype])


def ulps(found: Array, exact: Array, dtype: str) -> float:
    """The largest error in units of the last place; infinite where NaN or infinities differ."""
    float_type = FLOATS[dtype]
    with np.errstate(all="ignore"):
        rounded = exact.astype(float_type)
        normal = np.isfinite(rounded)
        if not np.array_equal(found[~normal], rounded[~normal], equal_nan=True):
            return math.inf
        if not np.isfinite(found[normal]).all():
            return math.inf
        smallest = LONG(np.finfo(float_type).smallest_subnormal)
        unit = np.maximum(np.spacing(np.abs(rounded[normal])).astype(LONG), smallest)
        return float((np.abs(found[normal].astype(LONG) - exact[normal]) / unit).max())


def each(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """A function of the math module on arrays."""

    def apply(x: Array) -> Array:
        values = [math.nan if math.isnan(v) else function(v) for v in x.astype(np.float64)]
        return np.array(values).astype(LONG)

    return apply


FUNCTIONS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp": (np.exp, 1.1),
    "exp2": (np.exp2, 1.1),
    "expm1": (np.expm1, 2.5),
    "log": (np.log, 1.1),
    "log2": (np.log2, 1.1),
    "log10": (np.log10, 2.5),
    "log1p": (np.log1p, 2.5),
    "sqrt": (np.sqrt, 0.51),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.6),
    "cbrt": (np.cbrt, 4.0),
    "erf": (each(math.erf), 2.6),
    "tanh": (np.tanh, 2.3),
    "sin": (np.sin, 2.0),
    "cos": (np.cos, 2.0),
    "tan": (np.tan, 1.1),
    "asin": (np.arcsin, 1.1),
    "acos": (np.arccos, 1.1),
    "atan": (np.arctan, 1.1),
    "sinh": (np.sinh, 2.5),
    "cosh": (np.cosh, 2.5),
    "asinh": (np.arcsinh, 2.5),
    "atanh": (np.arctanh, 2.5),
    "acosh": (np.arccosh, 2.5),
    "floor": (np.floor, 0.0),
    "ceil": (np.ceil, 0.0),
    "trunc": (np.trunc, 0.0),
    "roundeven": (np.rint, 0.0),
    "round": (lambda x: np.copysign(np.floor(np.abs(x) + LONG(0.5)), x), 0.0),
    "absf": (np.abs, 0.0),
}


def numbers(dtype: str, seed: int, count: int = 500) -> Array:
    """Numbers of any type, with special ones; exact in that type."""
    rng = np.random.default_rng(seed)
    if dtype == "i1":
        return rng.random(count) < 0.5
    if dtype.startswith("i"):
        bits = {"i8": 7, "i16": 15, "i32": 31, "i64": 62, "index": 14}[dtype]
        low = 0 if dtype == "index" else -(2**bits) + 1
        values = np.where(
            rng.random(count) < 0.5,
            rng.integers(low, 2**bits, count),
            rng.integers(max(low, -9), 10, count),
        )
        return values.astype({"i8": np.int8, "i16": np.int16, "i32": np.int32}.get(dtype, np.int64))
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 3.5, -2.5, math.inf, -math.inf, math.nan, math.nan]
    size = np.exp2(rng.uniform(-12, 12, count)) * rng.choice([-1, 1], count)
    values = np.concatenate([special, rng.choice(special, 60), size])
    if dtype == "bf16":
        bits32 = values.astype(np.float32).view(np.uint32) & 0xFFFF0000
        return bits32.view(np.float32).astype(np.float64)
    return values.astype({"f16": np.float16, "f32": np.float32}.get(dtype, np.float64))


INTEGERS = ("i8", "i16", "i32", "i64", "index")
REALS = ("f32", "f64", "bf16", "f16")
ROUNDING = {"f32": 1.2e-7, "f64": 2.3e-16, "bf16": 3.9e-3, "f16": 4.9e-4, "": 0.0}


PREDICATES = "oeq ogt oge olt ole one ord ueq ugt uge ult ule une uno"
INTEGER_OPS = "addi subi muli andi ori xori maxsi minsi divsi remsi floordivsi ceildivsi shli shrsi"


def check_elementwise(both: Agreement, cases: Sequence[Scalar]) -> None:
    """Both meanings of all maps agree within one rounding of the result.

    Args:
        both: what `maps_module(cases)` was compiled to.
        cases: what is computed.
    """
    arrays = [_operand(name) for name in _all_arguments(cases)]
    count = max(map(len, arrays))
    arrays = [np.resize(array, count) for array in arrays]
    with np.errstate(all="ignore"):
        results = both.program.run(arrays), both.reference.run(arrays)
        for case, found, exact in zip(cases, *results, strict=True):
            _check_result(case, found, exact)


def _operand(name: str) -> Array:
    """Numbers for an argument called `%kind_dtype_position`."""
    kind, dtype, position = name.removeprefix("%").split("_")
    array = numbers(dtype, SEED + int(position))
    if kind == "shift":
        return np.abs(array) % 7
    return np.nan_to_num(np.clip(array, -100, 100)) if kind == "small" else array


def _check_result(case: Scalar, found: Array, exact: Array) -> None:
    message = f"{case.body}, seed {SEED}"
    if case.result not in REALS:
        np.testing.assert_array_equal(found, exact, err_msg=message)
        return
    largest = {"f16": 65504.0, "f32": 3.4e38, "bf16": 3.38e38}.get(case.result, math.inf)
    exact = np.where(np.abs(exact) > largest, np.copysign(math.inf, exact), exact)
    smallest = 3e-8 if case.result == "f16" else 1e-37  # half a subnormal
    np.testing.assert_allclose(
        found, exact, rtol=ROUNDING[case.result], atol=smallest, err_msg=message
    )
