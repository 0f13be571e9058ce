"""The table of normalisers: each row is data, and the passes know no row by name.

A normaliser maps a row x (all positions along the normalised axes, n of them) to

    N(x)_i = a1(x_i - c) / b(sum_j a2(x_j - c)),      b(z) = outer(inner(z, n) + eps) or
                                                       outer(inner(z, n)) + eps

where the shift c is a statistic of its own (the maximum of softmax, the mean of layer) and n is at
least 1. Source: normalised contractions (arXiv 2505.09326).

Policies that hold for every row. A position that `keep` excludes gives the identity to every
statistic and 0 in the result; n still counts it. A row whose aggregate b is zero (all excluded, or
all a2 zero) gives zeros; NaN inputs propagate. Statistics are kept in f32, in f64 for f64 operands.
"""

from collections.abc import Callable
from dataclasses import dataclass

from diagc.algebra.expressions import (
    Expr,
    absolute,
    constant,
    equal,
    exp,
    maximum,
    select,
    sqrt,
    symbol,
    symbols,
)
from diagc.dialects import diag

__all__ = ["NORMALIZERS", "Normalizer", "Shift", "find", "register"]

Unary = Callable[[Expr], Expr]
Binary = Callable[[Expr, Expr], Expr]


@dataclass(frozen=True)
class Shift:
    """What is subtracted from every element first: `value(statistic, n)`.

    Args:
        kind: the reduction of the row that gives the statistic.
        value: from the statistic and n to what is subtracted; must be finite on an empty row.
    """

    kind: str
    value: Binary


def _first(z: Expr, _n: Expr) -> Expr:
    return z


def _identity(x: Expr) -> Expr:
    return x


@dataclass(frozen=True)
class Normalizer:
    """One row of the table.

    Args:
        name: what `diag.normalize` calls it.
        numerator: a1.
        statistic: a2, summed over the row; None for no statistic (then b is 1).
        inner: part of b inside the root, from the sum and n.
        outer: part of b outside, the root itself.
        shift: the statistic that is subtracted first, if any.
        excluded: the element value that `keep` may put in place of an excluded one: a1 and a2 are 0
            there, and the shift's statistic is not changed by it. None when no value does all that;
            then a1 and a2 are masked each.
    """

    name: str
    numerator: Unary
    statistic: Unary | None = None
    inner: Binary = _first
    outer: Unary = _identity
    shift: Shift | None = None
    excluded: float | None = None

    def aggregate(self, z: Expr, n: Expr, eps: Expr | None, eps_place: str = "inside") -> Expr:
        """The term b(z), with `eps` inside or outside the root."""
        inside = self.inner(z, n)
        if eps is None:
            return self.outer(inside)
        if eps_place == "inside":
            return self.outer(inside + eps)
        return self.outer(inside) + eps

    def needs_size(self) -> bool:
        """Whether b or the shift depends on n."""
        z, n = symbol("z"), symbol("n")
        shifted = symbols(self.shift.value(z, n)) if self.shift else set()
        return "n" in shifted | symbols(self.inner(z, n))


NEGATIVE_INFINITY = float("-inf")


def _finite_maximum(m: Expr, _n: Expr) -> Expr:
    """The maximum, and 0 for a row without elements above minus infinity."""
    return select(equal(m, NEGATIVE_INFINITY), 0.0, m)


def _mean(z: Expr, n: Expr) -> Expr:
    return z / n


def _relu(x: Expr) -> Expr:
    return maximum(x, 0.0)


def _square(x: Expr) -> Expr:
    return x * x


def _sigmoid(x: Expr) -> Expr:
    return constant(1.0) / (1.0 + exp(-x))


_ROWS = (
    Normalizer(
        "softmax",
        numerator=exp,
        statistic=exp,
        shift=Shift("max", _finite_maximum),
        excluded=NEGATIVE_INFINITY,
    ),
    Normalizer("l2", numerator=_identity, statistic=_square, outer=sqrt, excluded=0.0),
    Normalizer("l1", numerator=_identity, statistic=absolute, excluded=0.0),
    Normalizer("relu-sum", numerator=_relu, statistic=_relu, excluded=0.0),
    Normalizer("sigmoid", numerator=_sigmoid, excluded=NEGATIVE_INFINITY),
    Normalizer("none", numerator=_identity, excluded=0.0),
    Normalizer(
        "rms", numerator=_identity, statistic=_square, inner=_mean, outer=sqrt, excluded=0.0
    ),
    Normalizer(
        "layer",
        numerator=_identity,
        statistic=_square,
        inner=_mean,
        outer=sqrt,
        shift=Shift("add", _mean),
    ),
)

NORMALIZERS: dict[str, Normalizer] = {row.name: row for row in _ROWS}


def find(name: str) -> Normalizer:
    """The row called `name`.

    Raises:
        KeyError: there is none; the message lists those there are.
    """
    if name not in NORMALIZERS:
        raise KeyError(f"no normaliser '{name}'; known: {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]


def register(row: Normalizer) -> Normalizer:
    """Add a row to the table and make its name legal in `diag.normalize`.

    Raises:
        ValueError: the name is taken, or `excluded` does not do what it promises.
    """
    if row.name in NORMALIZERS:
        raise ValueError(f"normaliser '{row.name}' exists already")
    NORMALIZERS[row.name] = row
    diag.register_kind(row.name)
    return row
