"""Rows that are computed in a kernel as operands of products of f8: rounded, with a scale each.

f8E4M3FN has numbers from 2**-9 to 448, and four digits. The rows of a chunk are multiplied by the
power of two that takes the largest of a row to [128, 256), rounded, and the product's sums, which
begin at 0, are multiplied by its inverse: so a weight is wrong by at most 2**-4 of itself or 2**-17
of the largest of its row and chunk, whatever the range of the weights is.

Accumulators hold neighbours 8 n + 2 t, 8 n + 2 t + 1 in lane t of a quad; the operand (m64k32, PTX
ISA "Register Fragments for wgmma.mma_async.m64nNk32") wants 4 t to 4 t + 3 and 16 more. Two
exchanges in the quad bring two words: in the first, even lanes send what the lanes 0 and 1 want and
odd lanes what 2 and 3 want, in the second the other way round. Columns that are turned in the
kernel have the order of accumulators instead, and nothing is exchanged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.operands import Words
from diagc.targets.nvptx.warpgroups.instructions import WarpgroupCode

__all__ = ["Float8Rows"]

_NO_SIGN = 0x7FFFFFFF
_MANTISSA_BITS = 23
_TOP = 7
"""Exponent of the largest number of a row, scaled."""
_BIAS = 127
_LEAST_EXPONENT = 8  # biased: the scale of smaller rows is that of these, 2**126
_INFINITE = 255  # biased
_GROUPS = 4
"""Of 8 columns, in a step of 32."""


@dataclass(eq=False)
class Float8Rows:
    """Rows held as a tile of f32, in steps of 32 along k."""

    frame: Frame
    tile: Tile
    turned: bool
    """Whether the columns were turned: then k is in the order of accumulators; see `turning`."""
    _scales: dict[int, tuple[ir.Value, ir.Value]] = field(default_factory=dict)

    @property
    def _code(self) -> WarpgroupCode:
        assert isinstance(self.frame.code, WarpgroupCode)
        return self.frame.code

    def words(self, step: int, _block: int) -> list[Words]:
        """Four words of a step: rows g and g + 8 at 4 t, then at 16 + 4 t."""
        halves = [self._words(step, half) for half in (0, 1)]
        return [[halves[half][part] for part in (0, 1) for half in (0, 1)]]

    def unscaled(self, total: ir.Value, half: int) -> ir.Value:
        """A sum of products with scaled rows, as that of the rows."""
        found = arith.mulf(total, self._scale(half)[1])
        found.owner.attributes["fastmath"] = self._code.contract
        return found

    # -- scales ------------------------------------------------------------------------------------
    def _scale(self, half: int) -> tuple[ir.Value, ir.Value]:
        """The power of two that rows are multiplied by, and its inverse.

        Rows that are not finite have infinity or NaN for the inverse.
        """
        if half not in self._scales:
            code, largest = self._code, self._largest(half)
            exponent = arith.shrui(largest, code.index(_MANTISSA_BITS))
            kept = arith.maxui(exponent, code.index(_LEAST_EXPONENT))
            up = code.sub(2 * _BIAS + _TOP, kept)
            bits = [code.mul(x, 1 << _MANTISSA_BITS) for x in (up, code.sub(kept, _TOP))]
            scale, inverse = (code.bitcast(code.f32, code.index(x)) for x in bits)
            infinite = arith.cmpi(arith.CmpIPredicate.eq, exponent, code.index(_INFINITE))
            number = code.bitcast(code.f32, largest)
            self._scales[half] = scale, arith.select(infinite, number, inverse)
        return self._scales[half]

    def _largest(self, half: int) -> ir.Value:
        """Bits of the largest size in a row; as integers, sizes are in order, NaN behind all."""
        code = self._code
        found = code.index(0)
        for slot in self._slots(half):
            word = code.bitcast(code.i32, self.tile.at(slot))
            found = arith.maxui(found, arith.andi(word, code.index(_NO_SIGN)))
        for distance in (1, 2):
            found = arith.maxui(found, code.exchange(found, distance))
        return found

    def _slots(self, half: int) -> Iterator[Slot]:
        assert self.tile.column is not None
        for column in range(self.frame.columns(self.tile.column)):
            for pair in (0, 1):
                yield Slot(0, half, column, pair)

    # -- words -------------------------------------------------------------------------------------
    def _words(self, step: int, half: int) -> Words:
        """Two words of a lane: four positions each, half a step apart."""
        pairs = [self._pair(half, _GROUPS * step + group) for group in range(_GROUPS)]
        if not self.turned:
            return self._exchanged(pairs)
        return [self._code.permute_bytes(pairs[i], pairs[i + 1], 0x5410) for i in (0, 2)]

    def _exchanged(self, pairs: Sequence[ir.Value]) -> Words:
        """Of pairs 8 apart, neighbours at 4 t, and at 16 + 4 t."""
        code = self._code
        low, high = (code.permute_bytes(pairs[i], pairs[i + 2], 0x5410) for i in (0, 1))
        is_odd, first, second, selectors = self._lanes
        sent = arith.select(is_odd, high, low), arith.select(is_odd, low, high)
        left, right = code.value_of_lane(sent[0], first), code.value_of_lane(sent[1], second)
        return [code.permute_bytes(left, right, selector) for selector in selectors]

    def _pair(self, half: int, column: int) -> ir.Value:
        """Two neighbours as f8 in the lower half of a word."""
        code, scale = self._code, self._scale(half)[0]
        numbers = [arith.mulf(self.tile.at(Slot(0, half, column, pair)), scale) for pair in (0, 1)]
        return arith.extui(code.i32, code.pack_float8(*numbers))

    @cached_property
    def _lanes(self) -> tuple[ir.Value, ir.Value, ir.Value, list[ir.Value]]:
        """Whether the lane is odd in its quad, whom it listens to, and how it puts words together.

        It wants the groups 0 and 2 of the lanes 2 (t % 2) and 2 (t % 2) + 1 if t < 2, else 1 and 3.
        """
        code, frame = self._code, self.frame
        with code.within(frame.scope):
            lane = code.index(frame.in_quad)
            odd, upper = code.index(code.rem(lane, 2)), code.index(code.div(lane, 2))
            base = code.add(code.sub(frame.lane, lane), code.mul(odd, 2))
            first = code.index(code.add(base, upper))
            second = code.index(code.add(base, code.bit_xor(upper, 1)))
            is_odd = arith.cmpi(arith.CmpIPredicate.eq, odd, code.index(1))
            is_upper = arith.cmpi(arith.CmpIPredicate.eq, upper, code.index(1))
            selectors = [
                arith.select(is_upper, code.index(b), code.index(a))
                for a, b in ((0x5410, 0x1054), (0x7632, 0x3276))
            ]
            return is_odd, first, second, selectors
