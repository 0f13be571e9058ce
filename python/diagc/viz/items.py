"""What stands in a column: its size, where wires enter and leave it, and its shapes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from diagc.viz.metrics import text_height, text_width
from diagc.viz.model import Array, Axis
from diagc.viz.scene import Box, Rect, Shape, Text, segment
from diagc.viz.style import BOTTOM, LEVEL_STYLES, PITCH, TOP

__all__ = [
    "Item",
    "Lanes",
    "array_bar",
    "centred",
    "label_shapes",
    "label_width",
    "lane_ys",
    "pass_item",
    "straight",
    "text_at",
    "wire_style",
]

Lanes: TypeAlias = Sequence[int]
"""Numbers of an array's axes from top to bottom; `(0,)` for a number without axes."""

_LABEL_LIFT = 2.5
_SUB_DROP = 2.0


@dataclass
class Item:
    """Something placed at (0, 0): `ins` and `outs` give a height for each axis of each array."""

    width: float
    height: float
    ins: list[list[float]] = field(default_factory=list)
    outs: list[list[float]] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)


def wire_style(array: Array) -> str:
    """Style of an array's wires."""
    name = LEVEL_STYLES[array.level]
    return name if array.axes else f"{name} number"


def lane_ys(lanes: Lanes, top: float) -> list[float]:
    """Heights by number of axis, for lanes that begin at `top`."""
    ys = [0.0] * len(lanes)
    for place, number in enumerate(lanes):
        ys[number] = top + place * PITCH
    return ys


def pass_item(lanes: Lanes) -> Item:
    """An array that goes past."""
    ys = lane_ys(lanes, TOP)
    return Item(0.0, max(ys) + BOTTOM, [ys], [ys])


def straight(array: Array, y: float, x0: float, x1: float) -> Shape:
    """A level piece of a wire."""
    return segment(x0, y, x1, y, wire_style(array))


def text_at(x: float, middle: float, text: str, style: str) -> Text:
    """A text that begins at x and has its middle at a height."""
    height = text_height(style)
    return Text(Rect(x, middle - height / 2, text_width(text, style), height), text, style)


def centred(x: float, middle: float, text: str, style: str) -> Text:
    """A text with its middle at (x, middle)."""
    return text_at(x - text_width(text, style) / 2, middle, text, style)


def array_bar(ys: Sequence[float], x: float) -> Box:
    """The bar at which all wires of an array begin or end."""
    return Box(Rect(x - 1.0, min(ys) - 4.0, 2.0, max(ys) - min(ys) + 8.0), "dot", "bar")


def _runs(axis: Axis) -> list[tuple[str, str]]:
    name = [(axis.label, "label")] if not axis.mark else [(axis.mark, "label"), (axis.label, "sub")]
    return name if axis.size is None else [*name, (f" {axis.size}", "size")]


def label_width(array: Array) -> float:
    """Width of the widest label of an array."""
    widths = (sum(text_width(text, style) for text, style in _runs(a)) for a in array.axes)
    return max(widths, default=0.0)


def label_shapes(array: Array, ys: Sequence[float], x: float) -> list[Text]:
    """Labels above the wires of an array, from x on."""
    shapes = []
    for axis, y in zip(array.axes, ys, strict=False):
        at = x
        for text, style in _runs(axis):
            width, height = text_width(text, style), text_height(style)
            bottom = y - _LABEL_LIFT + (_SUB_DROP if style == "sub" else 0.0)
            shapes.append(Text(Rect(at, bottom - height, width, height), text, style))
            at += width
    return shapes
