"""Tiles of f8 turned in shared memory: lines are columns, and positions of k go along them.

Products of f8 take both operands along k only, but values stand across it: a line a position.
ldmatrix with `.trans` moves pairs of bytes; pairs are then taken apart (`prmt`) and stored by
stmatrix, 32 positions by 16 columns at a time: as in FlashAttention-3, arXiv 2407.08608, 3.3.

Order along k is free, as long as both operands have it: byte 4 t + i of 16 stands for position
2 t + i, or 8 + 2 t + i - 2 for i > 1. So lane t of a quad stores what it has loaded, and rows that
are accumulators of the product before are an operand as they are.

Each stage of a ring has a turned tile. All consumers turn parts of it, and meet at one barrier a
chunk. What a group turns in chunk j, the other read last in chunk j - stages, and waited for in
front of the barrier of chunk j - stages + 1.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.shared_memory import swizzle
from diagc.targets.nvptx.tiles.shared_tile import CHUNK_BYTES
from diagc.targets.nvptx.warpgroups.instructions import WarpgroupCode

if TYPE_CHECKING:
    from diagc.targets.nvptx.warpgroups.arena import PanelTile

__all__ = ["Turning"]

_POSITIONS = 32
_COLUMNS = 16
_EVEN, _ODD = 0x6420, 0x7531
"""Selectors of bytes: what two pairs begin with, and what they end with."""


@dataclass(frozen=True)
class Turning:
    """Turns a stage of a tile.

    Args:
        frame: of the block.
        source: lines are positions of k.
        target: lines are columns.
    """

    frame: Frame
    source: "PanelTile"
    target: "PanelTile"

    @property
    def _code(self) -> WarpgroupCode:
        assert isinstance(self.frame.code, WarpgroupCode)
        return self.frame.code

    def run(self, stage: Index) -> None:
        """Every warp turns its share."""
        code, warps = self._code, self.frame.schedule.warps
        across = self.source.width // _COLUMNS
        units = self.source.lines // _POSITIONS * across
        for first in range(0, units, warps):
            unit = code.add(self.frame.warp, first)

            def turn(unit: Index = unit) -> None:
                self._unit(stage, code.div(unit, across), code.rem(unit, across))

            if first + warps > units:
                code.when(code.less(unit, units), turn)
            else:
                turn()

    def _unit(self, stage: Index, block: Index, columns: Index) -> None:
        """32 positions, number `block`, of 16 columns, number `columns`."""
        code, lane = self._code, self.frame.lane
        line = code.add(code.mul(block, _POSITIONS), lane)
        words = code.load_matrices(self._at(self.source, stage, line, columns), transposed=True)
        turned = [
            code.permute_bytes(words[first], words[first + 1], selector)
            for first in (0, 2)
            for selector in (_EVEN, _ODD)
        ]
        matrix = code.div(lane, 8)
        column = code.add(code.mul(code.rem(lane, 8), 2), code.rem(matrix, 2))
        column = code.add(column, code.mul(columns, _COLUMNS))
        chunk = code.add(code.mul(block, _POSITIONS // CHUNK_BYTES), code.div(matrix, 2))
        code.store_matrices(self._at(self.target, stage, column, chunk), turned)

    def _at(self, tile: "PanelTile", stage: Index, line: Index, chunk: Index) -> ir.Value:
        """Pointer to 16 bytes of a line."""
        code, each = self._code, tile.mask + 1
        low = code.bit_xor(code.rem(chunk, each), swizzle(code, tile, line))
        place = code.add(code.mul(line, tile.pitch), code.mul(low, CHUNK_BYTES))
        place = code.add(place, code.mul(code.div(chunk, each), tile.panel))
        place = code.add(place, code.mul(stage, tile.stage_bytes))
        return code.address(code.address(self.frame.smem, place), tile.offset)
