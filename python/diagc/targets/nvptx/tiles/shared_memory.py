"""Addresses in tiles of shared memory, as the lanes of a warp read and write them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.emitter import Emitter, Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.shared_tile import CHUNK_BYTES, SharedTile

__all__ = ["PLACES", "LanePlace", "SharedView", "chunk_offset", "swizzle"]


@dataclass(frozen=True)
class LanePlace:
    """What a thread's number chooses: a line, a chunk, bytes in the chunk.

    `wide` says that the chunk may be beyond the swizzled ones.
    """

    line: Index
    chunk: Index
    byte: Index = 0
    wide: bool = False


class SharedView:
    """Addresses in one tile; `stage` is the distance in bytes of the stage that is read."""

    def __init__(self, frame: Frame, tile: SharedTile, stage: Index = 0) -> None:
        self.frame, self.tile, self.stage = frame, tile, stage

    def at(self, kind: str, line: int, chunk: int, byte: int = 0) -> ir.Value:
        """Pointer for a lane of a kind (`PLACES`), `line` lines, `chunk` chunks, `byte` further.

        `line` is a multiple of 8; `chunk` has no bit that the lane's chunk may have, too.
        """
        pattern, constant = self.tile.split(line, chunk)
        code = self.frame.code
        staged = code.add(self._base(kind, pattern), self.stage)
        pointer = code.address(self.frame.smem, staged)
        return code.address(pointer, self.tile.offset + constant + byte)

    def _base(self, kind: str, pattern: int) -> Index:
        """Offset of a lane for one pattern; the same for all tiles of one shape."""
        tile, frame = self.tile, self.frame
        key = (tile.pitch, tile.element_bytes, kind, pattern)
        if key not in frame.shared_bases:
            with frame.code.within(frame.scope):
                place = PLACES[kind](frame, tile.element_bytes)
                frame.shared_bases[key] = self._offset(place, pattern)
        return frame.shared_bases[key]

    def _offset(self, place: LanePlace, pattern: int) -> Index:
        code, tile = self.frame.code, self.tile
        low = code.bit_and(place.chunk, tile.mask) if place.wide else place.chunk
        low = code.bit_xor(low, swizzle(code, tile, place.line))
        offset = code.bit_xor(code.mul(low, CHUNK_BYTES), pattern * CHUNK_BYTES)
        if place.wide:
            high = code.bit_and(place.chunk, ~tile.mask)
            offset = code.add(offset, code.mul(high, CHUNK_BYTES))
        return code.add(code.add(code.mul(place.line, tile.pitch), offset), place.byte)


def swizzle(code: Emitter, tile: SharedTile, line: Index) -> Index:
    """What the chunks of a line are changed by."""
    return code.bit_and(code.div(line, 1 << tile.shift), tile.mask)


def chunk_offset(code: Emitter, tile: SharedTile, line: Index, chunk: Index) -> Index:
    """Bytes from the beginning of a tile to a chunk of a line."""
    swizzled = code.bit_and(chunk, tile.mask)
    low = code.bit_xor(swizzled, swizzle(code, tile, line))
    place = code.mul(code.add(low, code.sub(chunk, swizzled)), CHUNK_BYTES)
    return code.add(place, code.mul(line, tile.pitch))


# ---- the places of lanes -----------------------------------------------------------------------
#
# ldmatrix reads four matrices; lane l gives the address of row l % 8 of matrix l / 8. For operands
# that are stored along k the matrices of A go down its rows first, those of B along k first; for
# operands that are stored across k it is the other way round.


def _down(frame: Frame, _bytes: int) -> LanePlace:
    """Matrices go down the lines first."""
    code = frame.code
    return LanePlace(code.rem(frame.lane, 16), code.div(frame.lane, 16))


def _along(frame: Frame, _bytes: int) -> LanePlace:
    """Matrices go along the line first."""
    code = frame.code
    line = code.add(code.rem(frame.lane, 8), code.mul(code.div(frame.lane, 16), 8))
    return LanePlace(line, code.rem(code.div(frame.lane, 8), 2))


def _down_rows(frame: Frame, element_bytes: int) -> LanePlace:
    """As `_down`, from the first row of the warp, where lines are rows."""
    place = _down(frame, element_bytes)
    return LanePlace(frame.code.add(place.line, frame.warp_row), place.chunk)


def _along_rows(frame: Frame, element_bytes: int) -> LanePlace:
    """As `_along`, from the first row of the warp, where rows go along the lines."""
    code, place = frame.code, _along(frame, element_bytes)
    chunk = code.add(place.chunk, code.mul(frame.warp, 2 * frame.blocks))
    return LanePlace(place.line, chunk, wide=True)


def _pairs(frame: Frame, element_bytes: int) -> LanePlace:
    """The first two neighbours of an accumulator, where lines are rows."""
    code = frame.code
    line = code.add(frame.warp_row, frame.quad)
    return _pair(frame, line, element_bytes)


def _inner_pairs(frame: Frame, element_bytes: int) -> LanePlace:
    """Two neighbours along k of a column, where lines are columns."""
    return _pair(frame, frame.quad, element_bytes)


def _pair(frame: Frame, line: Index, element_bytes: int) -> LanePlace:
    code, byte = frame.code, frame.code.mul(frame.in_quad, 2 * element_bytes)
    if element_bytes <= 2:
        return LanePlace(line, 0, byte)
    return LanePlace(line, code.div(byte, CHUNK_BYTES), code.rem(byte, CHUNK_BYTES))


def _cross(frame: Frame, odd: int) -> LanePlace:
    """32-bit elements across k: lines 2 t or 2 t + 1, the element g of a group of 8."""
    code = frame.code
    line = code.add(code.mul(frame.in_quad, 2), odd)
    return LanePlace(line, code.div(frame.quad, 4), code.mul(code.rem(frame.quad, 4), 4))


def _cross_rows(frame: Frame, odd: int) -> LanePlace:
    """As `_cross`, from the first row of the warp, where rows go along the lines."""
    code, place = frame.code, _cross(frame, odd)
    chunk = code.add(place.chunk, code.mul(frame.warp, 4 * frame.blocks))
    return LanePlace(place.line, chunk, place.byte, wide=True)


PLACES: Mapping[str, Callable[[Frame, int], LanePlace]] = {
    "down": _down,
    "along": _along,
    "down_rows": _down_rows,
    "along_rows": _along_rows,
    "pairs": _pairs,
    "inner_pairs": _inner_pairs,
    "cross_even": lambda frame, _: _cross(frame, 0),
    "cross_odd": lambda frame, _: _cross(frame, 1),
    "cross_rows_even": lambda frame, _: _cross_rows(frame, 0),
    "cross_rows_odd": lambda frame, _: _cross_rows(frame, 1),
}
