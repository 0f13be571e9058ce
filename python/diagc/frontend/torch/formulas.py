"""Scalar formulas of elementwise ATen ops, written with Python's operators on `Arithmetic`.

A formula takes the op's arguments in schema order: tensors as `Arithmetic`, numbers as they are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from diagc.frontend.torch.promotion import Number, number
from diagc.frontend.torch.rules import NotRaised
from diagc.frontend.torch.scalar import Expr, is_float
from diagc.frontend.torch.simplify import apply

__all__ = ["ALIASES", "ARITHMETIC", "COMPARISONS", "LOGIC", "Arithmetic", "Formula"]

Formula: TypeAlias = "Callable[..., Arithmetic]"


def _literal(value: Any, like: Expr) -> Expr:
    return value if isinstance(value, Expr) else number(value, like.dtype)


@dataclass(frozen=True)
class Arithmetic:
    """Expressions with Python's operators; all of one type."""

    expr: Expr

    def _with(self, name: str, other: "Arithmetic | Number", swap: bool = False) -> "Arithmetic":
        right = other.expr if isinstance(other, Arithmetic) else _literal(other, self.expr)
        left, right = (right, self.expr) if swap else (self.expr, right)
        return Arithmetic(apply(name, left, right))

    def __add__(self, other: "Arithmetic | Number") -> "Arithmetic":
        return self._with("add", other)

    def __radd__(self, other: "Number") -> "Arithmetic":
        return self._with("add", other, swap=True)

    def __sub__(self, other: "Arithmetic | Number") -> "Arithmetic":
        return self._with("sub", other)

    def __rsub__(self, other: "Number") -> "Arithmetic":
        return self._with("sub", other, swap=True)

    def __mul__(self, other: "Arithmetic | Number") -> "Arithmetic":
        return self._with("mul", other)

    def __rmul__(self, other: "Number") -> "Arithmetic":
        return self._with("mul", other, swap=True)

    def __truediv__(self, other: "Arithmetic | Number") -> "Arithmetic":
        return self._with("div", other)

    def __rtruediv__(self, other: "Number") -> "Arithmetic":
        return self._with("div", other, swap=True)

    def __neg__(self) -> "Arithmetic":
        return Arithmetic(apply("neg", self.expr))

    def max(self, other: "Arithmetic | Number") -> "Arithmetic":
        """The larger; NaN wins."""
        return self._with("max", other)

    def min(self, other: "Arithmetic | Number") -> "Arithmetic":
        """The smaller; NaN wins."""
        return self._with("min", other)

    def compare(self, name: str, other: "Arithmetic | Number") -> "Arithmetic":
        """A comparison, as a bool."""
        return self._with(name, other)

    def choose(self, yes: "Arithmetic", no: "Arithmetic | Number") -> "Arithmetic":
        """`yes` where this bool holds, else `no`."""
        other = no.expr if isinstance(no, Arithmetic) else _literal(no, yes.expr)
        return Arithmetic(apply("select", self.expr, yes.expr, other))

    def call(self, name: str) -> "Arithmetic":
        """A function of one argument."""
        return Arithmetic(apply(name, self.expr))


A = Arithmetic


def _sigmoid(x: A) -> A:
    return 1.0 / (1.0 + (-x).call("exp"))


def _gelu(x: A, approximate: str = "none") -> A:
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))
        return 0.5 * x * (1.0 + inner.call("tanh"))
    return 0.5 * x * (1.0 + (x * (1 / math.sqrt(2))).call("erf"))


def _softplus(x: A, beta: Number = 1, threshold: Number = 20) -> A:
    scaled = x * beta
    soft = scaled.call("exp").call("log1p") / beta
    return scaled.compare("gt", threshold).choose(x, soft)


def _clamp(x: A, low: A | Number | None = None, high: A | Number | None = None) -> A:
    x = x if low is None else x.max(low)
    return x if high is None else x.min(high)


_POWERS: dict[float, Callable[[A], A]] = {
    0.5: lambda x: x.call("sqrt"),
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    -0.5: lambda x: x.call("rsqrt"),
    -1.0: lambda x: 1.0 / x,
    -2.0: lambda x: 1.0 / (x * x),
}


def _pow(x: A | Number, exponent: A | Number) -> A:
    if isinstance(x, Arithmetic) and not isinstance(exponent, Arithmetic):
        special = _POWERS.get(float(exponent))
        if special is not None and (is_float(x.expr.dtype) or exponent in (1, 2, 3)):
            return special(x)
    like = x if isinstance(x, Arithmetic) else exponent
    assert isinstance(like, Arithmetic)
    left, right = (Arithmetic(_literal(_bare(v), like.expr)) for v in (x, exponent))
    return left._with("pow", right)


def _bare(value: A | Number) -> Expr | Number:
    return value.expr if isinstance(value, Arithmetic) else value


def _div(x: A, other: A | Number, rounding_mode: str | None = None) -> A:
    if rounding_mode is not None and not is_float(x.expr.dtype):
        name = {"floor": "floordiv", "trunc": "truncdiv"}[rounding_mode]
        return x._with(name, other)
    quotient = x / other
    return quotient if rounding_mode is None else quotient.call(rounding_mode)


def _elu(x: A, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1) -> A:
    negative = (x * input_scale).call("expm1") * alpha
    return x.compare("gt", 0).choose(x, negative) * scale


def _sign(x: A) -> A:
    """As torch, 0 for NaN."""
    one, minus, zero = (Arithmetic(_literal(v, x.expr)) for v in (1, -1, 0))
    return x.compare("gt", 0).choose(one, x.compare("lt", 0).choose(minus, zero))


def _round(x: A, decimals: int = 0) -> A:
    if decimals:
        raise NotRaised("rounding to decimals")
    return x.call("round")


def _logaddexp(x: A, other: A) -> A:
    high = x.max(other)
    gap = (x - other).call("abs")
    sum_ = high + (-gap).call("exp").call("log1p")
    return x.compare("eq", other).choose(x + math.log(2), sum_)


def _xlogy(x: A, other: A) -> A:
    """As torch, 0 where x is 0, and NaN where y is."""
    nan = other.compare("ne", other)
    return nan.choose(other, x.compare("eq", 0).choose(x * 0, x * other.call("log")))


def _entr(x: A) -> A:
    """`-x log x`, 0 at 0, -inf below."""
    below = Arithmetic(_literal(-math.inf, x.expr))
    inside = x.compare("lt", 0).choose(below, -(x * x.call("log")))
    return x.compare("eq", 0).choose(x * 0, inside)


def _scaled(x: A, other: A | Number, alpha: Number) -> A:
    return Arithmetic(_literal(_bare(other), x.expr)) * alpha


def _as_factor(x: A, weight: A | Number) -> A:
    return Arithmetic(_literal(_bare(weight), x.expr))


def _unary(name: str) -> Formula:
    return lambda x: x.call(name)


_SAME_NAME = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "erfc"),
    *("floor", "ceil", "trunc", "abs", "neg"),
)

ARITHMETIC: dict[str, Formula] = {
    **{name: _unary(name) for name in _SAME_NAME},
    "reciprocal": lambda x: 1.0 / x,
    "square": lambda x: x * x,
    "sigmoid": _sigmoid,
    "relu": lambda x: x.max(0),
    "relu6": lambda x: x.max(0).min(6),
    "silu": lambda x: x / (1.0 + (-x).call("exp")),
    "gelu": _gelu,
    "mish": lambda x: x * _softplus(x).call("tanh"),
    "softplus": _softplus,
    "log_sigmoid": lambda x: x.min(0) - (-x.call("abs")).call("exp").call("log1p"),
    "elu": _elu,
    "selu": lambda x: _elu(x, 1.6732632423543772, 1.0507009873554805),
    "celu": lambda x, alpha=1.0: x.max(0) + ((x / alpha).call("expm1") * alpha).min(0),
    "leaky_relu": lambda x, slope=0.01: x.compare("gt", 0).choose(x, x * slope),
    "hardtanh": lambda x, low=-1, high=1: x.max(low).min(high),
    "hardsigmoid": lambda x: (x / 6 + 0.5).max(0).min(1),
    "hardswish": lambda x: x * (x + 3).max(0).min(6) / 6,
    "threshold": lambda x, limit, value: x.compare("gt", limit).choose(x, value),
    "round": _round,
    "sign": _sign,
    "sgn": _sign,
    "frac": lambda x: x - x.call("trunc"),
    "add": lambda x, other, alpha=1: x + (other if alpha == 1 else _scaled(x, other, alpha)),
    "sub": lambda x, other, alpha=1: x - (other if alpha == 1 else _scaled(x, other, alpha)),
    "rsub": lambda x, other, alpha=1: (x if alpha == 1 else x * alpha)._with("sub", other, True),
    "mul": lambda x, other: x * other,
    "div": _div,
    "floor_divide": lambda x, other: _div(x, other, "floor"),
    "remainder": lambda x, other: x._with("remainder", other),
    "fmod": lambda x, other: x._with("fmod", other),
    "pow": _pow,
    "maximum": lambda x, other: x.max(other),
    "minimum": lambda x, other: x.min(other),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda x, high: x.min(high),
    "addcmul": lambda x, a, b, value=1: x + (a * b if value == 1 else value * (a * b)),
    "addcdiv": lambda x, a, b, value=1: x + (a / b if value == 1 else value * (a / b)),
    "lerp": lambda x, end, weight: x + _as_factor(x, weight) * (end - x),
    "atan2": lambda x, other: x._with("atan2", other),
    "copysign": lambda x, other: x._with("copysign", other),
    "logaddexp": _logaddexp,
    "special_entr": _entr,
    "xlogy": _xlogy,
    "hypot": lambda x, other: (x * x + other * other).call("sqrt"),
    "bitwise_and": lambda x, other: x._with("and", other),
    "bitwise_or": lambda x, other: x._with("or", other),
    "bitwise_xor": lambda x, other: x._with("xor", other),
    "bitwise_not": lambda x: x.call("not"),
}
"""Formulas by op; they compute in the type of the result."""

COMPARISONS: dict[str, Formula] = {
    **{n: lambda x, other, n=n: x.compare(n, other) for n in ("eq", "ne", "lt", "le", "gt", "ge")},
    "isnan": lambda x: x.compare("ne", x),
    "isinf": lambda x: x.call("abs").compare("eq", math.inf),
    "isfinite": lambda x: (x - x).compare("eq", 0),
    "signbit": lambda x: x.compare("lt", 0),
}
"""Formulas that compute in the common type of their operands and give bool."""

LOGIC: dict[str, Formula] = {
    "logical_and": lambda x, other: x._with("and", other),
    "logical_or": lambda x, other: x._with("or", other),
    "logical_xor": lambda x, other: x._with("xor", other),
    "logical_not": lambda x: x.call("not"),
}
"""Formulas on truth values; operands are compared with zero first."""

ALIASES = {
    "multiply": "mul",
    "subtract": "sub",
    "divide": "div",
    "true_divide": "div",
    "absolute": "abs",
    "negative": "neg",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "clip": "clamp",
    "fix": "trunc",
    "arctan2": "atan2",
    "special_expit": "sigmoid",
    "special_xlogy": "xlogy",
    "special_erf": "erf",
    "special_exp2": "exp2",
    "special_log1p": "log1p",
    "special_expm1": "expm1",
    "__and__": "bitwise_and",
    "__or__": "bitwise_or",
    "__xor__": "bitwise_xor",
}
"""Ops that are others under another name."""
