"""What each operation looks like: its item, for wires that come in a given order."""

from collections.abc import Callable, Sequence

from diagc.viz.formulas import LETTERS, with_letters
from diagc.viz.items import (
    Item,
    Lanes,
    array_bar,
    centred,
    lane_ys,
    straight,
    text_at,
)
from diagc.viz.linking import concat_item, contract_item
from diagc.viz.metrics import text_width
from diagc.viz.model import Kind, Operation
from diagc.viz.scene import Box, Rect, Shape, segment
from diagc.viz.style import BOTTOM, GAP, PITCH, TOP
from diagc.viz.wrapping import wrap_formula

__all__ = ["make_item"]

_MARGIN = 8.0  # a box reaches so far beyond its first and last wire
_PADDING = 7.0
_LINE = 12.5


def make_item(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    """The item of an operation (not of a frame); `lanes` are those of its inputs as they come."""
    return _MAKERS[operation.kind](operation, lanes)


# ---- ends of wires -----------------------------------------------------------------------------


def _input(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    (array,) = operation.outputs
    ys = lane_ys(lanes[0] if lanes else range(array.lanes), TOP)
    middle = (min(ys) + max(ys)) / 2
    width = text_width(operation.text, "strong") + 5.0
    item = Item(width, max(ys) + BOTTOM, [], [ys])
    item.shapes.append(text_at(0.0, middle, operation.text, "strong"))
    item.shapes.append(array_bar(ys, width))
    return item


def _output(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    ys = lane_ys(lanes[0], TOP)
    item = Item(text_width(operation.text, "strong") + 11.0, max(ys) + BOTTOM, [ys])
    item.shapes += [straight(operation.inputs[0], y, 0.0, 6.0) for y in ys]
    item.shapes.append(array_bar(ys, 6.0))
    item.shapes.append(text_at(11.0, (min(ys) + max(ys)) / 2, operation.text, "strong"))
    return item


def _port(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    """Where wires come in: at the edge of a frame, or, with a text, out of a tag."""
    (array,) = operation.outputs
    ys = lane_ys(lanes[0] if lanes else range(array.lanes), TOP)
    if not operation.text:
        return Item(0.0, max(ys) + BOTTOM, [], [ys])
    item, width = _tag_box(ys, operation.text)
    item.outs = [ys]
    item.shapes.append(array_bar(ys, width))
    return item


def _tag(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    ys = lane_ys(lanes[0], TOP)
    item, width = _tag_box(ys, operation.text, 6.0)
    item.ins = [ys]
    item.width = width
    item.shapes += [straight(operation.inputs[0], y, 0.0, 6.0) for y in ys]
    item.shapes.append(array_bar(ys, 6.0))
    return item


def _tag_box(ys: Sequence[float], text: str, x: float = 0.0) -> tuple[Item, float]:
    width = text_width(text, "note") + 8.0
    middle = (min(ys) + max(ys)) / 2
    box = Box(Rect(x, middle - 8.0, width, 16.0), "tag", "pill")
    shapes: list[Shape] = [box, centred(x + width / 2, middle, text, "note")]
    return Item(x + width, max(ys) + BOTTOM, [], [], shapes), x + width


def _pill(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    """Where wires begin, or go round, with a text in a pill as high as they are."""
    style = "constant" if operation.kind is Kind.CONSTANT else "state box"
    outputs, inputs = operation.outputs, operation.inputs
    order = lanes[0] if lanes else range(outputs[0].lanes)
    ys = lane_ys(order, TOP)
    stub = 6.0 if inputs else 0.0
    lines = wrap_formula(operation.text)
    width = max(text_width(line, "text") for line in lines) + 2 * _PADDING
    rect, bottom = _box_rect(ys, stub, width, len(lines))
    shift = max(0.0, 3.0 - rect.y)
    ys = [y + shift for y in ys]
    rect = rect.moved(0.0, shift)
    item = Item(rect.right, max(bottom + shift, max(ys) + BOTTOM), [ys] if inputs else [])
    item.outs = [ys] if outputs else []
    item.shapes += [straight(array, y, 0.0, stub) for array in inputs for y in ys]
    item.shapes.append(Box(rect, style, "pill", operation.title))
    item.shapes += _lines(lines, rect)
    return item


# ---- boxes -------------------------------------------------------------------------------------


def _box_rect(ys: Sequence[float], x: float, width: float, lines: int = 1) -> tuple[Rect, float]:
    """A box over wires, high enough for its lines; and where the item below it ends."""
    top, bottom = min(ys) - _MARGIN, max(ys) + _MARGIN
    more = lines * _LINE + 6.0 - (bottom - top)
    if more > 0:
        top, bottom = top - more / 2, bottom + more / 2
    return Rect(x, top, width, bottom - top), bottom + 3.0


def _lines(lines: Sequence[str], rect: Rect, left: float = 0.0) -> list[Shape]:
    middle = rect.y + rect.height / 2
    first = middle - (len(lines) - 1) * _LINE / 2
    x = (rect.x + left + rect.right) / 2
    return [centred(x, first + n * _LINE, line, "text") for n, line in enumerate(lines)]


def _stack(operation: Operation, lanes: Sequence[Lanes]) -> tuple[list[list[float]], list[float]]:
    """Heights of all inputs under each other, and of their broadcast lines, if they have any."""
    ins, ghosts, top = [], [], TOP
    for number, order in enumerate(lanes):
        ys = lane_ys(order, top)
        ins.append(ys)
        top = max(ys)
        missing = number < len(operation.missing) and operation.missing[number]
        ghosts.append(top + PITCH if missing else 0.0)
        top = (ghosts[-1] if missing else top) + PITCH + GAP
    return ins, ghosts


def _map(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    ins, ghosts = _stack(operation, lanes)
    letters = list(LETTERS[: len(ins)])
    lines = wrap_formula(with_letters(operation.text, letters))
    named = len(ins) > 1 or letters[0] in lines[0].split("(")[-1]
    names = [" ".join(labels) for labels in operation.missing]
    stub = max((text_width(n, "faint") + 12.0 for n in names if n), default=4.0)
    margin = 12.0 if named else 0.0
    width = max(text_width(line, "text") for line in lines) + 2 * _PADDING + margin
    levels = [*(y for ys in ins for y in ys), *(y for y in ghosts if y)]
    rect, bottom = _box_rect(levels, stub, width, len(lines))
    item = Item(rect.right, bottom, ins)
    item.shapes.append(Box(rect, "map", "box", operation.title))
    item.shapes += _lines(lines, rect, margin)
    for array, ys, ghost, name, letter in zip(
        operation.inputs, ins, ghosts, names, letters, strict=True
    ):
        item.shapes += [straight(array, y, 0.0, stub) for y in ys]
        if named:
            middle = (min(ys) + max(*ys, ghost)) / 2
            item.shapes.append(text_at(stub + 4.0, middle, letter, "letter"))
        if name:
            item.shapes += _broadcast(name, ghost, stub)
    _continue(item, operation)
    return _lowered(item)


def _broadcast(name: str, y: float, x: float) -> list[Shape]:
    """A line that begins out of nothing: the same for every position along these axes."""
    hole = Box(Rect(0.0, y - 2.5, 5.0, 5.0), "hole", "dot")
    label = text_at(6.0, y - 6.5, name, "faint")
    return [segment(5.0, y, x, y, "broadcast"), hole, label]


def _call(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    ins, _ = _stack(operation, lanes)
    lines = wrap_formula(operation.text)
    width = max(text_width(line, "text") for line in lines) + 2 * _PADDING
    outs, top = [], TOP
    for array in operation.outputs:
        outs.append(lane_ys(range(array.lanes), top))
        top = outs[-1][-1] + PITCH + GAP
    levels = [y for ys in (*ins, *outs) for y in ys] or [TOP]
    rect, bottom = _box_rect(levels, 4.0, width, len(lines))
    item = Item(rect.right, bottom, ins, outs, [Box(rect, "call", "box", operation.title)])
    item.shapes += _lines(lines, rect)
    for array, ys in zip(operation.inputs, ins, strict=True):
        item.shapes += [straight(array, y, 0.0, 4.0) for y in ys]
    return _lowered(item)


def _continue(item: Item, operation: Operation) -> None:
    """Let outputs leave at the height of the wire that they continue, new ones in the gaps."""
    for array, sources in zip(operation.outputs, operation.sources, strict=True):
        if not array.axes:
            item.outs.append([sum(item.ins[0]) / len(item.ins[0])])
            continue
        ys = [None if s is None else item.ins[s[0]][s[1]] for s in sources]
        item.outs.append(_fill(ys))


def _fill(ys: Sequence[float | None]) -> list[float]:
    """Heights for new wires: below all others."""
    free = max((y for y in ys if y is not None), default=TOP - PITCH) + PITCH
    found = []
    for y in ys:
        found.append(free if y is None else y)
        free += PITCH if y is None else 0.0
    return found


def _lowered(item: Item) -> Item:
    """The item moved down so far that its box stays inside."""
    tops = [s.rect.y for s in item.shapes if isinstance(s, Box)]
    shift = max(0.0, 3.0 - min(tops, default=3.0))
    if not shift:
        return item
    item.height += shift
    item.ins = [[y + shift for y in ys] for ys in item.ins]
    item.outs = [[y + shift for y in ys] for ys in item.outs]
    item.shapes = [shape.moved(0.0, shift) for shape in item.shapes]
    return item


# ---- boxes on some of the wires ----------------------------------------------------------------

_ALONG = {
    Kind.NORMALIZE: ("box", "normalize"),
    Kind.REDUCE: ("cap", "reduce"),
    Kind.RELABEL: ("pill", "view"),
    Kind.REINDEX: ("box", "view"),
}
"""Form and style of boxes that act on some axes of an array."""


def _along(operation: Operation, lanes: Sequence[Lanes]) -> Item:
    """A box on the axes it acts along; the others go past above it."""
    form, style = _ALONG[operation.kind]
    lines = operation.text.split("\n")
    outside, ins, fresh = _along_lanes(operation, lanes, len(lines))
    covered = [y for ys in ins for y in ys if y not in outside]
    width = max(text_width(line, "text") for line in lines) + 2 * _PADDING
    width += 8.0 if form == "cap" else 0.0
    rect, bottom = _box_rect([*covered, *fresh], 4.0, width, len(lines))
    item = Item(rect.right, bottom, ins)
    item.shapes.append(Box(rect, style, form, operation.title))
    item.shapes += _lines(lines, rect, -4.0 if form == "cap" else 0.0)
    for array, ys in zip(operation.inputs, ins, strict=True):
        ends = (rect.right if y in outside else 4.0 for y in ys)
        item.shapes += [straight(array, y, 0.0, end) for y, end in zip(ys, ends, strict=True)]
    places = iter(fresh)
    for array, sources in zip(operation.outputs, operation.sources, strict=True):
        made = [next(places) if s is None else ins[s[0]][s[1]] for s in sources]
        item.outs.append(made if array.axes else [rect.y + rect.height / 2])
    return _lowered(item)


def _along_lanes(
    operation: Operation, lanes: Sequence[Lanes], lines: int
) -> tuple[set[float], list[list[float]], list[float]]:
    """Heights of wires that go past, of all wires of each input, and of new wires."""
    acted = [n for n in lanes[0] if n in operation.acted(0)] or list(lanes[0])
    woven = [n for n in lanes[0] if n not in acted]
    first = dict(zip(woven, lane_ys(range(len(woven)), TOP) if woven else (), strict=True))
    outside = set(first.values())
    slots = max(len(acted) + sum(len(order) for order in lanes[1:]), 1)
    more = max(0.0, lines * _LINE + 6.0 - (slots - 1) * PITCH - 2 * _MARGIN)
    top = max(outside, default=TOP - PITCH) + PITCH + (more / 2 if woven else 0.0)
    first |= {number: top + place * PITCH for place, number in enumerate(acted)}
    ins = [[first[number] for number in sorted(first)]]
    top += (len(acted) - 1) * PITCH
    for order in lanes[1:]:
        ins.append(lane_ys(order, top + PITCH + GAP))
        top = max(ins[-1])
    wanted = sum(source is None for sources in operation.sources for source in sources)
    start = first[acted[0]]
    return outside, ins, [start + place * PITCH for place in range(wanted)]


_MAKERS: dict[Kind, Callable[[Operation, Sequence[Lanes]], Item]] = {
    Kind.INPUT: _input,
    Kind.OUTPUT: _output,
    Kind.PORT: _port,
    Kind.TAG: _tag,
    Kind.CONSTANT: _pill,
    Kind.STATE: _pill,
    Kind.CARRY: _pill,
    Kind.MAP: _map,
    Kind.CALL: _call,
    Kind.NORMALIZE: _along,
    Kind.REDUCE: _along,
    Kind.RELABEL: _along,
    Kind.REINDEX: _along,
    Kind.CONTRACT: contract_item,
    Kind.CONCAT: concat_item,
}
