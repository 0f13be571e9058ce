"""Random rounding errors: how far a correct program with these element types may be off.

Monte Carlo arithmetic: every operation that rounds is off by a random relative error of at most
the unit roundoff of its type. What the results of such runs differ by is what rounding can do to
this diagram on these inputs, cancellation and long sums included, however it is fused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.interp.rounding import Array

__all__ = ["UNIT_ROUNDOFF", "Noise"]

UNIT_ROUNDOFF: Mapping[str, float] = {
    "f64": 2.0**-53,
    "f32": 2.0**-24,
    "f8E4M3FN": 2.0**-4,
    "f16": 2.0**-11,
    "bf16": 2.0**-8,
}
"""Largest relative error of one rounding (bf16: of a truncation, which some hardware does)."""

# Ops that copy or choose numbers; all others round.
_EXACT = (
    "arith.bitcast",
    "arith.constant",
    "arith.extf",
    "arith.maximumf",
    "arith.maxnumf",
    "arith.minimumf",
    "arith.minnumf",
    "arith.negf",
    "arith.select",
    "builtin.unrealized_conversion_cast",
    "diag.chunk",
    "diag.concat",
    "diag.constant",
    "diag.element",
    "diag.map",
    "diag.pad",
    "diag.reindex",
    "diag.relabel",
    "diag.stream",
    "func.call",
    "math.absf",
)
# Approximations of elementary functions may be off by more than a rounding.
_FUNCTION_ERROR = 4.0
# Half the smallest subnormal number of f16: below the normal range the error is absolute.
_TINY = {"f16": 2.0**-25}


@dataclass
class Noise:
    """A source of random rounding errors; `unit` gives the unit roundoff of each float type."""

    seed: int
    unit: Mapping[str, float] = field(default_factory=lambda: UNIT_ROUNDOFF)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def operand(self, op: ir.Operation, number: int, array: Array) -> Array:
        """An operand of an op that sums: off by the errors of the sum, a square root of its length.

        A contraction may also be done in the narrower of its operand types.
        """
        summed = _summed_axes(op)
        source = op.operands[number]
        if summed is None or not diag.is_float(diag.element_type(source)):
            return array
        sizes = dict(zip(diag.labels(source), array.shape, strict=True))
        length = prod(sizes.get(label, 1) for label in summed)
        types = [str(diag.element_type(operand)) for operand in op.operands]
        error = self.unit["f64" if "f64" in types else "f32"] * max(1.0, length) ** 0.5
        if op.name == "diag.contract" and types[0] != types[1]:
            error += self.unit[types[1 - number]]
        return self._perturbed(array, error)

    def result(self, op: ir.Operation, array: Array, element: ir.Type) -> Array:
        """A result of an op that rounds."""
        if op.name in _EXACT or array.dtype != np.float64:
            return array
        type_ = str(element)
        factor = _FUNCTION_ERROR if op.name.startswith("math.") else 1.0
        noisy = self._perturbed(array, factor * self.unit[type_])
        tiny = _TINY.get(type_, 0.0) * self.unit[type_] / UNIT_ROUNDOFF[type_]
        return noisy + tiny * self._rng.uniform(-1.0, 1.0, size=array.shape) if tiny else noisy

    def _perturbed(self, array: Array, error: float) -> Array:
        return array * (1.0 + error * self._rng.uniform(-1.0, 1.0, size=array.shape))


def _summed_axes(op: ir.Operation) -> list[str] | None:
    """The axes that an op sums over; None for ops that sum nothing."""
    if op.name == "diag.contract" or (
        op.name == "diag.reduce" and op.attributes["kind"].value == "add"
    ):
        return diag.strings(op.attributes["over"])
    if op.name in diag.NORMALIZER_OPS:
        return diag.strings(op.attributes["along"])
    return None
