"""Blocks that stay: which tiles each takes, one after the other, so that all have as much to do.

Tiles of rows that a causal mask leaves much or little differ in length. The order is static: heads
(positions of the grid) in sections of about `SECTION_ROUNDS` tiles for every block, so that what
blocks read at a time is few heads' columns, which stay in the cache; in a section the longest
tiles of all its heads first; every second round goes over the blocks backwards, and so that the
rounds of every second section begin the other way. Emitted code and numbers in Python are the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.emitter import Emitter, Index

__all__ = ["SECTION_ROUNDS", "TileOrder"]

SECTION_ROUNDS = 4
"""With 2 a block has up to 10 % more to do than the average, with 4 up to 4 % (16 k positions of 16
heads in batches of 1 to 16, 132 blocks); 4 rounds read keys and values of 34 MB at d = 128."""

Body = Callable[[Index, Index, list[ir.Value]], Sequence[ir.Value]]


@dataclass
class TileOrder:
    """The tiles of one block.

    Args:
        code: emitter; nothing is emitted for ints.
        tiles: of rows, of a head.
        heads: positions of the grid.
        blocks: how many there are; any number is right.
        block: number of this one.
        grows: whether later rows have more to do, so that the last tile comes first.
    """

    code: Emitter
    tiles: Index
    heads: Index
    blocks: Index
    block: Index
    grows: bool

    def __post_init__(self) -> None:
        """Heads of a section, and sections."""
        code = self.code
        wanted = code.ceil_div(code.mul(self.blocks, SECTION_ROUNDS), self.tiles)
        sections = code.ceil_div(self.heads, code.min(wanted, self.heads))
        self.section_heads = code.ceil_div(self.heads, sections)
        self.sections = code.ceil_div(self.heads, self.section_heads)

    def _heads_of(self, section: Index) -> Index:
        """The last section may have fewer."""
        left = self.code.sub(self.heads, self.code.mul(section, self.section_heads))
        return self.code.min(self.section_heads, left)

    def _place(self, section: Index, turn: Index) -> Index:
        """The block's place in a round: its number, or that from the other end."""
        code = self.code
        odd = code.bit_and(code.add(section, turn), 1)
        mirrored = code.sub(code.sub(self.blocks, 1), code.mul(self.block, 2))
        return code.add(self.block, code.mul(mirrored, odd))

    def rounds(self, section: Index) -> Index:
        """How many tiles of a section the block takes."""
        code = self.code
        count = code.mul(self._heads_of(section), self.tiles)
        full = code.div(count, self.blocks)
        left = code.sub(code.sub(count, code.mul(full, self.blocks)), self._place(section, full))
        return code.add(full, code.max(code.min(left, 1), 0))

    def tile(self, section: Index, turn: Index) -> tuple[Index, Index]:
        """(tile of rows, head) of a round of a section."""
        code, heads = self.code, self._heads_of(section)
        number = code.add(code.mul(turn, self.blocks), self._place(section, turn))
        head = code.add(code.mul(section, self.section_heads), code.rem(number, heads))
        tile = code.div(number, heads)
        return code.sub(code.sub(self.tiles, 1), tile) if self.grows else tile, head

    def loop(self, carried: Sequence[ir.Value], body: Body) -> list[ir.Value]:
        """Emit `body(tile, head, carried)` for every tile; it gives the carried values anew."""
        code = self.code

        def section(number: Index, values: list[ir.Value]) -> Sequence[ir.Value]:
            def take(turn: Index, inner: list[ir.Value]) -> Sequence[ir.Value]:
                return body(*self.tile(number, turn), inner)

            return code.loop(0, self.rounds(number), 1, values, take)

        return code.loop(0, self.sections, 1, carried, section)
