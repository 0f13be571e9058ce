"""Exponentials of differences from a row's reference: exp(a - m) as one fma and a power of two.

With s = log2 e and M = m s, rounded, exp(a - m) is 2**(a s - M), which is an fma. Against a - m,
which is exact for a near m, that is wrong by the rounding of M: by a factor that is the same in all
of a row, as if m were another number near it. Sums of a row's terms keep their ratios, and so does
a state that is corrected from one reference to the next by 2**(M - M'), of the same roundings.

That factor is at most 2**8 while |m| < 2**27. Neighbours there are 8 apart or more, and s = 1 will
do: 2**(a - m) is 1 at a = m, exactly, and hardly anything elsewhere, and nothing overflows.
"""

from dataclasses import dataclass, field

from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.scalars import LOG2_E

__all__ = ["References"]

_LARGE = 2.0**27


@dataclass(frozen=True)
class _Reference:
    """m as a power of two: whether it is large, s, and m s."""

    large: ir.Value
    scale: ir.Value
    scaled: ir.Value
    negated: ir.Value


@dataclass(eq=False)
class References:
    """Writes exponentials; references are written once each."""

    code: Code
    _made: dict[ir.Value, _Reference] = field(default_factory=dict)

    def power(self, value: ir.Value, reference: ir.Value) -> ir.Value:
        """exp(value - reference), times the factor of the reference."""
        code, found = self.code, self._reference(reference)
        return code.exp2(code.fma(value, found.scale, found.negated))

    def correction(self, old: ir.Value, new: ir.Value) -> ir.Value:
        """exp(old - new) for what has the factor of the old reference, and gets the new one's.

        Where one alone is large they have no scale in common.
        """
        code = self.code
        before, behind = self._reference(old), self._reference(new)
        apart = arith.mulf(arith.subf(old, new), code.scalar(code.f32, LOG2_E))
        differ = arith.xori(before.large, behind.large)
        return code.exp2(arith.select(differ, apart, arith.subf(before.scaled, behind.scaled)))

    def _reference(self, value: ir.Value) -> _Reference:
        if value not in self._made:
            self._made[value] = self._make(value)
        return self._made[value]

    def _make(self, value: ir.Value) -> _Reference:
        code = self.code
        size = code.absolute(value)
        limit = code.scalar(code.f32, _LARGE)
        large = arith.cmpf(arith.CmpFPredicate.OGE, size, limit)
        one, factor = (code.scalar(code.f32, x) for x in (1.0, LOG2_E))
        scale = arith.select(large, one, factor)
        scaled = arith.mulf(value, scale)
        return _Reference(large, scale, scaled, arith.negf(scaled))
