"""One tile of a product of matrices, piece by piece of the summed axis, then the maps behind it."""

from collections.abc import Callable, Mapping

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.tiled_products import ProductAxes, product_axes, tiled_op
from diagc.targets.cpu.code import Code, Index
from diagc.targets.cpu.frame import Frame, Span
from diagc.targets.cpu.groups import Group
from diagc.targets.cpu.nests import Nest
from diagc.targets.cpu.nodes import LoopNode, make_node
from diagc.targets.cpu.packing import copy
from diagc.targets.cpu.panels import Panels, RunningSum
from diagc.targets.cpu.places import Memory, Place, Scratch
from diagc.targets.cpu.tasks import Sinks, Task

__all__ = ["emit_tile"]

PANEL_VECTORS = 2
"""Vectors side by side in a register block of 6 rows, on 16 registers and on 32."""


def emit_tile(
    code: Code,
    kernel: ir.Operation,
    spans: dict[str, Span],
    task: Callable[[dict[str, Span]], Task],
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
    whole = code.less(columns.tile - 1, columns.count)
    full = Span(columns.base, columns.tile, columns.tile)
    code.when(whole, lambda: _emit(task({**spans, axes.columns: full}), kernel, product))
    part = code.less(columns.count, columns.tile)
    code.when(part, lambda: _emit(task(spans), kernel, product))


def _emit(task: Task, kernel: ir.Operation, product: ir.Operation) -> None:
    ops = [op.operation for op in diag.function_body(kernel).operations]
    wanted: Sinks = {}
    for value, memory in zip(ops[-1].operands, task.results, strict=True):
        wanted.setdefault(task.canonical(value), []).append(memory)
    result = product.results[0]
    task.units[result] = diag.labels(result)[-1]
    direct = wanted.get(result, [])
    target = direct.pop() if direct else task.allocate(result)
    _multiply(task, product, target)
    task.places[result] = target
    task.run([op for op in ops[:-1] if op != product], wanted)
    for value, places in wanted.items():
        for place in places:
            copy(task.frame, task.place(value), place)


def _multiply(task: Task, product: ir.Operation, target: Memory | Scratch) -> None:
    axes = product_axes(product)
    assert axes is not None
    frame, code = task.frame, task.frame.code
    piece = task.schedule.chunk_of(axes.summed)
    frame.spans[axes.summed] = Span(0, 0, piece)  # panels need the extent before the loop
    sides = {side: task.place(v) for v in product.operands for side in _side(axes, v)}
    labels = (axes.summed, axes.columns)
    element = sides[axes.columns].element
    panels = Panels.of(frame, labels, element, PANEL_VECTORS * code.lanes)
    rows = _rows(frame, sides[axes.rows], axes)
    size = frame.sizes[axes.summed]

    def step(start: Index, _carried: list[ir.Value]) -> list[ir.Value]:
        frame.spans[axes.summed] = Span(start, code.min(piece, code.sub(size, start)), piece)
        copy(frame, sides[axes.columns], panels)
        if isinstance(rows, Scratch):
            copy(frame, sides[axes.rows], rows)
        first = arith.cmpi(arith.CmpIPredicate.eq, code.index(start), code.index(0))
        _add_piece(
            task, product, {axes.rows: rows, axes.columns: panels}, RunningSum(target, first)
        )
        return []

    code.loop(0, size, piece, [], step)
    del frame.spans[axes.summed]


def _side(axes: ProductAxes, operand: ir.Value) -> list[str]:
    """Which of rows and columns an operand has."""
    return [x for x in (axes.rows, axes.columns) if x in diag.labels(operand)]


def _rows(frame: Frame, place: Place, axes: ProductAxes) -> Place:
    """The operand with the rows, or room for a copy of a piece of it.

    Where rows are next to each other in memory (the transposed factor of a weight's gradient), each
    summed position is in a line of its own, and a stride of a power of two puts them all into a few
    sets of the caches.
    """
    if place.unit != axes.rows:
        return place
    return Scratch.allocate(frame, (axes.summed, axes.rows), place.element)


def _add_piece(
    task: Task, product: ir.Operation, sides: Mapping[str, Place], total: RunningSum
) -> None:
    """Register blocks of rows and columns over one piece of the summed axis."""
    node, columns = make_node(product), list(sides)[1]
    rows = tuple(x for x in node.domain if x != columns and x not in task.frame.grid)
    local = LoopNode(product, node.inputs, rows, inner=node.inner)
    group = Group(columns, rows, [local], head=local)
    operands = [
        next(place for side, place in sides.items() if side in diag.labels(v)) for v in node.inputs
    ]
    sinks = {node.result: [total]}
    nest = Nest(task.frame, group, task.canonical, task.place, operands, sinks, task.references)
    nest.emit()
