"""The elementwise functions of the language: primitives by arity, and those derived from them."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType

from diagc.frontend.scalars import Scalar, literal
from diagc.mlir import ir

__all__ = ["ARITY", "COMPARISONS", "FLOAT_FUNCTIONS", "build"]

FLOAT_FUNCTIONS = MappingProxyType(
    {
        name: f"math.{name}"
        for name in (
            *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "erf"),
            *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
            *("floor", "ceil", "round", "roundeven", "trunc"),
        )
    }
)
"""Functions of one float, with the op that means them."""

COMPARISONS = MappingProxyType(
    {
        "<": ("olt", "slt"),
        "<=": ("ole", "sle"),
        ">": ("ogt", "sgt"),
        ">=": ("oge", "sge"),
        "==": ("oeq", "eq"),
        "!=": ("une", "ne"),
    }
)
"""Comparisons, with their predicates on floats and on (signed) integers."""


def _power(base: Scalar, exponent: Scalar) -> Scalar:
    """Small literal powers are products and roots: exact, fast, and laws are found in them."""
    cases: dict[object, Callable[[], Scalar]] = {
        1: lambda: base,
        2: lambda: base * base,
        3: lambda: base * base * base,
        4: lambda: base * base * (base * base),
        0.5: lambda: Scalar("sqrt", (base,)),
        -0.5: lambda: Scalar("rsqrt", (base,)),
        -1: lambda: 1.0 / base,
    }
    if exponent.name == "literal" and exponent.payload in cases:
        return cases[exponent.payload]()
    return Scalar("pow", (base, exponent))


def _sigmoid(x: Scalar) -> Scalar:
    return 1.0 / (1.0 + Scalar("exp", (-x,)))


def _softplus(x: Scalar) -> Scalar:
    """log(1 + e^x) without overflow."""
    return Scalar("max", (x, literal(0.0))) + Scalar("log1p", (Scalar("exp", (-abs(x),)),))


def _gelu_tanh(x: Scalar) -> Scalar:
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + Scalar("tanh", (inner,)))


def _sign(x: Scalar) -> Scalar:
    """-1, 0 or 1; 0 for NaN."""
    negative = Scalar("where", (x < 0, literal(-1), literal(0)))
    return Scalar("where", (x > 0, literal(1), negative))


def _clamp(x: Scalar, low: Scalar, high: Scalar) -> Scalar:
    return Scalar("min", (Scalar("max", (x, low)), high))


DERIVED: dict[str, Callable[..., Scalar]] = {
    "pow": _power,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1.0 / x,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "relu": lambda x: Scalar("max", (x, literal(0.0))),
    "gelu": lambda x: 0.5 * x * (1.0 + Scalar("erf", (x * math.sqrt(0.5),))),
    "gelu_tanh": _gelu_tanh,
    "softplus": _softplus,
    "sign": _sign,
    "clamp": _clamp,
}

ARITY = MappingProxyType(
    dict.fromkeys(FLOAT_FUNCTIONS, 1)
    | dict.fromkeys(("neg", "not", "abs"), 1)
    | dict.fromkeys(("+", "-", "*", "/", "%", "max", "min", "and", "or", *COMPARISONS), 2)
    | {"where": 3}
    | {name: len(inspect.signature(function).parameters) for name, function in DERIVED.items()}
)
"""How many operands each elementwise function takes; operators stand under their signs."""


def build(name: str, args: Sequence[Scalar], loc: ir.Location | None = None) -> Scalar:
    """Give the tree of function `name`; a derived one is spelled out in primitives."""
    if name not in DERIVED:
        return Scalar(name, tuple(args), None, loc)
    tree = DERIVED[name](*args)
    return replace(tree, loc=loc) if tree.loc is None else tree
