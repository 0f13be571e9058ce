"""Tiles to global memory: each element once, none that does not exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.row_store import RowStore

__all__ = ["store_tile"]


def store_tile(
    frame: Frame, tile: Tile, target: Memory, place: int | None, only: Tile | None = None
) -> None:
    """Write a tile to an array; labels that the array has and the tile lacks are broadcast.

    Args:
        frame: of the block.
        tile: what is written.
        target: the array.
        place: where in shared memory it may stand, for a result that `Arena` has a place for.
        only: the rows that are written, where not all are; they do not go through shared memory.
    """
    columns = [label for label in target.local_labels if label not in frame.rows]
    if place is not None and only is None:
        RowStore(frame, tile, target, columns[0], place).emit()
    else:
        _Store(frame, tile, target, columns[0] if columns else None, only).emit()


@dataclass(frozen=True)
class _Store:
    """Stores element by element: results with rows or columns alone, conditions, integers."""

    frame: Frame
    tile: Tile
    target: Memory
    column: str | None
    only: Tile | None = None

    def emit(self) -> None:
        """By rows; what is replicated over lanes or warps is written by one of them."""
        code, frame = self.frame.code, self.frame
        rows = any(label in self.target.local_labels for label in frame.rows)
        writer = self._writer(rows=rows)
        for block in range(frame.blocks if rows else 1):
            for half in range(2 if rows else 1):
                slot = Slot(block, half, 0, 0)
                # lanes exchange before any of them leaves
                values = self._values(slot)
                exists = frame.exists(frame.row, slot) if rows else None
                wanted = None if self.only is None else self.only.at(slot)
                condition = code.both(code.both(writer, exists), wanted)
                store = partial(self._store, slot, values)
                if condition is None:
                    store()
                else:
                    code.when(condition, store)

    def _writer(self, *, rows: bool) -> ir.Value | None:
        """Whether a thread writes at all."""
        code, frame = self.frame.code, self.frame
        zero = code.index(0)

        def first(number: Index) -> ir.Value:
            return arith.cmpi(arith.CmpIPredicate.eq, code.index(number), zero)

        if rows:
            return None if self.column is not None else first(frame.in_quad)
        if self.column is not None:
            return arith.andi(first(frame.warp), first(frame.quad))
        return first(frame.thread)

    def _values(self, slot: Slot) -> list[tuple[Slot, ir.Value]]:
        pairs = (0, 1) if self.column is not None else (0,)
        groups = range(self.frame.columns(self.column))
        slots = [slot._replace(column=group, pair=pair) for group in groups for pair in pairs]
        return [(at, self.tile.at(at)) for at in slots]

    def _store(self, row: Slot, values: Sequence[tuple[Slot, ir.Value]]) -> None:
        code, target, frame, column = self.frame.code, self.target, self.frame, self.column
        pointer = target.base
        for label in (x for x in frame.rows if x in target.local_labels):
            pointer = code.address(pointer, target.offset(label, frame.position(label, row)))
        for slot, value in values:
            exists = None if column is None else frame.exists(column, slot)
            store = partial(self._write, pointer, slot, value)
            if exists is None:
                store()
            else:
                code.when(exists, store)

    def _write(self, pointer: ir.Value, slot: Slot, value: ir.Value) -> None:
        code, target, column = self.frame.code, self.target, self.column
        if column is not None:
            offset = target.offset(column, self.frame.position(column, slot))
            pointer = code.address(pointer, offset)
        target.write(value, pointer)
