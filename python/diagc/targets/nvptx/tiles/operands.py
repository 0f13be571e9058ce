"""Operands of a matrix product as words of fragments, from shared memory or from registers.

Operands of 16 bits go in steps of 16 along k, those of f32 in steps of 8, as sums of numbers that
tf32 holds. Sums do not depend on the order of k: the words of an f32 step may stand for k = 2 t and
2 t + 1 instead of t and t + 4 ("paired"), which is how accumulators hold them, and what reads
memory across k without bank conflicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.shared_memory import SharedView

__all__ = [
    "ColumnOperand",
    "RegisterRows",
    "RowOperand",
    "SharedColumns",
    "SharedRows",
    "WidenedColumns",
    "Words",
]

Words: TypeAlias = list[ir.Value]
"""i32 words of one lane."""


class RowOperand(Protocol):
    """The A operand."""

    def words(self, step: int, block: int) -> list[Words]:
        """Four words of a step along k, for each part of the numbers, the largest first."""


class ColumnOperand(Protocol):
    """The B operand."""

    def words(self, step: int, columns: int) -> list[tuple[Words, Words]]:
        """Two words for each of two groups of 8 columns, 2 `columns` and the next, by part."""


@dataclass(frozen=True)
class RegisterRows:
    """Rows held as a tile, `kind` bf16, f16 or tf32.

    One part is the nearest number of tf32, or the number itself where it is known to be `exact`.
    """

    frame: Frame
    tile: Tile
    kind: str
    parts: int = 1
    exact: bool = False

    def words(self, step: int, block: int) -> list[Words]:
        """Pairs of two groups of columns; of f32, both elements of a pair are words."""
        if self.kind != "tf32":
            slots = [Slot(block, half, 2 * step + group, 0) for group in (0, 1) for half in (0, 1)]
            return [[self.tile.word(self.kind, slot) for slot in slots]]
        slots = [Slot(block, half, step, pair) for pair in (0, 1) for half in (0, 1)]
        numbers = [self.tile.at(slot) for slot in slots]
        if self.exact:
            return [[self.frame.code.bitcast(self.frame.code.i32, number) for number in numbers]]
        return split(self.frame, numbers, self.parts)


@dataclass(frozen=True)
class SharedRows:
    """Rows in shared memory: lines are rows (`by_rows`), or rows go along the lines."""

    frame: Frame
    view: SharedView
    by_rows: bool
    parts: int = 1
    paired: bool = False

    def words(self, step: int, block: int) -> list[Words]:
        """By ldmatrix, but for f32 whose k is paired or across the lines."""
        code, view = self.frame.code, self.view
        if view.tile.element_bytes == 2:
            if self.by_rows:
                pointer = view.at("down_rows", 16 * block, 2 * step)
                return [code.load_matrices(pointer, transposed=False)]
            pointer = view.at("along_rows", 16 * step, 2 * block)
            return [code.load_matrices(pointer, transposed=True)]
        if self.by_rows and not self.paired:
            pointer = view.at("down_rows", 16 * block, 2 * step)
            words = code.load_matrices(pointer, transposed=False)
            return split(self.frame, [code.bitcast(code.f32, word) for word in words], self.parts)
        return split(self.frame, self.numbers(step, block), self.parts)

    def numbers(self, step: int, block: int) -> Words:
        """Four f32 of a step whose k is paired: rows g and g + 8 at 2 t, then at 2 t + 1."""
        code, view = self.frame.code, self.view
        if self.by_rows:
            rows = [_load_pair(view, "pairs", 16 * block + 8 * half, 2 * step) for half in (0, 1)]
            return [rows[half][pair] for pair in (0, 1) for half in (0, 1)]
        kinds = ("cross_rows_even", "cross_rows_odd")
        return [
            code.load(code.f32, view.at(kind, 8 * step, 4 * block + 2 * half), 4)
            for kind in kinds
            for half in (0, 1)
        ]


@dataclass(frozen=True)
class SharedColumns:
    """Columns in shared memory: lines are columns (`by_columns`), or columns go along the lines."""

    frame: Frame
    view: SharedView
    by_columns: bool
    parts: int = 1
    paired: bool = False

    def words(self, step: int, columns: int) -> list[tuple[Words, Words]]:
        """By ldmatrix, but for f32 whose k is paired or across the lines."""
        code, view = self.frame.code, self.view
        if view.tile.element_bytes == 2:
            if self.by_columns:
                pointer = view.at("along", 16 * columns, 2 * step)
                words = code.load_matrices(pointer, transposed=False)
            else:
                pointer = view.at("down", 16 * step, 2 * columns)
                words = code.load_matrices(pointer, transposed=True)
            return [(words[:2], words[2:])]
        if self.by_columns and not self.paired:
            words = code.load_matrices(view.at("along", 16 * columns, 2 * step), transposed=False)
            numbers = [code.bitcast(code.f32, word) for word in words]
        else:
            numbers = [x for group in (0, 1) for x in self._paired(step, 2 * columns + group)]
        return [(words[:2], words[2:]) for words in split(self.frame, numbers, self.parts)]

    def _paired(self, step: int, group: int) -> Words:
        code, view = self.frame.code, self.view
        if self.by_columns:
            return list(_load_pair(view, "inner_pairs", 8 * group, 2 * step))
        kinds = ("cross_even", "cross_odd")
        return [code.load(code.f32, view.at(kind, 8 * step, 2 * group), 4) for kind in kinds]


@dataclass(frozen=True)
class WidenedColumns:
    """Columns of bf16 or f16 as tf32, which holds them exactly; k is paired.

    A word of a step of 16 has two neighbours along k: the two words of half a step.
    """

    columns: SharedColumns
    dtype: str

    def words(self, step: int, columns: int) -> list[tuple[Words, Words]]:
        """Half of what a step of 16 loads."""
        ((left, right),) = self.columns.words(step // 2, columns)
        return [(self._wide(left[step % 2]), self._wide(right[step % 2]))]

    def _wide(self, word: ir.Value) -> Words:
        code = self.columns.frame.code
        numbers = [code.unpack(self.dtype, word, position) for position in (0, 1)]
        return [code.bitcast(code.i32, number) for number in numbers]


def _load_pair(view: SharedView, kind: str, line: int, chunk: int) -> tuple[ir.Value, ir.Value]:
    """Two neighbouring f32."""
    return view.frame.code.load_f32_pair(view.at(kind, line, chunk))


def split(frame: Frame, numbers: Sequence[ir.Value], parts: int) -> list[Words]:
    """The words of f32 numbers, by part; one part is the nearest number of tf32."""
    if parts == 1:
        return [[frame.code.tf32_nearest(number) for number in numbers]]
    by_number = [frame.code.tf32_parts(number, parts) for number in numbers]
    return [[words[part] for words in by_number] for part in range(parts)]
