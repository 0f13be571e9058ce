"""Results to global memory by tensor maps: every warp writes its rows to panels and stores them.

    words of 8 x 8 matrices, or pairs of f32        from the layout of sums
    wait until the last store of the warp has read, if there was one
    stmatrix into the swizzled panels; a fence of the asynchronous proxy; the warp meets
    one lane starts a copy of each panel of its rows: rows beyond the end are left out

A warp's lines of a panel are its own from the first write to the last read, so no warp waits for
another, unless the panels take the place of tiles that others may still read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import gcd

from diagc.mlir import ir
from diagc.runtime.gpu_kernel import TensorMap
from diagc.runtime.signature import Wire
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.plan import Plan
from diagc.targets.nvptx.tiles.row_store import LanePointers
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.shared_tile import CHUNK_BYTES
from diagc.targets.nvptx.warpgroups.arena import BulkArena, PanelTile
from diagc.targets.nvptx.warpgroups.instructions import WarpgroupCode

__all__ = ["BoxStore", "result_maps", "wait_stores"]

_WARP_ROWS = 16


def result_maps(plan: Plan, schedule: TileSchedule, arena: BulkArena) -> tuple[TensorMap, ...]:
    """Of the results that leave by boxes, in the order of `arena.boxes`."""
    found = []
    for number, tile in arena.boxes.items():
        labels = plan.signature.results[number].labels
        width = tile.pitch // tile.element_bytes
        box = {**dict.fromkeys(labels, 1), plan.row: _lines(schedule), labels[-1]: width}
        wire = len(plan.signature.args) + number
        found.append(TensorMap(wire, tuple(box[label] for label in labels), tile.pitch))
    return tuple(found)


def _lines(schedule: TileSchedule) -> int:
    """Rows of a box: those of a warp, or of one packed position among them."""
    return gcd(_WARP_ROWS, schedule.row_extent)


def wait_stores(code: WarpgroupCode) -> None:
    """Before a warp writes its panels again, or ends: what it has started has read them."""
    code.when(code.elect(), code.wait_stores)


@dataclass(frozen=True)
class BoxStore:
    """Writes a tile to an array of f16, bf16 or f32 that has rows and columns.

    Args:
        frame: of the block.
        tile: what is written; its values are all there is left to do.
        shared: its panels.
        wire: the array.
        tensor_map: of the array, with boxes as `result_maps` says.
    """

    frame: Frame
    tile: Tile
    shared: PanelTile
    wire: Wire
    tensor_map: ir.Value

    @property
    def code(self) -> WarpgroupCode:
        """Emitter."""
        assert isinstance(self.frame.code, WarpgroupCode)
        return self.frame.code

    def emit(self, *, meets: bool, waits: bool) -> None:
        """By all warps, each its own rows; the last copies are under way behind it.

        Args:
            meets: whether other warps may still read what the panels take the place of, or have
                stores of it under way.
            waits: whether stores of the warp from the same place may be under way.
        """
        code = self.code
        write = self._pairs if self.shared.element_bytes == 4 else self._matrices
        stores = write()
        if waits:
            wait_stores(code)
        if meets:
            code.barrier()
        elif waits:
            code.sync_warp()
        for store in stores:
            store()
        code.fence_proxy()
        code.sync_warp()
        first = code.mul(code.uniform(self.frame.warp), _WARP_ROWS)
        code.when(code.elect(), partial(self._start, first))

    # -- to shared memory --------------------------------------------------------------------------
    def _matrices(self) -> list[Callable[[], None]]:
        """Four at a time: both halves of the rows, of two groups of 8 columns."""
        code, frame = self.code, self.frame
        line = code.add(frame.warp_row, code.rem(frame.lane, _WARP_ROWS))
        byte = code.mul(code.div(frame.lane, _WARP_ROWS), CHUNK_BYTES)
        pointers = LanePointers(frame, self.shared, line, byte)

        def words(group: int) -> Sequence[ir.Value]:
            places = product((group, group + 1), (0, 1))
            return [self.tile.word(self.wire.dtype, Slot(0, half, x, 0)) for x, half in places]

        groups = range(0, frame.columns(self._column), 2)
        return [partial(code.store_matrices, pointers.at(0, x), words(x)) for x in groups]

    def _pairs(self) -> list[Callable[[], None]]:
        code, pointers = self.code, LanePointers.of_pairs(self.frame, self.shared)
        groups = range(self.frame.columns(self._column))
        slots = [Slot(0, half, group, 0) for group in groups for half in (0, 1)]
        pairs = [[self.tile.at(slot._replace(pair=pair)) for pair in (0, 1)] for slot in slots]
        return [
            partial(code.store, code.f32_pair(*pair), pointers.of_slot(slot), 8)
            for slot, pair in zip(slots, pairs, strict=True)
        ]

    # -- to global memory --------------------------------------------------------------------------
    @property
    def _column(self) -> str:
        return self.wire.labels[-1]

    def _start(self, first: Index) -> None:
        """By one lane: a group of copies of the warp's rows, from the first on."""
        code, tile, lines = self.code, self.shared, _lines(self.frame.schedule)
        for panel, line in product(range(tile.panels), range(0, _WARP_ROWS, lines)):
            row = code.add(first, line)
            place = code.address(self.frame.smem, code.mul(row, tile.pitch))
            source = code.address(place, tile.offset + panel * tile.panel)
            column = panel * tile.pitch // tile.element_bytes
            labels = reversed(self.wire.labels)
            at = [self._coordinate(label, row, column) for label in labels]
            code.store_box(self.tensor_map, source, at)
        code.commit_stores()

    def _coordinate(self, label: str, row: Index, column: int) -> Index:
        frame = self.frame
        if label == self._column:
            return self.code.add(frame.spans[label].base, column)
        return frame.row_position(label, row) if label in frame.rows else frame.grid[label]
