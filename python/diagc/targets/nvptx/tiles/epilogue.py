"""Tiles to global memory: each element once, none that does not exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.exchange import RowExchange, packed
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.memory import Memory

__all__ = ["store_tile"]

_PAIRED = ("f16", "bf16", "f32")
"""Types of which neighbours are stored together."""


def store_tile(frame: Frame, tile: Tile, target: Memory) -> None:
    """Write a tile to an array; labels that the array has and the tile lacks are broadcast."""
    _Store(frame, tile, target).emit()


@dataclass(frozen=True)
class _Row:
    """What a thread holds of one row: elements by slot, and vectors of 16 bytes by first column."""

    slot: Slot
    values: Sequence[tuple[Slot, ir.Value]]
    chunks: Sequence[tuple[Index, ir.Value]]


@dataclass(frozen=True)
class _Store:
    frame: Frame
    tile: Tile
    target: Memory

    def emit(self) -> None:
        """By rows; what is replicated over lanes or warps is written by one of them."""
        code, frame = self.frame.code, self.frame
        rows = frame.row in self.target.local_labels
        writer = self._writer(rows=rows, columns=self._column is not None)
        for block in range(frame.blocks if rows else 1):
            for half in range(2 if rows else 1):
                slot = Slot(block, half, 0, 0)
                values = self._values(slot)
                # lanes exchange before any of them leaves
                row = _Row(slot, values, self._chunks(values))
                exists = frame.exists(frame.row, slot) if rows else None
                condition = code.both(writer, exists)
                if condition is None:
                    self._store(row)
                else:
                    code.when(condition, partial(self._store, row))

    @property
    def _column(self) -> str | None:
        found = [label for label in self.target.local_labels if label != self.frame.row]
        return found[0] if found else None

    def _writer(self, *, rows: bool, columns: bool) -> ir.Value | None:
        """Whether a thread writes at all."""
        code, frame = self.frame.code, self.frame
        zero = code.index(0)

        def first(number: Index) -> ir.Value:
            return arith.cmpi(arith.CmpIPredicate.eq, code.index(number), zero)

        if rows:
            return None if columns else first(frame.in_quad)
        if columns:
            return arith.andi(first(frame.warp), first(frame.quad))
        return first(frame.thread)

    # -- what a thread holds -----------------------------------------------------------------------
    def _values(self, slot: Slot) -> list[tuple[Slot, ir.Value]]:
        column = self._column
        pairs = (0, 1) if column is not None else (0,)
        groups = range(self.frame.columns(column))
        slots = [slot._replace(column=group, pair=pair) for group in groups for pair in pairs]
        return [(at, self.tile.at(at)) for at in slots]

    def _chunks(self, values: Sequence[tuple[Slot, ir.Value]]) -> list[tuple[Index, ir.Value]]:
        """Empty where groups of columns are not whole, or the type is none of `_PAIRED`."""
        column, target = self._column, self.target
        if column is None or target.dtype not in _PAIRED or not target.is_unit(column):
            return []
        exchange = RowExchange(self.frame, target.dtype)
        whole = all(self.frame.exists(column, slot) is None for slot, _ in values)
        if not whole or self.frame.columns(column) % exchange.columns:
            return []
        return exchange.chunks([value for _, value in values])

    # -- stores ------------------------------------------------------------------------------------
    def _store(self, row: _Row) -> None:
        code, target, frame, column = self.frame.code, self.target, self.frame, self._column
        pointer = target.base
        if frame.row in target.local_labels:
            offset = target.offset(frame.row, frame.position(frame.row, row.slot))
            pointer = code.address(pointer, offset)
        if column is None:
            target.write(row.values[0][1], pointer)
        elif target.is_unit(column) and target.dtype in _PAIRED:
            size = 16 if row.chunks else 2 * target.element_bytes
            code.choose(
                target.aligned(self._lines(column), size),
                lambda: self._in_vectors(pointer, column, row),
                lambda: self._one_by_one(pointer, column, row.values),
            )
        else:
            self._one_by_one(pointer, column, row.values)

    def _lines(self, column: str) -> str:
        """A label whose stride must fit, too: the rows'."""
        return self.frame.row if self.frame.row in self.target.local_labels else column

    def _in_vectors(self, pointer: ir.Value, column: str, row: _Row) -> None:
        """In vectors of 16 bytes, or of two elements."""
        if not row.chunks:
            self._by_pairs(pointer, column, row.values)
        code, size = self.frame.code, self.target.element_bytes
        for first, chunk in row.chunks:
            code.store(chunk, code.address(pointer, code.mul(first, size)), 16)

    def _by_pairs(
        self, pointer: ir.Value, column: str, values: Sequence[tuple[Slot, ir.Value]]
    ) -> None:
        """Two neighbours in one store, but for a last one that stands alone."""
        code, frame, size = self.frame.code, self.frame, self.target.element_bytes
        start = code.address(pointer, code.mul(frame.thread_column, size))
        axis = frame.spans[column].size
        for (slot, low), (_, high) in zip(values[::2], values[1::2], strict=True):
            place = code.address(start, 8 * slot.column * size)
            pair = packed(code, self.target.dtype, low, high)
            exists = frame.exists(column, slot._replace(pair=1))
            if exists is None:
                code.store(pair, place, 2 * size)
                continue
            code.when(exists, partial(code.store, pair, place, 2 * size))
            if isinstance(axis, int) and axis % 2:
                alone = arith.xori(exists, code.scalar(code.i1, 1))
                first = frame.exists(column, slot)
                assert first is not None, "the second of a pair is missing, so the first may be"
                code.when(
                    arith.andi(alone, first), partial(self._write, pointer, column, slot, low)
                )

    def _one_by_one(
        self, pointer: ir.Value, column: str, values: Sequence[tuple[Slot, ir.Value]]
    ) -> None:
        code = self.frame.code
        for slot, value in values:
            exists = self.frame.exists(column, slot)
            if exists is None:
                self._write(pointer, column, slot, value)
            else:
                code.when(exists, partial(self._write, pointer, column, slot, value))

    def _write(self, pointer: ir.Value, column: str, slot: Slot, value: ir.Value) -> None:
        code, target = self.frame.code, self.target
        if target.is_unit(column):  # a constant distance: no arithmetic for each of some hundred
            first = code.mul(self.frame.thread_column, target.element_bytes)
            further = (8 * slot.column + slot.pair) * target.element_bytes
            target.write(value, code.address(code.address(pointer, first), further))
            return
        position = self.frame.position(column, slot)
        target.write(value, code.address(pointer, target.offset(column, position)))
