"""A contraction of a row operand with a column operand as mma on fragments."""

from collections.abc import Callable
from dataclasses import dataclass, field

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.operands import ColumnOperand, RowOperand, Words

__all__ = ["Contraction"]


@dataclass(eq=False)
class Contraction:
    """The product of rows and columns, summed over `steps` steps; emitted once, when asked for.

    Args:
        frame: of the block.
        rows: the operand with the row label.
        columns: the other one.
        column: its free label.
        steps: of k.
        kind: of mma: bf16, f16 or tf32.
        beside: columns of further products of the same rows, which are added: rows are read once.
    """

    frame: Frame
    rows: RowOperand
    columns: ColumnOperand
    column: str
    steps: int
    kind: str
    beside: list[ColumnOperand] = field(default_factory=list)
    _sums: dict[tuple[int, int], Words] = field(default_factory=dict)

    def tile(self) -> Tile:
        """The result in f32."""
        return Tile(self.frame.code, True, self.column, self.frame.code.f32, self.element)

    def element(self, slot: Slot) -> ir.Value:
        """The sum of a slot."""
        if not self._sums:
            zero = self.frame.code.scalar(self.frame.code.f32, 0.0)
            self.run(lambda _slot: zero)
        return self._sums[slot.block, slot.column][2 * slot.half + slot.pair]

    @property
    def is_emitted(self) -> bool:
        """Whether the sums were computed, so that nothing can be added to them for free."""
        return bool(self._sums)

    def run(self, start: Callable[[Slot], ir.Value]) -> None:
        """Emit all products, added to `start`."""
        blocks, groups = self.frame.blocks, self.frame.columns(self.column)
        for block in range(blocks):
            for group in range(groups):
                self._sums[block, group] = [
                    start(Slot(block, half, group, pair)) for half in (0, 1) for pair in (0, 1)
                ]
        for step in range(self.steps):
            rows = [self.rows.words(step, block) for block in range(blocks)]
            for columns in range(groups // 2):
                for operand in (self.columns, *self.beside):
                    found = operand.words(step, columns)
                    for block in range(blocks):
                        self._add(block, columns, rows[block], found)

    def _add(
        self, block: int, columns: int, rows: list[Words], found: list[tuple[Words, Words]]
    ) -> None:
        """The products of all parts but those that are too small to count, smallest first."""
        pairs = [(a, b) for a in range(len(rows)) for b in range(len(found))]
        kept = [(a, b) for a, b in pairs if a + b < max(len(rows), len(found))]
        for a, b in sorted(kept, key=sum, reverse=True):
            for group in (0, 1):
                key = (block, 2 * columns + group)
                sums = self._sums[key]
                self._sums[key] = self.frame.code.multiply(
                    self.kind, rows[a], found[b][group], sums
                )
