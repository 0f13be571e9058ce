"""Normalisers on arrays: by their formula as it is written, or by the form derived from it.

Both are one computation over a small table of functions, which numpy fills here and torch in the
front end. By its formula, a row is computed in the widest floats of the machine, whose exponents
reach far beyond exp(1e4) on most; where that is not enough, the derived form steps in.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from diagc.algebra.evaluation import interpret
from diagc.algebra.expressions import Expr, constant, symbol, symbols
from diagc.algebra.normalizers import Normalizer
from diagc.algebra.stable_form import Formula, StableForm
from diagc.dialects import diag

__all__ = [
    "Library",
    "Request",
    "compute",
    "direct",
    "literal_form",
    "meaning",
    "numpy_library",
    "wide",
]

Array: TypeAlias = npt.NDArray[Any]
Axes: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Library:
    """What computes.

    Args:
        functions: the functions of terms that are no operators, by name.
        reduce: from the kind of a reduction, values and axes to results with these axes of size 1.
        number: makes constants.
        fixed: the reference c as something that no gradient flows through.
    """

    functions: Mapping[str, Callable[..., Any]]
    reduce: Callable[[str, Any, Axes], Any]
    number: Callable[[float], Any]
    fixed: Callable[[Any], Any] = lambda c: c


@dataclass(frozen=True)
class Request:
    """What is normalised.

    Args:
        x: the elements.
        along: the axes of a row.
        parameters: by name; they broadcast against `x`.
        keep: what counts, of the shape of `x`, or None for all.
        eps: added to the statistic; 0 for none.
        place: of `eps`.
        seen: `x` as the statistics see it, if it differs.
    """

    x: Any
    along: Axes
    parameters: Mapping[str, Any]
    keep: Any = None
    eps: float = 0.0
    place: str = "inside"
    seen: Any = None


def compute(form: StableForm, request: Request, library: Library) -> tuple[Any, Any, Any]:
    """The normalised elements, the denominator of each row, and the numerators."""
    where, keep, number = library.functions["select"], request.keep, library.number

    def masked(values: Any, identity: float) -> Any:
        return values if keep is None else where(keep, values, number(identity))

    values = dict(request.parameters)
    if any("n" in symbols(expr) for expr in form.terms()):
        # counted, so that the sizes of torch's symbolic shapes stay open
        ones = where(request.x == request.x, number(1.0), number(1.0))
        count = library.reduce("add", ones, request.along)
        values["n"] = library.functions["max"](count, number(1.0))

    def term(expr: Expr, x: Any) -> Any:
        full = interpret(expr, {**values, "x": x}, library.functions, number)
        return full + number(0.0) * x if "x" not in symbols(expr) else full

    def reduced(kind: str, expr: Expr) -> Any:
        identity = diag.MONOIDS[kind].float_identity
        assert identity is not None
        return library.reduce(kind, masked(term(expr, seen), identity), request.along)

    x, seen = (masked(a, 0.0) for a in (request.x, _or(request.seen, request.x)))
    if form.kind is not None:
        values["m"] = reduced(form.kind, form.reference)
        c = interpret(form.shift, values, library.functions, number)
        values["c"] = library.fixed(c) if form.kind == "max" and not request.eps else c
    for name, statistic in zip(form.formula.names(), form.statistics, strict=True):
        values[name] = reduced(statistic.kind, statistic.term)
    eps = constant(request.eps) if request.eps else None
    below = interpret(form.aggregate(eps, request.place), values, library.functions, number)
    empty = below == number(0.0)
    above = term(form.numerator, x)
    ratio = above / where(empty, number(1.0), below)
    return masked(where(empty, number(0.0), ratio), 0.0), below, above


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def literal_form(formula: Formula) -> StableForm:
    """The formula as it stands; overflow is the caller's."""
    rates = (0.0,) * len(formula.statistics)
    zero = constant(0.0)
    return StableForm(
        *(formula, None, symbol("x"), zero, formula.numerator, formula.statistics, rates, 0.0, None)
    )


# ---- numpy -------------------------------------------------------------------------------------

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "cos": np.cos,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "exp": np.exp,
    "log": np.log,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "select": np.where,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}
_REDUCTIONS: dict[str, Callable[..., Array]] = {"add": np.sum, "max": np.max, "min": np.min}


def numpy_library(dtype: Any) -> Library:
    """Numpy, with constants of a type."""
    type_ = np.dtype(dtype).type

    def reduce(kind: str, values: Array, axes: Axes) -> Array:
        identity = diag.MONOIDS[kind].float_identity
        return _REDUCTIONS[kind](values, axis=axes, keepdims=True, initial=identity)

    return Library(_FUNCTIONS, reduce, type_)


def wide(row: Normalizer, request: Request) -> tuple[Array, Array, Array]:
    """The row by its formula, its denominator and numerators, in the widest floats."""
    widest = np.longdouble
    parameters = {name: np.asarray(p, widest) for name, p in request.parameters.items()}
    x = np.asarray(request.x, widest)
    seen = None if request.seen is None else np.asarray(request.seen, widest)
    asked = Request(x, request.along, parameters, request.keep, seen=seen)
    with np.errstate(all="ignore"):
        return compute(literal_form(row.formula), asked, numpy_library(widest))


def direct(row: Normalizer, request: Request) -> Array:
    """The row by its formula, in the widest floats; NaN where their range does not do either."""
    result, below, above = wide(row, request)
    in_range = np.isfinite(below) & np.isfinite(above) & ((below != 0) | (above == 0))
    with np.errstate(all="ignore"):
        return np.where(in_range, result, np.nan).astype(np.float64)


def meaning(row: Normalizer) -> Callable[..., Array]:
    """What the interpreter judges by; arguments as `normalizer_meaning.Registered` says."""

    def mean(
        x: Array,
        seen: Array,
        along: Axes,
        keep: Array,
        eps: float,
        place: str,
        parameters: Sequence[Array],
    ) -> Array:
        names = dict(zip((name for name, _ in row.parameters), parameters, strict=True))
        request = Request(x, along, names, keep, eps, place, seen)
        derived: Array = compute(row.form, request, numpy_library(np.float64))[0]
        if eps:
            return derived
        exact = direct(row, request)
        # a 0 may stand for what is too small
        return np.where(np.isfinite(exact) & (exact != 0), exact, derived)

    return mean
