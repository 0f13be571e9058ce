"""Judges a compiled or rewritten diagram against the interpreter, within what rounding explains.

The tolerance of a result is no guess: the interpreter runs the diagram a few times with random
rounding errors of its element types, and what these runs differ by is what a correct program may
be off. A diagram in which rounding alone destroys the result is told apart (`too_noisy`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diagc.mlir import ir
from diagc.targets import interp
from diagc.targets.interp.noise import UNIT_ROUNDOFF

__all__ = ["ELEVEN_DIGITS", "Expectation", "expect"]

Array = npt.NDArray[Any]

ELEVEN_DIGITS: Mapping[str, float] = dict.fromkeys(UNIT_ROUNDOFF, 1e-11)
"""The unit roundoffs for rewrites that are exact but for reordered float64 arithmetic."""

_RUNS = 4
_SAFETY = 8.0
_FLOOR = 1e-30
_TOO_NOISY = 0.25


@dataclass(frozen=True)
class Expectation:
    """The exact results of a diagram on some inputs, and how far off each element may be."""

    exact: tuple[Array, ...]
    tolerances: tuple[Array, ...]

    def too_noisy(self) -> bool:
        """Whether some result has an allowance near its own size, so that little is tested."""
        return any(
            _rms(tolerance) > _TOO_NOISY * _rms(exact) + _FLOOR
            for exact, tolerance in zip(self.exact, self.tolerances, strict=True)
        )

    def complaint(self, found: Sequence[Any]) -> str | None:
        """What is wrong with these results, or None when they are right.

        NaN must meet NaN, infinity the same infinity, all else lies within the tolerance.
        """
        if len(found) != len(self.exact):
            return f"expected {len(self.exact)} results, found {len(found)}"
        for number, exact in enumerate(self.exact):
            array = np.asarray(found[number], dtype=np.float64)
            wrong = _difference(array, exact, self.tolerances[number])
            if wrong is not None:
                return f"result {number} {wrong}"
        return None


def _difference(found: Array, exact: Array, tolerance: Array) -> str | None:
    if found.shape != exact.shape:
        return f"has shape {found.shape}, expected {exact.shape}"
    with np.errstate(all="ignore"):
        error = np.abs(found - exact)
        same = (found == exact) | (np.isnan(found) & np.isnan(exact)) | (error <= tolerance)
    if same.all():
        return None
    excess = np.where(same, -1.0, np.nan_to_num(error / tolerance, nan=np.inf, posinf=np.inf))
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), exact.shape))
    return (
        f"is wrong in {int((~same).sum())} of {same.size} elements, worst at {where}: expected "
        f"{exact[where]:.9g} within {tolerance[where]:.2g}, found {found[where]:.9g}"
    )


def expect(
    module: ir.Module,
    inputs: Sequence[Array],
    unit: Mapping[str, float] = UNIT_ROUNDOFF,
    *,
    externs: Mapping[str, Any] | None = None,
) -> Expectation:
    """Evaluate `main` of `module` exactly and with rounding errors of `unit` size.

    The tolerance of an element is some times what the noisy runs differ by there, and what
    they differ by on average over the result, and a few roundings of the element itself.
    """
    exact = interp.evaluate(module, inputs, externs=externs)
    noisy = [
        interp.evaluate(module, inputs, externs=externs, noise=interp.Noise(seed, unit))
        for seed in range(_RUNS)
    ]
    types = [str(type_.element_type) for type_ in _result_types(module)]
    tolerances = [
        _tolerance(result, [run[number] for run in noisy], unit.get(types[number], 0.0))
        for number, result in enumerate(exact)
    ]
    return Expectation(tuple(exact), tuple(tolerances))


def _result_types(module: ir.Module) -> Sequence[Any]:
    for op in module.body.operations:
        if op.operation.attributes["sym_name"].value == "main":
            return list(op.operation.attributes["function_type"].value.results)
    return []


def _tolerance(exact: Array, noisy: Sequence[Array], unit: float) -> Array:
    exact = exact.astype(np.float64)
    with np.errstate(all="ignore"):
        squares = np.mean([(run.astype(np.float64) - exact) ** 2 for run in noisy], axis=0)
        spread = np.sqrt(np.nan_to_num(squares, nan=0.0, posinf=0.0))
        size = np.nan_to_num(np.abs(exact), nan=0.0, posinf=0.0)
    return _SAFETY * (spread + _rms(spread) + unit * size) + _FLOOR


def _rms(array: Array) -> float:
    finite = array[np.isfinite(array)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0
