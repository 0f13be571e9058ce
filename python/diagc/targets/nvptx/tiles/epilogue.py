"""Tiles to global memory: each element once, none that does not exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.memory import Memory

__all__ = ["store_tile"]


def store_tile(frame: Frame, tile: Tile, target: Memory) -> None:
    """Write a tile to an array; labels that the array has and the tile lacks are broadcast."""
    _Store(frame, tile, target).emit()


@dataclass(frozen=True)
class _Store:
    frame: Frame
    tile: Tile
    target: Memory

    def emit(self) -> None:
        """By rows; what is replicated over lanes or warps is written by one of them."""
        code, frame = self.frame.code, self.frame
        local = self.target.local_labels
        columns = [label for label in local if label != frame.row]
        column = columns[0] if columns else None
        rows = frame.row in local
        halves = [
            Slot(block, half, 0, 0)
            for block in range(frame.blocks if rows else 1)
            for half in range(2 if rows else 1)
        ]
        writer = self._writer(rows=rows, columns=column is not None)
        for slot in halves:
            exists = frame.exists(frame.row, slot) if rows else None
            values = self._values(slot, column)
            condition = code.both(writer, exists)
            if condition is None:
                self._row(slot, column, values)
            else:
                code.when(condition, partial(self._row, slot, column, values))

    def _writer(self, *, rows: bool, columns: bool) -> ir.Value | None:
        """Whether a thread writes at all."""
        code, frame = self.frame.code, self.frame
        zero = code.index(0)

        def first(number: ir.Value) -> ir.Value:
            return arith.cmpi(arith.CmpIPredicate.eq, number, zero)

        if rows:
            return None if columns else first(frame.in_quad)
        alone = first(frame.thread)
        if columns:
            alone = arith.andi(first(frame.warp), first(frame.quad))
        return alone

    def _values(self, slot: Slot, column: str | None) -> list[tuple[Slot, ir.Value]]:
        """The elements of a row, before any branch."""
        count = self.frame.columns(column)
        pairs = (0, 1) if column is not None else (0,)
        slots = [slot._replace(column=c, pair=p) for c in range(count) for p in pairs]
        return [(at, self.tile.at(at)) for at in slots]

    def _row(self, slot: Slot, column: str | None, values: Sequence[tuple[Slot, ir.Value]]) -> None:
        code, target, frame = self.frame.code, self.target, self.frame
        pointer = target.base
        if frame.row in target.local_labels:
            row = target.offset(frame.row, frame.position(frame.row, slot))
            pointer = code.address(pointer, row)
        if column is None:
            target.write(values[0][1], pointer)
        elif target.is_unit(column) and target.dtype in _PAIRED:
            aligned = target.aligned(self._lines(column), 2 * target.element_bytes)
            code.choose(
                aligned,
                lambda: self._by_pairs(pointer, column, values),
                lambda: self._one_by_one(pointer, column, values),
            )
        else:
            self._one_by_one(pointer, column, values)

    def _lines(self, column: str) -> str:
        """A label whose stride must be even, too: the rows'."""
        return self.frame.row if self.frame.row in self.target.local_labels else column

    def _by_pairs(
        self, pointer: ir.Value, column: str, values: Sequence[tuple[Slot, ir.Value]]
    ) -> None:
        """Two neighbours in one store, but for a last one that stands alone."""
        code, frame, size = self.frame.code, self.frame, self.target.element_bytes
        start = code.address(pointer, code.mul(frame.thread_column, size))
        for (slot, low), (_, high) in zip(values[::2], values[1::2], strict=True):
            place = code.address(start, 8 * slot.column * size)
            exists = frame.exists(column, slot._replace(pair=1))

            def store(at: ir.Value = place, pair: tuple[ir.Value, ir.Value] = (low, high)) -> None:
                code.store(self._packed(*pair), at, 2 * size)

            if exists is None:
                store()
                continue
            code.when(exists, store)
            size_of_axis = frame.spans[column].size
            if isinstance(size_of_axis, int) and size_of_axis % 2:
                self._guarded(pointer, column, slot, low)

    def _packed(self, low: ir.Value, high: ir.Value) -> ir.Value:
        code, dtype = self.frame.code, self.target.dtype
        if dtype == "f32":
            return code.f32_pair(low, high)
        return code.pack(dtype, low, high)

    def _one_by_one(
        self, pointer: ir.Value, column: str, values: Sequence[tuple[Slot, ir.Value]]
    ) -> None:
        for slot, value in values:
            self._guarded(pointer, column, slot, value)

    def _guarded(self, pointer: ir.Value, column: str, slot: Slot, value: ir.Value) -> None:
        code, frame = self.frame.code, self.frame
        position = frame.position(column, slot)
        exists = frame.exists(column, slot)

        def store() -> None:
            at = code.address(pointer, self.target.offset(column, position))
            self.target.write(value, at)

        if exists is None:
            store()
        else:
            code.when(exists, store)


_PAIRED = ("f16", "bf16", "f32")
