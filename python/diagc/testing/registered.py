"""Normalisers as users register them, each with a reference that was written by hand.

The references are stable formulas of their own in f64, over logarithms of sums of exponentials; no
part of them comes from the laws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from diagc.normalizers import register_normalizer
from diagc.scalars import exp, log, relu, sigmoid, sign, sqrt, square, tanh

__all__ = ["CASES", "Case", "reference"]

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A normaliser to register.

    Args:
        name: its name.
        numerator: as `register_normalizer` takes it.
        statistics: likewise.
        aggregate: likewise.
        row: the normalised row, from the kept elements and the size of the whole row.
        parameters: the value of each parameter.
        states: names of its states, in order.
    """

    name: str
    numerator: Callable[..., Any]
    statistics: Sequence[Any]
    aggregate: Callable[..., Any] | None
    row: Callable[..., Array]
    parameters: Mapping[str, float] = field(default_factory=dict)
    states: tuple[str, ...] = ("m", "z")

    def register(self) -> Any:
        """Register it, with the reference; every parameter is one number."""
        return register_normalizer(
            self.name,
            self.numerator,
            self.statistics,
            self.aggregate,
            reference=lambda x, **parameters: self.row(x, x.size, **parameters),
            params=dict.fromkeys(self.parameters, ""),
        )


def _lse(x: Array) -> Any:
    return np.logaddexp.reduce(x)


def _softmax1(x: Array, n: int) -> Array:
    return np.exp(x - np.logaddexp(_lse(x), 0.0))


def _sink(x: Array, n: int, sink: float) -> Array:
    return np.exp(x - np.logaddexp(_lse(x), sink))


def _shares(values: Array, weights: Array) -> Array:
    total = weights.sum()
    return values / total if total else 0.0 * values


def _sigmoid_sum(x: Array, n: int) -> Array:
    logs = -np.logaddexp(0.0, -x)
    return np.exp(logs - _lse(logs))


def _entropy(x: Array, n: int) -> Array:
    logs = x - _lse(x)
    return np.exp(logs) / (1.0 - np.sum(np.exp(logs) * logs))


def _squared_relu(x: Array, n: int) -> Array:
    return _shares(np.maximum(x, 0.0) ** 2, np.maximum(x, 0.0) ** 2)


CASES = (
    Case("softmax1", exp, [exp], lambda z: 1 + z, _softmax1),
    Case("sink", exp, [exp], lambda z, sink: exp(sink) + z, _sink, {"sink": 0.7}),
    Case(
        *("sigmoid-sum", sigmoid, [sigmoid], None, _sigmoid_sum),
        states=("z",),
    ),
    Case(
        *("squared-relu", lambda x: relu(x) ** 2, [lambda x: square(relu(x))], None),
        _squared_relu,
        states=("z",),
    ),
    Case(
        *("power-4", lambda x: x**4, [lambda x: x**4], None),
        lambda x, n: _shares(x**4, x**4),
        states=("z",),
    ),
    Case(
        *("sign-exp", lambda x: sign(x) * exp(abs(x)), [lambda x: exp(abs(x))], None),
        lambda x, n: np.sign(x) * np.exp(np.abs(x) - _lse(np.abs(x))),
    ),
    Case(
        "capped",
        lambda x: exp(30 * tanh(x / 30)),
        [lambda x: exp(30 * tanh(x / 30))],
        None,
        lambda x, n: np.exp(30 * np.tanh(x / 30) - _lse(30 * np.tanh(x / 30))),
    ),
    Case(
        *("tempered", lambda x, t: exp(x / t), [lambda x, t: exp(x / t)], None),
        lambda x, n, t: np.exp(x / t - _lse(x / t)),
        {"t": 1.6},
    ),
    Case(
        *("entropic", exp, [exp, lambda x: x * exp(x)], lambda z, u: z * (1 + log(z)) - u),
        _entropy,
        states=("m", "z1", "z2"),
    ),
    Case(
        *("second-order", exp, [lambda x: exp(2 * x)], sqrt),
        lambda x, n: np.exp(x - 0.5 * _lse(2 * x)),
    ),
    Case(
        *("sized", exp, [exp], lambda z, n: z / n),
        lambda x, n: n * np.exp(x - _lse(x)),
    ),
    Case(
        *("greatest", lambda x: x, [("max", abs)], None),
        lambda x, n: _shares(x, np.abs(x).max(keepdims=True)),
        states=("z",),
    ),
)


def reference(case: Case, scores: Array, keep: Array) -> Array:
    """The last axis of f64 scores normalised; rows without kept elements give zeros.

    The size of a row counts what is excluded, too.
    """
    found = np.zeros(scores.shape)
    for place in np.ndindex(scores.shape[:-1]):
        kept = keep[place]
        if kept.any():
            found[place][kept] = case.row(scores[place][kept], kept.size, **case.parameters)
    return found
