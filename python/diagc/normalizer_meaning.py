"""What each named normaliser means, written from its definition in float64 numpy.

The reference that the interpreter judges all rewrites by, so nothing here is derived from the table
of laws (`diagc.algebra`): every kind has a formula of its own. What users register brings its own
meaning, which is the user's formula as it is written.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from diagc.errors import UnsupportedError

__all__ = ["Registered", "normalize", "register_meaning", "unregister_meaning"]

Array: TypeAlias = npt.NDArray[Any]
Axes: TypeAlias = tuple[int, ...]
Meaning: TypeAlias = Callable[[Array, Array, Axes, Array, float, str], Array]
Registered: TypeAlias = Callable[[Array, Array, Axes, Array, float, str, Sequence[Array]], Array]
"""Of x, x as the statistics see it, axes, keep, eps, its place, and the parameters in order."""


def normalize(
    kind: str,
    x: Array,
    along: Axes,
    *,
    keep: Array,
    eps: float = 0.0,
    eps_place: str | None = None,
    seen: Array | None = None,
    parameters: Sequence[Array] = (),
) -> Array:
    """Normalise float64 `x` along axes.

    Args:
        kind: name of the normaliser.
        x: values, any shape.
        along: positions of the axes that a statistic is taken over.
        keep: bool, shape of `x`; excluded elements count in no statistic and become 0.
        eps: added to the statistic, see `eps_place`.
        eps_place: "inside" the root (the default where there is one) or "outside".
        seen: `x` as statistics see it, with other rounding errors; `x` by default.
        parameters: those of a registered kind, in order; they broadcast against `x`.

    Returns:
        Float64 of the shape of `x`. Rows whose statistic is 0 become 0; NaN propagates along rows.

    Raises:
        UnsupportedError: no meaning is known for `kind`.
    """
    if kind not in _MEANINGS and kind not in _REGISTERED:
        raise UnsupportedError(f"diag.normalize {kind}", reason="it has no reference meaning")
    asked = (x, x if seen is None else seen, along, keep, eps, eps_place or "inside")
    with np.errstate(all="ignore"):
        known = kind in _MEANINGS
        y = _MEANINGS[kind](*asked) if known else _REGISTERED[kind](*asked, parameters)
    return np.where(keep, y, 0.0)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient that is 0 where the denominator is."""
    quotient = numerator / np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, 0.0, quotient)


def _sum(values: Array, along: Axes, keep: Array) -> Array:
    return np.sum(np.where(keep, values, 0.0), axis=along, keepdims=True)


def _root(total: Array, eps: float, place: str) -> Array:
    return np.sqrt(total + eps) if place == "inside" else np.sqrt(total) + eps


def _softmax(x: Array, s: Array, along: Axes, keep: Array, eps: float, place: str) -> Array:
    """Give exp(x_i − m) / (Σ exp(x_j − m) + ε), m the largest x; a row of −∞ is empty."""
    largest = np.max(np.where(keep, x, -np.inf), axis=along, keepdims=True, initial=-np.inf)
    shift = np.where(largest == -np.inf, 0.0, largest)
    weights, terms = (np.where(keep, np.exp(np.where(keep, v - shift, 0.0)), 0.0) for v in (x, s))
    return _ratio(weights, _sum(terms, along, keep) + eps)


def _l2(x: Array, s: Array, along: Axes, keep: Array, eps: float, place: str) -> Array:
    return _ratio(x, _root(_sum(s * s, along, keep), eps, place))


def _l1(x: Array, s: Array, along: Axes, keep: Array, eps: float, place: str) -> Array:
    return _ratio(x, _sum(np.abs(s), along, keep) + eps)


def _relu_sum(x: Array, s: Array, along: Axes, keep: Array, eps: float, place: str) -> Array:
    return _ratio(np.maximum(x, 0.0), _sum(np.maximum(s, 0.0), along, keep) + eps)


def _sigmoid(x: Array, s: Array, along: Axes, keep: Array, eps: float, place: str) -> Array:
    # by tanh it would lose all digits far below 0
    return np.exp(np.minimum(x, 0.0)) / (1.0 + np.exp(-np.abs(x)))


def _none(x: Array, s: Array, along: Axes, keep: Array, eps: float, place: str) -> Array:
    return x


def _size(x: Array, along: Axes) -> int:
    return int(np.prod([x.shape[axis] for axis in along], dtype=int))


def _rms(x: Array, s: Array, along: Axes, keep: Array, eps: float, place: str) -> Array:
    """Give x / √(mean x² + ε); the mean is over the whole axis, excluded elements count as 0."""
    mean = _sum(s * s, along, keep) / max(_size(x, along), 1)
    return _ratio(x, _root(mean, eps, place))


def _layer(x: Array, s: Array, along: Axes, keep: Array, eps: float, place: str) -> Array:
    """(x − mean) / √(variance + ε), in two passes, with the biased variance."""
    count = max(_size(x, along), 1)
    centred = x - _sum(s, along, keep) / count
    variance = _sum(centred * centred, along, keep) / count
    return _ratio(centred, _root(variance, eps, place))


_MEANINGS: dict[str, Meaning] = {
    "l1": _l1,
    "l2": _l2,
    "layer": _layer,
    "none": _none,
    "relu-sum": _relu_sum,
    "rms": _rms,
    "sigmoid": _sigmoid,
    "softmax": _softmax,
}


_REGISTERED: dict[str, Registered] = {}


def register_meaning(kind: str, meaning: Registered) -> None:
    """Give a user's normaliser its meaning.

    Raises:
        ValueError: the kind has a meaning already.
    """
    if kind in _MEANINGS or kind in _REGISTERED:
        raise ValueError(f"normaliser '{kind}' has a meaning already")
    _REGISTERED[kind] = meaning


def unregister_meaning(kind: str) -> None:
    """Forget the meaning of a user's normaliser."""
    _REGISTERED.pop(kind, None)
