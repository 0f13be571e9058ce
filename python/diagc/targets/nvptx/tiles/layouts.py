"""How an array tile lies in the registers of a block: slots of a thread, and lazily made elements.

A block works on a tile of rows, 16 of them per `block` of a warp. An accumulator of mma (m16n8)
puts into lane 4g + t the elements (row g + 8 half, column 8 n + 2 t + pair); this is the one layout
of all values that have rows and columns. A value with rows only is replicated over the four lanes
of a quad, one with columns only over the eight quads, one with neither over the block.

PTX ISA, "Matrix Fragments for mma.m16n8k16": the A operand of a step of 16 in k holds just the
accumulators of two neighbouring n, packed in pairs, so a product is an operand without a shuffle.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.emitter import Scope
from diagc.targets.nvptx.tiles.instructions import Code

__all__ = ["Literal", "Slot", "Tile", "literal_tile", "slots"]


class Slot(NamedTuple):
    """A place of a thread: which 16 rows of its warp, which half of them, which columns.

    `column` counts groups of 8 columns, `pair` is the first or second of two neighbours.
    """

    block: int
    half: int
    column: int
    pair: int

    def projected(self, *, rows: bool, columns: bool) -> "Slot":
        """The slot without the coordinates along which a value is replicated."""
        return Slot(
            self.block if rows else 0,
            self.half if rows else 0,
            self.column if columns else 0,
            self.pair if columns else 0,
        )


Literal = float | bool | int


@dataclass(eq=False)
class Tile:
    """A value of the region, as elements in registers; each is made when it is first asked for.

    Args:
        code: emitter.
        rows: whether it has the row label.
        column: its other label, if any.
        element: type of the elements in registers.
        make: emits the element of a slot.
        literal: the constant that all elements are, where that is known.
        words: emits the pair of 16-bit elements (pair 0 and 1) of a slot packed in an i32, where
            the value has them in this form; with the name of their type.
    """

    code: Code
    rows: bool
    column: str | None
    element: ir.Type
    make: Callable[[Slot], ir.Value]
    literal: Literal | None = None
    words: tuple[str, Callable[[Slot], ir.Value]] | None = None
    _made: dict[Slot, ir.Value] = field(default_factory=dict)
    _packed: dict[tuple[str, Slot], ir.Value] = field(default_factory=dict)
    _scope: Scope = field(init=False)
    _location: ir.Location = field(init=False)

    def __post_init__(self) -> None:
        """Remember scope and location: elements are emitted there, wherever they are wanted."""
        self._scope = self.code.scope
        self._location = ir.Location.current

    def at(self, slot: Slot) -> ir.Value:
        """The element of a slot."""
        slot = slot.projected(rows=self.rows, columns=self.column is not None)
        if slot not in self._made:
            with self.code.within(self._scope), self._location:
                self._made[slot] = self.make(slot)
        return self._made[slot]

    def word(self, kind: str, slot: Slot) -> ir.Value:
        """The elements of pair 0 and 1 as bf16 or f16, packed in an i32."""
        if self.words is not None and self.words[0] == kind:
            return self.words[1](slot)
        slot = slot._replace(pair=0)
        if (kind, slot) not in self._packed:
            with self.code.within(self._scope):
                low, high = (self.at(slot._replace(pair=pair)) for pair in (0, 1))
                self._packed[kind, slot] = self.code.pack(kind, low, high)
        return self._packed[kind, slot]

    def slots(self, blocks: int, columns: int) -> Iterator[Slot]:
        """Every slot, when a warp has `blocks` times 16 rows and the tile 8 `columns` columns."""
        return slots(self.rows, self.column is not None, blocks, columns)


def literal_tile(code: Code, element: ir.Type, value: Literal) -> Tile:
    """A constant everywhere."""
    return Tile(code, False, None, element, lambda _: code.scalar(element, value), value)


def slots(
    rows: bool,
    wide: bool,
    blocks: int,
    columns: int,
) -> Iterator[Slot]:
    """Every slot of a tile with or without rows, with or without columns."""
    for block in range(blocks if rows else 1):
        for column in range(columns if wide else 1):
            for half in range(2 if rows else 1):
                for pair in range(2 if wide else 1):
                    yield Slot(block, half, column, pair)
