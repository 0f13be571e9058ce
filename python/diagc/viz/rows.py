"""A row of columns on the page: heights, distances, wires between them, labels."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from diagc.viz.heights import settle
from diagc.viz.items import Item, array_bar, label_shapes, label_width, wire_style
from diagc.viz.model import Array
from diagc.viz.ordering import Node
from diagc.viz.scene import Box, Rect, Scene, curve, segment
from diagc.viz.style import SEPARATION

__all__ = ["Column", "lay_out_row"]

_LABEL_GAP = 3.0
_CHANNEL = 12.0
_SLOPE = 0.4
_WIDEST_CHANNEL = 90.0
_SWEEPS = 6
_DOT = 2.4


@dataclass
class Column:
    """Nodes with their items; `tops` and `x` are found by `lay_out_row`."""

    nodes: list[Node]
    items: list[Item]
    tops: list[float] = field(default_factory=list)
    x: float = 0.0

    @property
    def width(self) -> float:
        """The widest item with the labels behind it."""
        return max(map(_extent, self.nodes, self.items), default=0.0)

    def outs(self) -> Iterator[tuple[Array, int, list[float]]]:
        """Arrays that leave, with the number of their item and heights relative to its top."""
        for row, (node, item) in enumerate(zip(self.nodes, self.items, strict=True)):
            for array, ys in zip(node.outs, item.outs, strict=True):
                yield array, row, ys

    def ins(self) -> Iterator[tuple[Array, int, list[float]]]:
        """Arrays that arrive, likewise."""
        for row, (node, item) in enumerate(zip(self.nodes, self.items, strict=True)):
            for array, ys in zip(node.ins, item.ins, strict=True):
                yield array, row, ys


def _extent(node: Node, item: Item) -> float:
    if node.operation is None:
        return item.width
    labels = max(map(label_width, node.outs), default=0.0)
    return item.width + (labels + 2 * _LABEL_GAP if labels else 0.0)


def lay_out_row(columns: Sequence[Column]) -> Scene:
    """Place everything; the tops of columns are relative to the row."""
    _find_tops(columns)
    scene = Scene(0.0, 0.0)
    x = 0.0
    after: list[set[Array]] = [{array for array, _, _ in column.ins()} for column in columns[1:]]
    for before, column, read in zip([None, *columns[:-1]], columns, [*after, set()], strict=True):
        if before is not None:
            end = before.x + before.width
            x = end + _channel(before, column)
            _draw_channel(scene, before, column, end, x)
        column.x = x
        _draw_column(scene, column, read)
        x += column.width
    scene.width = x
    scene.height = max(
        (t + i.height for c in columns for t, i in zip(c.tops, c.items, strict=True)), default=0.0
    )
    return scene


# ---- heights -----------------------------------------------------------------------------------


def _find_tops(columns: Sequence[Column]) -> None:
    for column in columns:
        heights = [item.height for item in column.items]
        column.tops = settle([0.0] * len(heights), heights, SEPARATION, [1.0] * len(heights))
    for _ in range(_SWEEPS):
        for column, after in zip(columns[-2::-1], columns[:0:-1], strict=True):
            _pull(column, [(a, r, y) for a, r, y in column.outs()], after, list(after.ins()))
        for before, column in pairwise(columns):
            _pull(column, list(column.ins()), before, list(before.outs()))
    lowest = min((top for column in columns for top in column.tops), default=0.0)
    for column in columns:
        column.tops = [round(top - lowest, 2) for top in column.tops]


Port = tuple[Array, int, list[float]]


def _pull(column: Column, own: Sequence[Port], other: Column, theirs: Sequence[Port]) -> None:
    """Move the things of a column to where their wires to another one are level."""
    wishes: dict[int, list[float]] = {}
    for array, row, ys in own:
        for target, place, levels in theirs:
            if target is array:
                top = other.tops[place]
                pairs = zip(levels, ys, strict=True)
                wishes.setdefault(row, []).extend(top + a - b for a, b in pairs)
    wanted = [median(wishes[r]) if r in wishes else top for r, top in enumerate(column.tops)]
    weights = [float(len(wishes.get(row, ())) or 0.1) for row in range(len(column.tops))]
    column.tops = settle(wanted, [item.height for item in column.items], SEPARATION, weights)


# ---- shapes ------------------------------------------------------------------------------------


def _links(before: Column, column: Column) -> Iterator[tuple[Array, float, float]]:
    """All wires between two columns: array, height there, height here."""
    outs = {array: (before.tops[row], ys) for array, row, ys in before.outs()}
    for array, row, ys in column.ins():
        top, levels = outs[array]
        for level, y in zip(levels, ys, strict=True):
            yield array, round(top + level, 2), round(column.tops[row] + y, 2)


def _channel(before: Column, column: Column) -> float:
    climb = max((abs(a - b) for _, a, b in _links(before, column)), default=0.0)
    return min(_CHANNEL + _SLOPE * climb, _WIDEST_CHANNEL)


def _draw_channel(scene: Scene, before: Column, column: Column, x0: float, x1: float) -> None:
    begun: set[tuple[Array, float]] = set()
    for array, y0, y1 in _links(before, column):
        scene.shapes.append(curve(x0, y0, x1, y1, wire_style(array)))
        if (array, y0) in begun:
            dot = Rect(x0 - _DOT, y0 - _DOT, 2 * _DOT, 2 * _DOT)
            scene.shapes.append(Box(dot, "dot", "joint"))
        begun.add((array, y0))


def _draw_column(scene: Scene, column: Column, read: Container[Array]) -> None:
    """Draw the items of a column, labels, and wires to its end; those nobody reads end there."""
    end = column.x + column.width
    for node, item, top in zip(column.nodes, column.items, column.tops, strict=True):
        scene.place(item.shapes, column.x, top)
        start = column.x + item.width
        for array, ys in zip(node.outs, item.outs, strict=True):
            for y in ys:
                if end - start > 0.05:
                    scene.shapes.append(segment(start, top + y, end, top + y, wire_style(array)))
            if array not in read:
                scene.shapes.append(array_bar([top + y for y in ys], end))
            if node.operation is not None:
                levels = [top + y for y in ys]
                scene.shapes += label_shapes(array, levels, start + _LABEL_GAP)
