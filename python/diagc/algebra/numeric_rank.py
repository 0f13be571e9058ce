"""The rank of a summand by numbers: singular values of the matrix [phi(x_i, s_j)].

They refute a law of finite rank before sympy is asked, and are the witness of a refusal. Numpy is
imported only here, and only when a summand is in question.
"""

from collections.abc import Collection, Iterable, Sequence
from random import Random

from diagc.algebra.expressions import Expr, evaluate, symbols

__all__ = ["exceeds", "singular_values"]

_POINTS = 24
_NOISE = 1e-9
"""Singular values below this part of the largest may be rounding."""

_RANGES = ((-1.0, 1.0), (-3.0, 3.0), (0.25, 4.0))
Values = dict[str, float]


def exceeds(phi: Expr, statistics: Sequence[str], elements: Collection[str], rank: int) -> bool:
    """Whether numbers show that the rank of a summand is higher than `rank`.

    Args:
        phi: the summand; all its functions are those of `expressions.FUNCTIONS`.
        statistics: names of the symbols that change.
        elements: names of the symbols that vary along the streamed axis.
        rank: the bound.
    """
    found = (singular_values(phi, statistics, elements, range_) for range_ in _RANGES)
    return any(len(s) > rank and s[rank] > _NOISE * s[0] for s in found)


def singular_values(
    phi: Expr,
    statistics: Iterable[str],
    elements: Collection[str],
    range_: tuple[float, float] = _RANGES[1],
) -> list[float]:
    """Singular values of [phi(x_i, s_j)] at random points, largest first, without what overflows.

    Symbols that are neither have one value for all points.
    """
    import numpy as np

    rng = Random(2505)
    fixed = symbols(phi) - set(statistics) - set(elements)
    common = _point(rng, fixed, range_)
    rows = [_point(rng, elements, range_) for _ in range(_POINTS)]
    columns = [_point(rng, statistics, range_) for _ in range(_POINTS)]
    matrix = np.array([[evaluate(phi, {**common, **x, **s}) for s in columns] for x in rows])
    matrix = matrix[:, np.isfinite(matrix).any(axis=0)]
    matrix = matrix[np.isfinite(matrix).all(axis=1)] if matrix.size else matrix
    return [float(v) for v in np.linalg.svd(matrix, compute_uv=False)] if matrix.size else []


def _point(rng: Random, names: Iterable[str], range_: tuple[float, float]) -> Values:
    return {name: rng.uniform(*range_) for name in sorted(names)}
