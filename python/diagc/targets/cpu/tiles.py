"""One tile of a product of matrices: blocks of registers, piece by piece of the summed axis.

Sums of a tile grow in the task's memory. After the last piece the maps behind the product are
computed of every block of registers while it is in the first-level cache.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.tiled_products import ProductAxes, product_axes, tiled_op
from diagc.targets.cpu.code import Code, Index
from diagc.targets.cpu.frame import Frame, Span
from diagc.targets.cpu.groups import Group
from diagc.targets.cpu.nests import Nest
from diagc.targets.cpu.nodes import LoopNode, make_node
from diagc.targets.cpu.packing import copy
from diagc.targets.cpu.panels import Clamped, Panels, RunningSum, Window
from diagc.targets.cpu.places import Place, Scratch
from diagc.targets.cpu.tasks import Sinks, Task

__all__ = ["emit_tile"]

PANEL_VECTORS = 2
"""Vectors side by side in a register block of 6 rows, on 16 registers and on 32."""

Spans = dict[str, Span]


def emit_tile(
    code: Code, kernel: ir.Operation, spans: Spans, task: Callable[[Spans], Task]
) -> None:
    """The body of a task whose kernel has a product in tiles, which nothing comes before.

    Tiles with all their columns have code of their own, without masks: masked stores of AVX2 are
    slow on some processors (one in 12 cycles on Zen 2).

    Args:
        code: where to emit.
        kernel: what to compute.
        spans: tiles of rows and columns.
        task: makes the task for such spans.
    """
    product = tiled_op(kernel)
    assert product is not None
    axes = product_axes(product)
    assert axes is not None
    columns = spans[axes.columns]
    full = Span(columns.base, columns.tile, columns.tile)

    def emit(spans: Spans) -> None:
        _Tile(kernel, product, axes, spans, task).emit()

    whole = code.less(columns.tile - 1, columns.count)
    code.when(whole, lambda: emit({**spans, axes.columns: full}))
    part = code.less(columns.count, columns.tile)
    code.when(part, lambda: emit(spans))


@dataclass(frozen=True)
class _Tile:
    """Emits one tile.

    Args:
        kernel: what to compute.
        product: its contraction.
        axes: of the contraction.
        spans: tiles of rows and columns.
        make: makes the task for some spans.
    """

    kernel: ir.Operation
    product: ir.Operation
    axes: ProductAxes
    spans: Spans
    make: Callable[[Spans], Task]

    def emit(self) -> None:
        """Every piece of the summed axis."""
        task, axes = self.make({**self.spans}), self.axes
        frame, code = task.frame, task.frame.code
        piece, size = task.schedule.chunk_of(axes.summed), frame.sizes[axes.summed]
        frame.spans[axes.summed] = Span(0, 0, piece)  # panels need the extent before the loop
        sides = {
            side: task.place(value) for value in self.product.operands for side in self._side(value)
        }
        labels = (axes.summed, axes.columns)
        element = sides[axes.columns].element
        panels = Panels.of(frame, labels, element, PANEL_VECTORS * code.lanes)
        rows = _rows(frame, sides[axes.rows], axes)
        task.units[self.product.results[0]] = axes.columns
        sums = task.allocate(self.product.results[0])

        def step(start: Index, _carried: list[ir.Value]) -> list[ir.Value]:
            frame.spans[axes.summed] = Span(start, code.min(piece, code.sub(size, start)), piece)
            copy(frame, sides[axes.columns], panels)
            if isinstance(rows, Scratch):
                copy(frame, sides[axes.rows], rows)
            first = arith.cmpi(arith.CmpIPredicate.eq, code.index(start), code.index(0))
            last = code.less(code.sub(size, start), piece + 1)
            operands = {axes.rows: rows, axes.columns: panels}
            self._add_piece(task, operands, RunningSum(sums, first), last)
            return []

        code.loop(0, size, piece, [], step)

    def _side(self, operand: ir.Value) -> list[str]:
        """Which of rows and columns an operand has."""
        return [x for x in (self.axes.rows, self.axes.columns) if x in diag.labels(operand)]

    def _add_piece(
        self, task: Task, sides: Mapping[str, Place], total: RunningSum, last: ir.Value
    ) -> None:
        """Register blocks of rows and columns over one piece of the summed axis.

        All blocks have the same number of rows: the last row is read again for those that do not
        exist, and nobody reads their sums.
        """
        node, axes, code = make_node(self.product), self.axes, task.frame.code
        labels = tuple(x for x in node.domain if x != axes.columns and x not in task.frame.grid)
        local = LoopNode(self.product, node.inputs, labels, inner=node.inner)
        group = Group(axes.columns, labels, [local], head=local)
        block = task.schedule.block
        rows = task.frame.spans[axes.rows]
        rounded = code.mul(code.ceil_div(rows.count, block), block)
        spans = {**task.frame.spans, axes.rows: replace(rows, count=rounded, block=block)}
        operands = [sides[side] for value in node.inputs for side in self._side(value)]

        def after(at: Mapping[str, Index], size: Mapping[str, int], offset: Index, n: int) -> None:
            start = {axes.rows: at[axes.rows], axes.columns: offset}
            shape = {axes.rows: size.get(axes.rows, 1), axes.columns: n * code.lanes}
            exists = code.less(offset, self.spans[axes.columns].count)
            code.when(arith.andi(last, exists), lambda: self._finish(code, total.place, start, shape))

        nest = Nest(
            replace(task.frame, spans=spans),
            group,
            task.canonical,
            task.place,
            operands,
            {node.result: [total]},
            task.references,
            after,
        )
        nest.emit()

    def _finish(
        self, code: Code, sums: Place, start: Mapping[str, Index], shape: Mapping[str, int]
    ) -> None:
        """The maps behind the product, of a part of the tile; writes the results."""
        spans = {label: _part(code, self.spans[label], start[label], n) for label, n in shape.items()}
        task = self.make(spans)
        frame = task.frame
        ops = [op.operation for op in diag.function_body(self.kernel).operations]
        wanted: Sinks = {}
        for value, memory in zip(ops[-1].operands, task.results, strict=True):
            wanted.setdefault(task.canonical(value), []).append(memory)
        result = self.product.results[0]
        task.units[result] = self.axes.columns
        task.places[result] = task.allocate(result)
        copy(frame, Window(sums, start), task.places[result])
        task.run([op for op in ops[:-1] if op != self.product], wanted)
        for value, places in wanted.items():
            for place in places:
                copy(frame, task.place(value), place)


def _part(code: Code, span: Span, start: Index, size: int) -> Span:
    """Up to `size` positions of a tile."""
    whole = isinstance(span.count, int) and span.count % size == 0
    count = size if whole else code.min(code.sub(span.count, start), size)
    return Span(code.add(span.base, start), count, size)


def _rows(frame: Frame, place: Place, axes: ProductAxes) -> Place:
    """The operand with the rows, or room for a copy of a piece of it.

    Where rows are next to each other in memory (the transposed factor of a weight's gradient), each
    summed position is in a line of its own, and a stride of a power of two puts them all into a few
    sets of the caches.
    """
    if place.unit != axes.rows:
        return Clamped(place, axes.rows, frame.count(axes.rows))
    return Scratch.allocate(frame, (axes.summed, axes.rows), place.element)
