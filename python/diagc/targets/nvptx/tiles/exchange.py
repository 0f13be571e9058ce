"""Accumulators as vectors of 16 bytes: the four lanes of a quad exchange what they hold of a row.

Lane t of a quad holds two neighbours of every group of 8 columns. Of 16-bit elements the quad has
four groups, a word of each per lane: a transposition gives each lane a whole group, so that a store
of a warp writes 64 bytes of eight rows. Of f32 two lanes share two groups in the same way.
"""

from collections.abc import Sequence

from diagc.mlir import arith, ir, vector
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.instructions import Code

__all__ = ["RowExchange", "packed"]


def packed(code: Code, dtype: str, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two neighbours as they stand in memory."""
    return code.f32_pair(low, high) if dtype == "f32" else code.pack(dtype, low, high)


class RowExchange:
    """Exchanges the elements of one row of every quad.

    Args:
        frame: of the block.
        dtype: f16, bf16 or f32.
    """

    def __init__(self, frame: Frame, dtype: str) -> None:
        self.frame, self.dtype = frame, dtype
        self.columns = 2 if dtype == "f32" else 4
        """Groups of 8 columns that are exchanged at a time."""

    def chunks(self, values: Sequence[ir.Value]) -> list[tuple[Index, ir.Value]]:
        """(first column, 16 bytes) of a lane; `values` are its elements of whole groups."""
        step = 2 * self.columns
        parts = [values[i : i + step] for i in range(0, len(values), step)]
        chunk = self._of_f32 if self.dtype == "f32" else self._of_halves
        return [chunk(8 * self.columns * i, part) for i, part in enumerate(parts)]

    def _of_halves(self, first: int, values: Sequence[ir.Value]) -> tuple[Index, ir.Value]:
        code = self.frame.code
        words = [code.pack(self.dtype, *values[i : i + 2]) for i in range(0, 8, 2)]
        for distance in (1, 2):
            words = self._step(words, distance)
        whole = vector.from_elements(ir.VectorType.get([4], code.i32), words)
        return code.add(code.mul(self.frame.in_quad, 8), first), whole

    def _of_f32(self, first: int, values: Sequence[ir.Value]) -> tuple[Index, ir.Value]:
        """An even lane gets four neighbours of the first group, an odd one of the second."""
        code, lane = self.frame.code, self.frame.in_quad
        odd = self._has_bit(1)
        low, high = values[:2], values[2:]
        given = [arith.select(odd, a, b) for a, b in zip(low, high, strict=True)]
        got = [code.exchange(value, 1) for value in given]
        left = [arith.select(odd, a, b) for a, b in zip(got, low, strict=True)]
        right = [arith.select(odd, a, b) for a, b in zip(high, got, strict=True)]
        whole = vector.from_elements(ir.VectorType.get([4], code.f32), [*left, *right])
        column = code.add(code.mul(code.div(lane, 2), 4), code.mul(code.rem(lane, 2), 8))
        return code.add(column, first), whole

    def _step(self, words: Sequence[ir.Value], distance: int) -> list[ir.Value]:
        """One step of a transposition: a bit of the lane and of the word change places."""
        code, found = self.frame.code, list(words)
        high = self._has_bit(distance)
        for number in range(4):
            if number & distance:
                continue
            a, b = words[number], words[number | distance]
            got = code.exchange(arith.select(high, a, b), distance)
            found[number] = arith.select(high, got, a)
            found[number | distance] = arith.select(high, b, got)
        return found

    def _has_bit(self, bit: int) -> ir.Value:
        code = self.frame.code
        masked = code.index(code.bit_and(self.frame.in_quad, bit))
        return arith.cmpi(arith.CmpIPredicate.ne, masked, code.index(0))
