"""Tiles with rows from shared memory, as accumulators hold them; each word is read once."""

from dataclasses import dataclass, field

from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.emitter import Scope
from diagc.targets.nvptx.tiles.layouts import Slot
from diagc.targets.nvptx.tiles.operands import SharedRows
from diagc.targets.nvptx.tiles.shared_memory import SharedView

__all__ = ["RowConditions", "RowNumbers", "RowWords"]


@dataclass(eq=False)
class RowWords:
    """Pairs of 16-bit elements, by ldmatrix."""

    rows: SharedRows
    scope: Scope
    _found: dict[tuple[int, int], list[ir.Value]] = field(default_factory=dict)

    def word(self, slot: Slot) -> ir.Value:
        """The word of a slot."""
        key = (slot.column // 2, slot.block)
        if key not in self._found:
            with self.rows.frame.code.within(self.scope):
                self._found[key] = self.rows.words(*key)[0]
        return self._found[key][slot.half + 2 * (slot.column % 2)]


@dataclass(eq=False)
class RowNumbers:
    """f32 elements, in pairs."""

    rows: SharedRows
    scope: Scope
    _found: dict[tuple[int, int], list[ir.Value]] = field(default_factory=dict)

    def element(self, slot: Slot) -> ir.Value:
        """The element of a slot."""
        key = (slot.column, slot.block)
        if key not in self._found:
            with self.rows.frame.code.within(self.scope):
                self._found[key] = self.rows.numbers(*key)
        return self._found[key][slot.half + 2 * slot.pair]


@dataclass(eq=False)
class RowConditions:
    """Bytes that hold 0 or 1, in pairs; lines are rows."""

    view: SharedView
    scope: Scope
    _found: dict[Slot, ir.Value] = field(default_factory=dict)

    def element(self, slot: Slot) -> ir.Value:
        """Whether the byte of a slot is not 0."""
        code, first = self.view.frame.code, slot._replace(pair=0)
        if first not in self._found:
            line, byte = 16 * slot.block + 8 * slot.half, 8 * (slot.column % 2)
            with code.within(self.scope):
                pointer = self.view.at("pairs", line, slot.column // 2, byte)
                type_ = ir.IntegerType.get_signless(16)
                pair = code.load(type_, pointer, 2)
                self._found[first] = arith.extui(code.i32, pair)
        bits = arith.andi(self._found[first], code.index(0xFF << 8 * slot.pair))
        return arith.cmpi(arith.CmpIPredicate.ne, bits, code.index(0))
