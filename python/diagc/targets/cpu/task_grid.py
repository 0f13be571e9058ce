"""From task numbers to positions: grid axes and tiles as the digits of a number, several per task.

A position of a kernel is one position of every grid axis and one tile of each tiled axis. Taking a
task costs about 20 ns, so a task works on `repeat` positions in a row where one is little work, or
on all tiles of a position of the grid where their results are added up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from diagc.mlir import arith, ir
from diagc.targets.cpu.code import Code, Index
from diagc.targets.cpu.frame import Span
from diagc.targets.cpu.schedule import CpuSchedule

__all__ = ["TaskGrid", "even"]


@dataclass(frozen=True)
class TaskGrid:
    """The positions of a kernel.

    Args:
        code: where to emit.
        schedule: grid, tiled axis, positions per task.
        sizes: of every axis, as index values.
    """

    code: Code
    schedule: CpuSchedule
    sizes: Mapping[str, ir.Value]

    def count_tasks(self) -> ir.Value:
        """The number of tasks."""
        if self.schedule.serial:
            return self.code.index(self._product(self._bases()[:-1]))
        return self.code.index(self.code.ceil_div(self._total(), self.schedule.repeat))

    def each_position(self, task: ir.Value, body: Callable[[Sequence[ir.Value]], None]) -> None:
        """Run `body` on the digits of every position of a task: grid axes, then the tile."""
        code, repeat = self.code, self.schedule.repeat
        if self.schedule.serial:
            *_, tiles = self._bases()
            fixed = self.grid_digits(task)

            def tile(number: Index, carried: list[ir.Value]) -> list[ir.Value]:
                body([*fixed, code.index(number)])
                return carried

            code.loop(0, tiles, 1, [], tile)
            return
        first = code.mul(task, repeat)
        digits = self._digits(code.index(first), self._bases())
        if repeat == 1 or not digits:
            body(digits)
            return

        def step(_i: Index, carried: list[ir.Value]) -> list[ir.Value]:
            body(carried)
            return self._next(carried)

        count = code.min(code.sub(self._total(), first), repeat)
        code.loop(0, count, 1, digits, step)

    def grid_digits(self, task: ir.Value) -> list[ir.Value]:
        """The position of every grid axis, where a task has all tiles of one."""
        return self._digits(task, self._bases()[:-1])

    def grid(self, digits: Sequence[ir.Value]) -> dict[str, ir.Value]:
        """The position of every grid axis."""
        return dict(zip(self.schedule.grid, digits, strict=False))

    def spans(self, digits: Sequence[ir.Value]) -> dict[str, Span]:
        """The tiles of the axes that are cut into some."""
        spans, cut = {}, self.schedule.cut
        for (axis, tile), digit in zip(cut.items(), digits[len(self.schedule.grid) :], strict=True):
            rows = self.schedule.tiles and axis == self.schedule.tiled
            step = even(self.code, self.sizes[axis], tile, self.schedule.block) if rows else tile
            base = self.code.mul(digit, step)
            count = self.code.min(self.code.sub(self.sizes[axis], base), step)
            spans[axis] = Span(base, count, tile)
        return spans

    def _bases(self) -> list[ir.Value]:
        """How many values each digit has."""
        bases = [self.sizes[label] for label in self.schedule.grid]
        for axis, tile in self.schedule.cut.items():
            bases.append(self.code.index(self.code.ceil_div(self.sizes[axis], tile)))
        return bases

    def _total(self) -> Index:
        return self._product(self._bases())

    def _product(self, bases: Sequence[ir.Value]) -> Index:
        total: Index = 1
        for base in bases:
            total = self.code.mul(total, base)
        return total

    def _digits(self, number: ir.Value, bases: Sequence[ir.Value]) -> list[ir.Value]:
        digits: list[ir.Value] = []
        for base in reversed(bases):
            digits.insert(0, arith.remui(number, base))
            number = arith.divui(number, base)
        return digits

    def _next(self, digits: Sequence[ir.Value]) -> list[ir.Value]:
        """One more: the last digit first, what it carries over to those before it."""
        code, carry = self.code, self.code.index(1)
        advanced: list[ir.Value] = []
        for digit, base in zip(reversed(digits), reversed(self._bases()), strict=True):
            raised = arith.addi(digit, carry)
            full = arith.cmpi(arith.CmpIPredicate.eq, raised, base)
            advanced.insert(0, arith.select(full, code.index(0), raised))
            carry = arith.select(full, code.index(1), code.index(0))
        return advanced


def even(code: Code, size: Index, most: int, block: int) -> Index:
    """Positions of parts of up to `most` that are as equal as whole blocks allow.

    1024 rows in tiles of 264, the last one of 232, would leave one of two threads waiting for 3 %
    of the time. `most` has to be whole blocks: buffers of so many positions are filled.
    """
    assert most % block == 0, f"parts of {most} are not blocks of {block}"
    parts = code.index(code.ceil_div(size, most))
    equal = arith.ceildivui(code.index(size), parts)
    return code.mul(code.ceil_div(equal, block), block)
