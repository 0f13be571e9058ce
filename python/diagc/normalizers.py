"""Normalisers of users: from Python functions to rows of the table, proved and checked."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from diagc import normalizer_meaning
from diagc.algebra import normalizers as table
from diagc.algebra.derivation import Derivation, derivation
from diagc.algebra.direct import meaning
from diagc.algebra.expressions import CONSTANT, Expr, constant, symbols
from diagc.algebra.gradients import Gradient
from diagc.algebra.gradients import gradient as derive_gradient
from diagc.algebra.law_checks import check_form, check_reference
from diagc.algebra.normalizers import Normalizer
from diagc.algebra.stable_form import Formula, Statistic
from diagc.algebra.tracing import Scalar, Traced, trace
from diagc.errors import UserError
from diagc.frontend.functions import ARITY
from diagc.frontend.reductions import REDUCTIONS
from diagc.frontend.scalar_types import ELEMENT_TYPES

__all__ = ["derive", "gradient", "register_normalizer", "unregister_normalizer"]

Function: TypeAlias = Callable[..., Scalar]
StatisticLike: TypeAlias = Function | tuple[str, Function]
Labels: TypeAlias = str | Sequence[str]
_MONOIDS = {"sum": "add", "max": "max", "min": "min"}
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]*([-_][a-zA-Z0-9]+)*")
_TAKEN = re.compile(r"[xncmrez]|z\d+|n_.*|keep|eps|axis|row")


def register_normalizer(
    name: str,
    numerator: Function,
    statistics: Sequence[StatisticLike] = (),
    aggregate: Function | None = None,
    *,
    reference: Callable[..., Any] | None = None,
    params: Mapping[str, Labels] | None = None,
    replace: bool = False,
) -> Derivation:
    """Register a normaliser, N(x)_i = numerator(x_i) / aggregate(z1, z2 ...).

    >>> from diagc.scalars import exp                                          # doctest: +SKIP
    >>> diagc.register_normalizer("softmax1", exp, [exp], lambda z: 1 + z)     # doctest: +SKIP

    Then `softmax1(S) along x` is a normaliser of `.diag` text, `S.normalize("softmax1", "x")` one
    of the builder and `diagc.normalize(x, "softmax1", dim=-1)` one of torch. How it streams, and
    stays in range, is derived from the functions.

    Args:
        name: letters, digits, - and _; in `.diag` text - is _.
        numerator: a pure function of an element, made of Python's operators and `diagc.scalars`.
        statistics: functions of an element that are summed over the row; ("max", function) and
            ("min", function) for a maximum and a minimum.
        aggregate: a function of the statistics, in order; by default 1 or the only statistic.
        reference: the same from a row of shape [n], f64, and the parameters by name, in numpy or
            torch; compared with the law on random rows.
        params: the axes of each parameter by its name: `{"sink": "h"}`, "" for a single number.
            Functions take parameters, and the size `n` of the row, by these names after the rest.
        replace: whether a normaliser that was registered before may be replaced.

    Returns:
        How it is computed chunk by chunk, with what was proved.

    Raises:
        UserError: a name that is taken, a function that is no pure scalar function, wrong arguments
            or parameters, a reference that contradicts the law.
        UnsupportedError: it cannot be computed in a stream, or leaves the range of f32 for elements
            of size 1e4.
    """
    _check_name(name, replace)
    if not isinstance(params, Mapping | None):
        found = type(params).__name__
        raise UserError(f"bad params of '{name}'", expected="names and their axes", found=found)
    axes = {p: _labels(p, labels) for p, labels in (params or {}).items()}
    formula = _formula(name, numerator, statistics, aggregate, axes)
    _check_parameters_used(name, formula, axes)
    row = Normalizer(name, formula, tuple(axes.items()))
    proof = derivation(row)
    check_form(row)
    if reference is not None:
        check_reference(row, reference)
    table.register(row, replace=replace)
    normalizer_meaning.unregister_meaning(name)
    normalizer_meaning.register_meaning(name, meaning(row))
    return proof


def unregister_normalizer(name: str) -> None:
    """Forget a normaliser that was registered.

    Raises:
        UserError: there is none.
    """
    try:
        table.unregister(name)
    except KeyError as error:
        raise UserError(str(error.args[0])) from None
    normalizer_meaning.unregister_meaning(name)


def derive(name: str) -> Derivation:
    """How a normaliser, built in or registered, is computed chunk by chunk.

    Raises:
        UserError: there is none of this name.
    """
    return derivation(_known(name))


def gradient(name: str) -> Gradient:
    """The derivatives that the gradients of a normaliser and its parameters are made of.

    Raises:
        UserError: there is none of this name.
        UnsupportedError: a statistic is a maximum or minimum, or a mean is subtracted first.
    """
    return derive_gradient(_known(name))


def _known(name: str) -> Normalizer:
    if name not in table.NORMALIZERS:
        known = ", ".join(table.NORMALIZERS)
        raise UserError(f"no normaliser '{name}'", expected=f"one of {known}")
    return table.find(name)


def _check_name(name: str, replace: bool) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        expected = "letters, digits, and single - or _ between them"
        raise UserError("bad name of a normaliser", expected=expected, found=f"{name!r}")
    spelled = name.replace("-", "_")
    if spelled in {*ARITY, *REDUCTIONS, *ELEMENT_TYPES, "concat", "pad"}:
        raise UserError(f"'{name}' is a function of the language", remedy="choose another name")
    for other in table.NORMALIZERS:
        if other.replace("-", "_") == spelled and not (replace and other == name):
            built_in = other in table.BUILT_IN
            remedy = "choose another name" + (", or pass replace=True" if not built_in else "")
            origin = "is built in" if built_in else "was registered before"
            raise UserError(f"normaliser '{other}' {origin}", remedy=remedy)
    if name in table.BUILT_IN:
        raise UserError(f"normaliser '{name}' is built in", remedy="choose another name")


def _labels(parameter: str, labels: Labels) -> tuple[str, ...]:
    """The axes of a parameter."""
    if not isinstance(parameter, str) or not parameter.isidentifier():
        raise UserError("bad name of a parameter", expected="an identifier", found=f"{parameter!r}")
    if _TAKEN.fullmatch(parameter):
        remedy = "choose another name"
        raise UserError(f"parameter name '{parameter}' has a meaning already", remedy=remedy)
    found = tuple(labels.split() if isinstance(labels, str) else labels)
    named = all(isinstance(axis, str) and axis.isidentifier() for axis in found)
    if len(set(found)) < len(found) or not named:
        expected = "distinct axes, such as 'b h', or '' for a single number"
        raise UserError(f"bad axes of '{parameter}'", expected=expected, found=f"{labels!r}")
    return found


def _formula(
    name: str,
    numerator: Function,
    statistics: Sequence[StatisticLike],
    aggregate: Function | None,
    axes: Mapping[str, tuple[str, ...]],
) -> Formula:
    named = ("n", *axes)
    if callable(statistics) or isinstance(statistics, str):
        expected, found = "a list of functions", type(statistics).__name__
        raise UserError(f"bad statistics of '{name}'", expected=expected, found=found)
    top = trace(numerator, f"the numerator of '{name}'", ["x"], named)
    traced = tuple(
        _statistic(entry, f"statistic {k + 1} of '{name}'", named)
        for k, entry in enumerate(statistics)
    )
    names = Formula(top, traced).names()
    if aggregate is None and len(traced) > 1:
        found = f"{len(traced)} statistics and no aggregate"
        raise UserError(f"'{name}' lacks its aggregate", expected="a function", found=found)
    if aggregate is None:
        aggregate = _first if traced else _one
    below = trace(aggregate, f"the aggregate of '{name}'", names, named)
    unused = [z for z in names if z not in symbols(below)]
    if unused:
        raise UserError(f"the aggregate of '{name}' does not use {', '.join(unused)}")
    return Formula(top, traced, below)


def _first(z: Traced) -> Traced:
    return z


def _one() -> float:
    return 1.0


def _statistic(entry: StatisticLike, role: str, named: Sequence[str]) -> Statistic:
    """A function, or a pair of a monoid and a function."""
    kind, function = entry if isinstance(entry, tuple) and len(entry) == 2 else ("sum", entry)
    if kind not in _MONOIDS:
        raise UserError(
            f"{role} is no monoid, so that a row cannot be taken chunk by chunk",
            expected=f"a function, whose results are summed, or a pair with {', '.join(_MONOIDS)}",
            found=f"{kind!r}",
        )
    if not callable(function):
        raise UserError(
            f"{role} is no sum, maximum or minimum of a scalar function",
            expected="a function of one element",
            found=f"{function!r:.40}",
        )
    return Statistic(_MONOIDS[kind], trace(function, role, ["x"], named))


def _check_parameters_used(
    name: str, formula: Formula, axes: Mapping[str, tuple[str, ...]]
) -> None:
    terms: list[Expr] = [formula.numerator, formula.aggregate]
    used = set().union(*map(symbols, [*terms, *(s.term for s in formula.statistics)]))
    unused = [p for p in axes if p not in used]
    if unused:
        remedy = "name it as an argument of a function that uses it"
        raise UserError(f"no function of '{name}' uses parameter '{unused[0]}'", remedy=remedy)
    if formula.aggregate.op == CONSTANT and formula.aggregate == constant(0.0):
        raise UserError(f"the aggregate of '{name}' is zero")
