"""Places a picture on the page: columns into rows of limited width, frames inside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

from diagc.viz.glyphs import make_item
from diagc.viz.items import Item, Lanes, pass_item, text_at, wire_style
from diagc.viz.lanes import wanted_lanes
from diagc.viz.metrics import text_width
from diagc.viz.model import Array, Kind, Operation, Picture
from diagc.viz.ordering import Node, columns_of
from diagc.viz.rows import Column, lay_out_row
from diagc.viz.scene import Box, Rect, Scene, segment

__all__ = ["lay_out"]

WIDTH = 1100.0
"""Default width in px at which a diagram wraps."""

_ROW_GAP = 24.0
_FRAME_PAD = 14.0
_FRAME_HEAD = 24.0
_BESIDE_FRAME = 120.0  # for names and tags at its sides
_NARROWEST = 400.0
_TYPICAL_CHANNEL = 24.0


def lay_out(picture: Picture, width: float = WIDTH) -> Scene:
    """Place a picture; it wraps at `width` px, if no single thing is wider."""
    return _Layout().page(picture, width)[0]


class _Layout:
    """One run; frames are numbered, so that shapes can say in which they stand."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def page(self, picture: Picture, width: float) -> tuple[Scene, list[Column], list[Column]]:
        """The scene of a picture, its first column and its last one."""
        columns = self._columns(picture, width)
        rows = _rows(columns, width)
        page = Scene(0.0, 0.0)
        for number, row in enumerate(rows):
            scene = lay_out_row(row)
            top = page.height + (_ROW_GAP if number else 0.0)
            page.place(scene.shapes, 0.0, top)
            page.width = max(page.width, scene.width)
            page.height = top + scene.height
            for column in row:
                column.tops = [y + top for y in column.tops]
        return page, rows[0] if rows else [], rows[-1] if rows else []

    def _columns(self, picture: Picture, width: float) -> list[Column]:
        lanes: dict[Array, Lanes] = {}
        columns: list[Column] = []
        frames = {op: self._frame(op, width) for op in picture.operations if op.inner}
        arranged = columns_of(picture)
        wanted = wanted_lanes(arranged, frames)
        for nodes in arranged:
            items = [_item(node, {**wanted, **lanes}, frames) for node in nodes]
            for node, item in zip(nodes, items, strict=True):
                for array, ys in zip(node.outs, item.outs, strict=True):
                    lanes[array] = sorted(range(len(ys)), key=ys.__getitem__)
            columns.append(Column(nodes, items))
        return columns

    def _frame(self, operation: Operation, width: float) -> Item:
        """A shaded frame with a picture in it; wires come in and go out at its edges."""
        assert operation.inner is not None
        room = max(_NARROWEST, width - 2 * _FRAME_PAD - _BESIDE_FRAME)
        scene, first, last = self.page(operation.inner, room)
        head = [(operation.text, "strong"), (operation.title.split("\n")[0], "note")]
        style = "kernel" if operation.text.startswith("kernel") else "loop"
        if style == "loop":
            head = head[:1]
        heading = sum(text_width(text, look) + 10.0 for text, look in head)
        inside = max(scene.width, heading)
        item = Item(inside + 2 * _FRAME_PAD, scene.height + _FRAME_HEAD + 8.0)
        number = next(self._numbers)
        edge = Rect(0.0, 0.0, item.width, item.height)
        title = f"{operation.text}\n{operation.title}"
        item.shapes.append(Box(edge, style, "frame", title, number=number))
        inner = Scene(0.0, 0.0)
        x = _FRAME_PAD
        for text, look in head:
            inner.shapes.append(text_at(x, _FRAME_HEAD / 2 + 1.0, text, look))
            x += text_width(text, look) + 10.0
        inner.place(scene.shapes, _FRAME_PAD, _FRAME_HEAD)
        item.ins = self._edge(inner, operation.inner.inputs, first, 0.0, item.width)
        item.outs = self._edge(inner, operation.inner.outputs, last, item.width, item.width)
        _sort_ports(operation, item)
        item.shapes += [replace(s, scope=(number, *s.scope)) for s in inner.shapes]
        return item

    def _edge(
        self,
        scene: Scene,
        arrays: Sequence[Array],
        columns: Sequence[Column],
        x: float,
        width: float,
    ) -> list[list[float]]:
        """Heights of arrays at an edge of a frame; draws the wires that lead there."""
        found: list[list[float]] = []
        column = (columns[0] if x == 0.0 else columns[-1]) if columns else None
        used: set[int] = set()
        for array in arrays:
            assert column is not None
            row = _edge_row(column, array, used, leaving=x != 0.0)
            used.add(row)
            item, top = column.items[row], column.tops[row] + _FRAME_HEAD
            ys = item.ins[0] if x != 0.0 else item.outs[0]
            levels = [round(top + y, 2) for y in ys]
            inside = column.x + _FRAME_PAD
            ends = (0.0, inside) if x == 0.0 else (inside, width)
            style = wire_style(array)
            scene.shapes += [segment(ends[0], y, ends[1], y, style) for y in levels]
            found.append(levels)
        return found


def _sort_ports(operation: Operation, item: Item) -> None:
    """Put inputs and outputs into the order in which they stand at the edges of their frame."""
    assert operation.inner is not None
    inner = operation.inner
    _sort_edge(item.ins, operation.inputs, inner.inputs)
    _sort_edge(item.outs, operation.outputs, inner.outputs)


def _sort_edge(heights: list[list[float]], outer: list[Array], inner: list[Array]) -> None:
    order = sorted(range(len(heights)), key=lambda n: min(heights[n]))
    heights[:] = [heights[n] for n in order]
    outer[:] = [outer[n] for n in order]
    inner[:] = [inner[n] for n in order]


def _edge_row(column: Column, array: Array, used: set[int], leaving: bool) -> int:
    for row, node in enumerate(column.nodes):
        ends = node.operation is not None and node.operation.kind is Kind.PORT
        arrays = node.ins if leaving else node.outs
        if ends and row not in used and arrays == [array]:
            return row
    raise AssertionError(f"no port for {array.name}")


def _item(node: Node, lanes: Mapping[Array, Lanes], frames: Mapping[Operation, Item]) -> Item:
    if node.operation is None:
        return pass_item(lanes[node.ins[0]])
    if node.operation in frames:
        return frames[node.operation]
    if node.operation.kind is Kind.PORT and not node.outs:
        return replace(pass_item(lanes[node.ins[0]]), outs=[])
    arrays = node.outs if node.is_source else node.ins
    return make_item(node.operation, [lanes[array] for array in arrays if array in lanes])


# ---- rows --------------------------------------------------------------------------------------


def _rows(columns: Sequence[Column], width: float) -> list[list[Column]]:
    """Cut columns into rows; what is alive at a cut breaks off in tags and begins again."""
    rows: list[list[Column]] = []
    row: list[Column] = []
    x = 0.0
    for column in columns:
        more = column.width + _TYPICAL_CHANNEL
        if row and x + more > width and _can_break(row, column):
            begin = _break(row, column)
            rows.append(row)
            row, x = [begin], begin.width + _TYPICAL_CHANNEL
        row.append(column)
        x += more
    return [*rows, row] if row else rows


def _can_break(row: Sequence[Column], column: Column) -> bool:
    """Not before the edge of a frame, and only if the row holds more than beginnings."""
    only_ends = all(n.operation is None or not n.outs for n in column.nodes)
    return not only_ends and any(n.ins and n.operation for c in row for n in c.nodes)


def _break(row: list[Column], column: Column) -> Column:
    """End a row in tags; the result is the column with which the next row begins."""
    last = row[-1]
    moved = [n for n in range(len(last.nodes)) if last.nodes[n].is_source]
    moved = [n for n in moved if not _stands_at_edge(last.nodes[n])]
    begin = Column([], [])
    end = Column([], [])
    needed = {array for array, _, _ in column.ins()}
    for number, node in enumerate(last.nodes):
        if number in moved:
            begin.nodes.append(node)
            begin.items.append(last.items[number])
            continue
        for array, ys in zip(node.outs, last.items[number].outs, strict=True):
            if array in needed:
                _tag(array, ys, end, begin)
    last.nodes = [node for number, node in enumerate(last.nodes) if number not in moved]
    last.items = [item for number, item in enumerate(last.items) if number not in moved]
    row.append(end)
    return begin


def _stands_at_edge(node: Node) -> bool:
    return (
        node.operation is not None and node.operation.kind is Kind.PORT and not node.operation.text
    )


def _tag(array: Array, ys: Sequence[float], end: Column, begin: Column) -> None:
    lanes = sorted(range(len(ys)), key=ys.__getitem__)
    stop = Operation(Kind.TAG, [array], text=array.name)
    go_on = Operation(Kind.PORT, outputs=[array], text=array.name)
    end.nodes.append(Node(stop, [array], []))
    end.items.append(make_item(stop, [lanes]))
    begin.nodes.append(Node(go_on, [], [array]))
    begin.items.append(make_item(go_on, [lanes]))
