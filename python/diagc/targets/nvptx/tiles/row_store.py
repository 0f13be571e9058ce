"""Rows from registers to global memory through shared memory, in vectors as wide as they fit.

Lane t of a quad holds two neighbours of every group of 8 columns. They go to a swizzled tile of
shared memory in pairs, and leave it line by line: a warp writes whole lines of 16 bytes a lane in a
loop, which is a third of the code of an exchange between lanes in registers.
"""

from dataclasses import dataclass
from math import gcd

from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.layouts import Slot, Tile, slots
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.shared_memory import chunk_offset
from diagc.targets.nvptx.tiles.shared_tile import CHUNK_BYTES, SharedTile

__all__ = ["LanePointers", "RowStore"]

_TOGETHER = (4, 2, 1)
"""Loads from shared memory that are under way at a time."""


def _pair(code: Code, dtype: str, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two neighbours as they stand in memory."""
    return code.f32_pair(low, high) if dtype == "f32" else code.pack(dtype, low, high)


@dataclass(frozen=True)
class RowStore:
    """Writes a tile to an array of f16, bf16 or f32 that has rows and columns.

    Args:
        frame: of the block.
        tile: what is written; without rows or columns it is the same along them.
        target: the array.
        column: its label besides that of rows.
        place: of the tile in shared memory, in bytes; its values are all there is left to do.
    """

    frame: Frame
    tile: Tile
    target: Memory
    column: str
    place: int

    def emit(self) -> None:
        """By all warps, each its own rows."""
        code, size = self.frame.code, self.target.element_bytes
        groups = self.frame.columns(self.column)
        places = [slot for slot in slots(True, True, self.frame.blocks, groups) if slot.pair == 0]
        pairs = [self._pair(slot) for slot in places]
        # every warp has read what others overwrite; no copy is under way, as each is waited for,
        # and so are stores by tensor maps before this is called
        code.barrier()
        shared = SharedTile(self.place, self.frame.schedule.rows, 8 * groups, size)
        pointers = LanePointers.of_pairs(self.frame, shared)
        for slot, pair in zip(places, pairs, strict=True):
            code.store(pair, pointers.of_slot(slot), 2 * size)
        code.sync_warp()
        self._write(shared)

    def _pair(self, slot: Slot) -> ir.Value:
        low, high = (self.tile.at(slot._replace(pair=pair)) for pair in (0, 1))
        return _pair(self.frame.code, self.target.dtype, low, high)

    def _write(self, shared: SharedTile) -> None:
        """In the widest vectors that a line is made of, where memory is aligned to them."""
        width, size, code = self._width, self.frame.spans[self.column].size, self.frame.code
        element = self.target.element_bytes
        vector = gcd(CHUNK_BYTES, width * element, size * element if isinstance(size, int) else 0)
        if vector == element or not self.target.is_unit(self.column):
            self._lines(shared, element, width)
            return
        aligned = self.target.aligned(self.frame.rows, vector)
        if not isinstance(size, int):
            rest = code.index(code.rem(size, vector // element))
            whole = arith.cmpi(arith.CmpIPredicate.eq, rest, code.index(0))
            aligned = arith.andi(aligned, whole)
        code.choose(
            aligned,
            lambda: self._lines(shared, vector, width * element // vector),
            lambda: self._lines(shared, element, width),
        )

    @property
    def _width(self) -> int:
        """Positions of a line: all of an axis, or those of a tile of it."""
        span = self.frame.spans[self.column]
        if self._is_tile:
            return span.extent
        assert isinstance(span.size, int), "columns that are whole are of known size"
        return span.size

    @property
    def _is_tile(self) -> bool:
        """Whether other blocks have other columns."""
        return bool(self.frame.schedule.columns)

    def _lines(self, shared: SharedTile, vector: int, per_line: int) -> None:
        """Vectors of some bytes, one after the other over the lanes of a warp."""
        code, frame = self.frame.code, self.frame
        count = self._count(vector)
        together = next(n for n in _TOGETHER if n == 1 or count % (32 * n) == 0)

        def some(number: Index, _carried: list[ir.Value]) -> list[ir.Value]:
            first = code.add(number, frame.lane)
            indices = [code.add(first, 32 * i) for i in range(together)]
            places = [(code.div(x, per_line), code.rem(x, per_line)) for x in indices]
            values = [self._read(shared, vector, *place) for place in places]
            for value, place in zip(values, places, strict=True):
                self._store(value, vector, *place)
            return []

        code.loop(0, count, 32 * together, [], some)

    def _count(self, vector: int) -> int:
        """Vectors of a warp's rows."""
        return 16 * self.frame.blocks * self._width * self.target.element_bytes // vector

    def _has_more(self, vector: int) -> bool:
        """Whether the lanes of a warp go beyond its rows."""
        return self._count(vector) % 32 != 0

    def _read(self, shared: SharedTile, vector: int, line: Index, part: Index) -> ir.Value:
        """A vector of a line of the warp; beyond the last one, of that."""
        code, frame = self.frame.code, self.frame
        if self._has_more(vector):
            line = code.min(line, 16 * frame.blocks - 1)
        line = code.add(line, frame.warp_row)
        byte = code.mul(part, vector)
        place = chunk_offset(code, shared, line, code.div(byte, CHUNK_BYTES))
        place = code.add(place, code.rem(byte, CHUNK_BYTES))
        pointer = code.address(code.address(frame.smem, place), shared.offset)
        return code.load(_vector_type(vector), pointer, vector)

    def _store(self, value: ir.Value, vector: int, line: Index, part: Index) -> None:
        code, frame, target = self.frame.code, self.frame, self.target
        row = code.add(frame.warp_row, line)
        position = frame.row_position(frame.row, row)
        exists = code.less(position, frame.sizes[frame.row])
        if self._has_more(vector):
            exists = arith.andi(exists, code.less(line, 16 * frame.blocks))
        pointer = target.base
        for label in frame.rows:
            pointer = code.address(pointer, target.offset(label, frame.row_position(label, row)))
        span = frame.spans[self.column]
        column = code.add(span.base, code.mul(part, vector // target.element_bytes))
        if self._is_tile and not span.whole:
            exists = arith.andi(exists, code.less(column, span.size))
        pointer = code.address(pointer, target.offset(self.column, column))
        code.when(exists, lambda: code.store(value, pointer, vector))


class LanePointers:
    """Where lanes write, as `SharedView` says, from one register that does not depend on the slot.

    The registers of `SharedView` were made in front of the loops, and would stay alive in them.

    Args:
        frame: of the block.
        shared: the tile.
        line, byte: that the thread's number chooses; `byte` is of the first swizzled chunks.
    """

    def __init__(self, frame: Frame, shared: SharedTile, line: Index, byte: Index) -> None:
        """Emit what all pointers of the thread have in common."""
        code = self._code = frame.code
        first = chunk_offset(code, shared, line, code.div(byte, CHUNK_BYTES))
        self._first = code.add(first, code.rem(byte, CHUNK_BYTES))
        self._base, self._shared = code.address(frame.smem, shared.offset), shared
        self._pointers: dict[int, ir.Value] = {}

    @classmethod
    def of_pairs(cls, frame: Frame, shared: SharedTile) -> "LanePointers":
        """Of two neighbours of an accumulator."""
        code = frame.code
        byte = code.mul(frame.in_quad, 2 * shared.element_bytes)
        return cls(frame, shared, code.add(frame.warp_row, frame.quad), byte)

    def of_slot(self, slot: Slot) -> ir.Value:
        """Pointer to the pair of a slot."""
        line = 16 * slot.block + 8 * slot.half
        return self.at(line, slot.column * self._shared.element_bytes // 2)

    def at(self, line: int, chunk: int) -> ir.Value:
        """So many lines, a multiple of 8, and chunks further: these change bits of the first."""
        code = self._code
        pattern, further = self._shared.split(line, chunk)
        if pattern not in self._pointers:
            place = code.bit_xor(self._first, pattern * CHUNK_BYTES)
            self._pointers[pattern] = code.address(self._base, place)
        return code.address(self._pointers[pattern], further)


def _vector_type(size: int) -> ir.Type:
    """So many bytes, in words where there is more than one."""
    word = ir.IntegerType.get_signless(8 * min(size, 4))
    return word if size <= 4 else ir.VectorType.get([size // 4], word)
