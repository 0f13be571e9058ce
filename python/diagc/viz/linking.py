"""Operations that link two arrays: contractions, drawn as cups, and joins.

Wires of the upper array come in the order free, shared, contracted, those of the lower one the
other way round; so cups and merges nest, and none crosses another wire.
"""

from collections.abc import Sequence

from diagc.viz.items import Item, Lanes, centred, straight, wire_style
from diagc.viz.metrics import text_width
from diagc.viz.model import Array, Operation
from diagc.viz.scene import Box, Line, Rect, Shape, segment
from diagc.viz.style import BOTTOM, GAP, PITCH, TOP

__all__ = ["concat_item", "contract_item", "contraction_lanes"]

_LEAD = 6.0  # wires run level so far before they bend
_DEPTH = 0.62  # how far a cup reaches, of the distance of its wires
_DOT = 2.6


def contract_item(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    """Cups for contracted axes; merges, with a dot, for shared ones; free axes go past."""
    first, second = operation.inputs
    ins, shared = _heights(operation, lanes)
    cups = [(a, b) for a, b in operation.pairs if a in operation.acted(0)]
    reach = max((_DEPTH * 0.75 * (ins[1][b] - ins[0][a]) for a, b in cups), default=4.0)
    shapes: list[Shape] = []
    for a, b in cups:
        shapes.append(_cup(ins[0][a], ins[1][b], wire_style(first)))
    x = _LEAD + (reach + 6.0) / 0.8
    shapes += _merges(operation, shared, ins, x)
    width = x + (len(shared) * 5.0 if shared else 4.0)
    joints = {b for _, b in operation.pairs}
    ends = {a for a, _ in cups}
    shapes += [straight(first, y, 0.0, width) for n, y in enumerate(ins[0]) if n not in ends]
    shapes += [straight(second, y, 0.0, width) for n, y in enumerate(ins[1]) if n not in joints]
    if not cups:
        middle = (max(ins[0]) + min(ins[1])) / 2
        shapes.append(centred(_LEAD + 4.0, middle - 3.0, "×", "strong"))
    output = operation.outputs[0]
    upper = {b: a for a, b in operation.pairs}  # shared axes go on where they have merged
    out = [
        ins[0][upper[n]] if side and n in upper else ins[side][n]
        for side, n in (s for s in operation.sources[0] if s is not None)
    ]
    if not output.axes:
        out, tip = _number_out(output, cups, ins, reach, width)
        shapes.append(tip)
    height = max(y for ys in ins for y in ys) + BOTTOM
    return Item(width, height, ins, [out], shapes)


def _heights(
    operation: Operation, lanes: Sequence[Lanes]
) -> tuple[list[list[float]], list[tuple[int, int]]]:
    """Heights of all wires, and the shared pairs from the innermost to the outermost."""
    acted = set(operation.acted(0))
    partner = dict(operation.pairs)
    place = {number: n for n, number in enumerate(lanes[0])}
    linked = sorted((a for a in partner if a not in acted), key=place.__getitem__)
    cups = sorted((a for a in partner if a in acted), key=place.__getitem__)
    first = [n for n in lanes[0] if n not in partner] + linked + cups
    joints = set(partner.values())
    second = [partner[a] for a in (*reversed(cups), *reversed(linked))]
    second += [n for n in lanes[1] if n not in joints]
    upper = _levels(first, TOP)
    lower = _levels(second, max(upper) + PITCH + GAP)
    return [upper, lower], [(a, partner[a]) for a in reversed(linked)]


def contraction_lanes(operation: Operation, number: int) -> list[int]:
    """The order of an input's axes in which none of its wires would cross another one."""
    lanes = [range(len(array.axes)) for array in operation.inputs]
    ys = _heights(operation, lanes)[0][number]
    return sorted(range(operation.inputs[number].lanes), key=ys.__getitem__)


def _levels(order: Sequence[int], top: float) -> list[float]:
    ys = [top] * max(1, len(order))
    for place, number in enumerate(order):
        ys[number] = top + place * PITCH
    return ys


def _cup(y0: float, y1: float, style: str) -> Line:
    far = _LEAD + _DEPTH * (y1 - y0)
    to_cup = ((0.0, y0), (_LEAD, y0), (_LEAD, y0))
    cup = ((far, y0), (far, y1), (_LEAD, y1))
    return Line((0.0, y0), (to_cup, cup, ((_LEAD, y1), (0.0, y1), (0.0, y1))), style)


def _merges(
    operation: Operation,
    shared: Sequence[tuple[int, int]],
    ins: Sequence[Sequence[float]],
    x: float,
) -> list[Shape]:
    """Wires of the lower array that end, with a dot, on the same axis of the upper one."""
    shapes: list[Shape] = []
    for number, (a, b) in enumerate(shared):
        y0, y1, end = ins[0][a], ins[1][b], x + number * 5.0
        start = ((0.0, y1), (_LEAD, y1), (_LEAD, y1))
        rise = ((end, y1), (end, (y0 + y1) / 2), (end, y0))
        shapes.append(Line((0.0, y1), (start, rise), wire_style(operation.inputs[1])))
        dot = Rect(end - _DOT, y0 - _DOT, 2 * _DOT, 2 * _DOT)
        shapes.append(Box(dot, "dot", "joint"))
    return shapes


def _number_out(
    output: Array,
    cups: Sequence[tuple[int, int]],
    ins: Sequence[Sequence[float]],
    reach: float,
    width: float,
) -> tuple[list[float], Line]:
    """The dotted line of a number comes out of the outermost cup."""
    if cups:
        y = sum(ins[0][a] + ins[1][b] for a, b in cups) / (2 * len(cups))
        return [y], segment(_LEAD + reach, y, width, y, wire_style(output))
    y = ins[0][0]
    return [y], segment(0.0, y, width, y, wire_style(output))


def concat_item(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    """A box that joins one axis of each; the others merge behind it."""
    first, second = operation.inputs
    ins, shared = _heights_around_box(operation, lanes)
    upper, lower = ins[0][operation.acted(0)[0]], ins[1][operation.acted(1)[0]]
    width = text_width(operation.text, "text") + 12.0
    box = Rect(4.0, upper - 8.0, width, lower - upper + 16.0)
    shapes: list[Shape] = [Box(box, "view", "box", operation.title)]
    shapes.append(centred(box.x + width / 2, (upper + lower) / 2, operation.text, "text"))
    shapes += [straight(first, upper, 0.0, 4.0), straight(second, lower, 0.0, 4.0)]
    x = box.right + 12.0
    end = x + len(shared) * 5.0
    for number, (a, b) in enumerate(shared):
        shapes += _merge_behind(ins[0][a], ins[1][b], box.right, x + number * 5.0, second)
    shapes += [straight(first, ins[0][a], 0.0, end) for a, _ in shared]
    middle = (upper + lower) / 2
    shapes.append(straight(operation.outputs[0], middle, box.right, end))
    out = [middle if s is None else ins[0][s[1]] for s in operation.sources[0]]
    height = max(y for ys in ins for y in ys) + BOTTOM
    return Item(end, height, ins, [out], shapes)


def _heights_around_box(
    operation: Operation, lanes: Sequence[Lanes]
) -> tuple[list[list[float]], list[tuple[int, int]]]:
    partner = dict(operation.pairs)
    place = {number: n for n, number in enumerate(lanes[0])}
    linked = sorted(partner, key=place.__getitem__)
    upper = _levels([*linked, operation.acted(0)[0]], TOP)
    order = [operation.acted(1)[0], *(partner[a] for a in reversed(linked))]
    lower = _levels(order, max(upper) + PITCH + GAP)
    return [upper, lower], [(a, partner[a]) for a in reversed(linked)]


def _merge_behind(y0: float, y1: float, x0: float, x1: float, array: Array) -> list[Shape]:
    start = ((0.0, y1), (x0, y1), (x0, y1))
    rise = ((x1, y1), (x1, y1), (x1, (y0 + y1) / 2))
    on = ((x1, (y0 + y1) / 2), (x1, y0), (x1, y0))
    line = Line((0.0, y1), (start, rise, on), wire_style(array))
    return [line, Box(Rect(x1 - _DOT, y0 - _DOT, 2 * _DOT, 2 * _DOT), "dot", "joint")]
