"""One tile of a product of matrices: blocks of registers, piece by piece of the summed axis.

A piece of the operand with the columns is copied into panels once a tile. The tile's rows use it
strip by strip, so that a piece of a strip stays in the second-level cache. Sums grow in the task's
memory; after the last piece the maps behind the product are computed of every block of registers
while it is in the first-level cache.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.kernels.tiled_products import STRIP, ProductAxes, product_axes, tiled_op
from diagc.targets.cpu.code import Code, Index
from diagc.targets.cpu.frame import Span
from diagc.targets.cpu.groups import Group
from diagc.targets.cpu.nests import Nest
from diagc.targets.cpu.nodes import LoopNode, make_node
from diagc.targets.cpu.packing import copy
from diagc.targets.cpu.panels import Clamped, Panels, RunningSum, Window
from diagc.targets.cpu.places import Place, Scratch
from diagc.targets.cpu.task_grid import even
from diagc.targets.cpu.tasks import Sinks, Task

__all__ = ["emit_tile"]

PANEL_VECTORS = 2
"""Vectors side by side in a register block of 6 rows, on 16 registers and on 32."""

Spans = dict[str, Span]
MakeTask = Callable[[Spans], Task]


def emit_tile(code: Code, kernel: ir.Operation, spans: Spans, make: MakeTask) -> None:
    """The body of a task whose kernel has a product in tiles, which nothing comes before.

    Tiles with all their columns have code of their own, without masks: masked stores of AVX2 are
    slow on some processors (one in 12 cycles on Zen 2).

    Args:
        code: where to emit.
        kernel: what to compute.
        spans: tiles of rows and columns.
        make: makes the task for such spans.
    """
    product = tiled_op(kernel)
    assert product is not None
    axes = product_axes(product)
    assert axes is not None
    room = _Room.of(make({**spans}), product, axes)
    columns = spans[axes.columns]
    full = Span(columns.base, columns.tile, columns.tile)

    def emit(spans: Spans) -> None:
        _Tile(kernel, product, axes, spans, make, room).emit()

    whole = code.less(columns.tile - 1, columns.count)
    code.when(whole, lambda: emit({**spans, axes.columns: full}))
    part = code.less(columns.count, columns.tile)
    code.when(part, lambda: emit(spans))


@dataclass(frozen=True)
class _Room:
    """Memory of a task.

    Args:
        columns: panels of a piece of the operand with the columns.
        rows: a piece of a strip of the other one, where that is copied.
        sums: of the tile, in panels too: register blocks below each other are neighbours.
    """

    columns: Panels
    rows: Scratch | None
    sums: Panels

    @classmethod
    def of(cls, task: Task, product: ir.Operation, axes: ProductAxes) -> "_Room":
        """Room for whole tiles."""
        frame, element = task.frame, diag.element_type(product.results[0])
        width = PANEL_VECTORS * frame.code.lanes
        sums = Panels.of(frame, (axes.rows, axes.columns), element, width)
        frame.spans[axes.summed] = Span(0, 0, task.schedule.chunk_of(axes.summed))
        frame.spans[axes.rows] = replace(frame.spans[axes.rows], tile=STRIP)
        panels = Panels.of(frame, (axes.summed, axes.columns), element, width)
        copied = _place(task, product, axes.rows).unit == axes.rows
        rows = Scratch.allocate(frame, (axes.summed, axes.rows), element) if copied else None
        return cls(panels, rows, sums)


@dataclass(frozen=True)
class _Tile:
    """Emits one tile.

    Args:
        kernel: what to compute.
        product: its contraction.
        axes: of the contraction.
        spans: tiles of rows and columns.
        make: makes the task for some spans.
        room: memory that all tiles use.
    """

    kernel: ir.Operation
    product: ir.Operation
    axes: ProductAxes
    spans: Spans
    make: MakeTask
    room: _Room

    def emit(self) -> None:
        """Every piece of the summed axis, every strip of the rows."""
        task, axes = self.make({**self.spans}), self.axes
        frame, code, rows = task.frame, task.frame.code, self.spans[axes.rows]
        piece, size = task.schedule.chunk_of(axes.summed), frame.sizes[axes.summed]
        strip = even(code, rows.count, STRIP, task.schedule.block)

        def add_piece(start: Index, _carried: list[ir.Value]) -> list[ir.Value]:
            rest = code.sub(size, start)
            frame.spans[axes.summed] = Span(start, code.min(piece, rest), piece)
            copy(frame, _place(task, self.product, axes.columns), self.room.columns)
            first = arith.cmpi(arith.CmpIPredicate.eq, code.index(start), code.index(0))
            last = code.less(rest, piece + 1)

            def add_strip(at: Index, _carried: list[ir.Value]) -> list[ir.Value]:
                count = code.min(strip, code.sub(rows.count, at))
                frame.spans[axes.rows] = Span(code.add(rows.base, at), count, STRIP)
                self._add_strip(task, RunningSum(self.room.sums, {axes.rows: at}, first), last)
                return []

            code.loop(0, rows.count, strip, [], add_strip)
            return []

        code.loop(0, size, piece, [], add_piece)

    def _add_strip(self, task: Task, total: RunningSum, last: ir.Value) -> None:
        """Register blocks of a strip of rows and all columns over one piece of the summed axis.

        All blocks have the same number of rows: the last row is read again for those that do not
        exist, and nobody reads their sums.
        """
        node, axes, code = make_node(self.product), self.axes, task.frame.code
        labels = tuple(x for x in node.domain if x != axes.columns and x not in task.frame.grid)
        local = LoopNode(self.product, node.inputs, labels, inner=node.inner)
        group = Group(axes.columns, labels, [local], head=local)
        rows, block = task.frame.spans[axes.rows], task.schedule.block
        sides = {axes.columns: self.room.columns, axes.rows: self._rows(task)}
        operands = [
            next(sides[label] for label in sides if label in diag.labels(value))
            for value in node.inputs
        ]

        def after(at: Mapping[str, Index], size: Mapping[str, int], offset: Index, n: int) -> None:
            start = {axes.rows: at[axes.rows], axes.columns: offset}
            shape = {axes.rows: size.get(axes.rows, 1), axes.columns: n * code.lanes}
            exists = code.less(offset, self.spans[axes.columns].count)
            spans = {x: _part(code, task.frame.spans[x], start[x], n) for x, n in shape.items()}
            start[axes.rows] = code.add(start[axes.rows], total.start[axes.rows])
            window = Window(self.room.sums, start)
            code.when(arith.andi(last, exists), lambda: self._finish(spans, window))

        rounded = code.mul(code.ceil_div(rows.count, block), block)
        spans = {**task.frame.spans, axes.rows: replace(rows, count=rounded, block=block)}
        frame, sinks = replace(task.frame, spans=spans), {node.result: [total]}
        nest = Nest(
            frame, group, task.canonical, task.place, operands, sinks, task.references, after
        )
        nest.emit()

    def _rows(self, task: Task) -> Place:
        """The operand with the rows, or a copy of a piece of it.

        Where rows are next to each other in memory (the transposed factor of a weight's gradient),
        each summed position is in a line of its own, and a stride of a power of two puts them all
        into a few sets of the caches.
        """
        place, rows = _place(task, self.product, self.axes.rows), self.axes.rows
        if self.room.rows is None:
            return Clamped(place, rows, task.frame.count(rows))
        copy(task.frame, place, self.room.rows)
        return self.room.rows

    def _finish(self, spans: Spans, sums: Place) -> None:
        """The maps behind the product, of a block of the tile; writes the results."""
        task, result = self.make(spans), self.product.results[0]
        ops = [op.operation for op in diag.function_body(self.kernel).operations]
        wanted: Sinks = {}
        for value, memory in zip(ops[-1].operands, task.results, strict=True):
            wanted.setdefault(task.canonical(value), []).append(memory)
        task.units[result] = self.axes.columns
        task.places[result] = block = task.allocate(result)
        copy(task.frame, sums, block)
        task.run([op for op in ops[:-1] if op != self.product], wanted)
        for value, places in wanted.items():
            for place in places:
                copy(task.frame, task.place(value), place)


def _place(task: Task, product: ir.Operation, label: str) -> Place:
    """Where the operand with an axis lives."""
    return task.place(next(value for value in product.operands if label in diag.labels(value)))


def _part(code: Code, span: Span, start: Index, size: int) -> Span:
    """Up to `size` positions of a tile."""
    whole = isinstance(span.count, int) and span.count % size == 0
    count = size if whole else code.min(code.sub(span.count, start), size)
    return Span(code.add(span.base, start), count, size)
