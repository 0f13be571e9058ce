"""What is on the page: boxes, wires, texts, with coordinates in px from the top left corner.

A wire is a path of straight lines and cubic curves. `scope` says in which frames a shape stands,
`box` and `label` shapes may not overlap: `faults.py` checks it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

__all__ = ["Box", "Line", "Point", "Rect", "Scene", "Shape", "Text", "curve", "segment"]

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Rect:
    """An upright rectangle."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + self.height

    def moved(self, dx: float, dy: float) -> "Rect":
        """The same at another place."""
        return replace(self, x=self.x + dx, y=self.y + dy)

    def grown(self, margin: float) -> "Rect":
        """With a margin on all sides, or less one."""
        size = 2 * margin
        return Rect(self.x - margin, self.y - margin, self.width + size, self.height + size)

    def meets(self, other: "Rect") -> bool:
        """Whether the insides overlap."""
        across = self.x < other.right and other.x < self.right
        return across and self.y < other.bottom and other.y < self.bottom

    def holds(self, other: "Rect") -> bool:
        """Whether the other is inside."""
        across = self.x <= other.x and other.right <= self.right
        return across and self.y <= other.y and other.bottom <= self.bottom


@dataclass(frozen=True)
class Box:
    """A box, pill, cap (pointing right), bar, dot, joint of wires, or a frame.

    `style` names a row of `style.STYLES`; the number of a frame stands in the scope of all that is
    in it.
    """

    rect: Rect
    style: str
    form: str = "box"
    title: str = ""
    scope: tuple[int, ...] = ()
    number: int = 0

    def moved(self, dx: float, dy: float) -> "Box":
        """The same at another place."""
        return replace(self, rect=self.rect.moved(dx, dy))


@dataclass(frozen=True)
class Line:
    """A path: a start and cubic pieces (control, control, end); a straight one has no bend."""

    start: Point
    pieces: tuple[tuple[Point, Point, Point], ...]
    style: str
    scope: tuple[int, ...] = ()

    def moved(self, dx: float, dy: float) -> "Line":
        """The same at another place."""
        (x, y), pieces = self.start, self.pieces
        moved = tuple(
            ((a + dx, b + dy), (c + dx, d + dy), (e + dx, f + dy))
            for (a, b), (c, d), (e, f) in pieces
        )
        return replace(self, start=(x + dx, y + dy), pieces=moved)


@dataclass(frozen=True)
class Text:
    """One run of text in a rectangle of its measured size; `style` as for boxes."""

    rect: Rect
    text: str
    style: str
    scope: tuple[int, ...] = ()

    def moved(self, dx: float, dy: float) -> "Text":
        """The same at another place."""
        return replace(self, rect=self.rect.moved(dx, dy))


Shape: TypeAlias = Box | Line | Text


@dataclass
class Scene:
    """A finished drawing, or a part of one."""

    width: float
    height: float
    shapes: list[Shape] = field(default_factory=list)
    title: str = ""

    def place(self, shapes: Iterable[Shape], dx: float, dy: float) -> None:
        """Take shapes over from a part that stands at (dx, dy)."""
        self.shapes += [shape.moved(dx, dy) for shape in shapes]


def segment(x0: float, y0: float, x1: float, y1: float, style: str) -> Line:
    """A straight line."""
    return Line((x0, y0), (((x0, y0), (x1, y1), (x1, y1)),), style)


def curve(x0: float, y0: float, x1: float, y1: float, style: str) -> Line:
    """A line that leaves and arrives level: an S where the heights differ."""
    if abs(y0 - y1) < 0.05:
        return segment(x0, y0, x1, y1, style)
    middle = (x0 + x1) / 2
    return Line((x0, y0), (((middle, y0), (middle, y1), (x1, y1)),), style)
