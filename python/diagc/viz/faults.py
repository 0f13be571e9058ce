"""Finds what is wrong with a layout: overlaps, wires through boxes, things outside.

It knows shapes only, nothing of how they were placed.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from diagc.viz.scene import Box, Line, Rect, Scene, Text

__all__ = ["faults"]

_TOUCH = 0.6
"""Shapes may overlap by so many px: lines have a width, coordinates are rounded."""
_STEPS = 24
"""Into so many straight pieces a curve is cut."""
_NEAR = 1.6
"""So near a wire comes to what it ends at."""
_OPEN_FORMS = ("bar", "joint")  # wires end at bars and meet in joints


def faults(scene: Scene) -> list[str]:
    """What is wrong, one sentence each; nothing when the layout is good."""
    boxes = [shape for shape in scene.shapes if isinstance(shape, Box)]
    closed = [box for box in boxes if box.form not in (*_OPEN_FORMS, "frame")]
    frames = [box for box in boxes if box.form == "frame"]
    lines = [shape for shape in scene.shapes if isinstance(shape, Line)]
    texts = [shape for shape in scene.shapes if isinstance(shape, Text)]
    return [
        *_outside(scene),
        *_overlaps(closed),
        *_overlaps(texts),
        *_texts_on_edges(texts, closed),
        *_frame_faults(frames, [*closed, *texts, *frames]),
        *_wire_faults(lines, [*closed, *texts]),
        *_wires_in_wrong_frames(lines, frames),
        *_loose_ends(lines, boxes),
    ]


def _name(shape: Box | Text) -> str:
    if isinstance(shape, Text):
        return f"text '{shape.text}'"
    return f"{shape.style} '{shape.title.splitlines()[0] if shape.title else ''}'"


def _outside(scene: Scene) -> Iterator[str]:
    page = Rect(0.0, 0.0, scene.width, scene.height).grown(_TOUCH)
    for shape in scene.shapes:
        rect = _extent(shape) if isinstance(shape, Line) else shape.rect
        if not page.holds(rect):
            yield f"outside the page: {'a wire' if isinstance(shape, Line) else _name(shape)}"


def _pairs(rects: Sequence[Rect], others: Sequence[Rect]) -> Iterator[tuple[int, int]]:
    """Numbers of those that meet, shrunk by what may overlap."""
    one, other = _corners(rects, _TOUCH)[:, None], _corners(others, 0.0)[None, :]
    met = (one[..., 0] < other[..., 2]) & (other[..., 0] < one[..., 2])
    met &= (one[..., 1] < other[..., 3]) & (other[..., 1] < one[..., 3])
    yield from zip(*(numbers.tolist() for numbers in np.nonzero(met)), strict=True)


def _corners(rects: Sequence[Rect], margin: float) -> "np.ndarray[tuple[int, int], np.dtype[Any]]":
    corners = [(r.x, r.y, r.right, r.bottom) for r in rects]
    shrink = np.array((margin, margin, -margin, -margin))
    return np.array(corners, float).reshape(-1, 4) + shrink


def _overlaps(shapes: Sequence[Box | Text]) -> Iterator[str]:
    rects = [shape.rect for shape in shapes]
    for one, other in _pairs(rects, rects):
        if one < other:
            yield f"{_name(shapes[one])} overlaps {_name(shapes[other])}"


def _texts_on_edges(texts: Sequence[Text], boxes: Sequence[Box]) -> Iterator[str]:
    pairs = _pairs([text.rect for text in texts], [box.rect for box in boxes])
    for text, box in ((texts[n], boxes[m]) for n, m in pairs):
        if not box.rect.grown(_TOUCH).holds(text.rect):
            yield f"{_name(text)} sticks out of {_name(box)}"


def _frame_faults(frames: Sequence[Box], shapes: Sequence[Box | Text]) -> Iterator[str]:
    pairs = _pairs([shape.rect for shape in shapes], [frame.rect for frame in frames])
    for shape, frame in ((shapes[n], frames[m]) for n, m in pairs):
        within = frame.rect.grown(_TOUCH).holds(shape.rect)
        if not within and not shape.rect.grown(_TOUCH).holds(frame.rect):
            yield f"{_name(shape)} crosses the edge of {_name(frame)}"


def _wire_faults(lines: Sequence[Line], shapes: Sequence[Box | Text]) -> Iterator[str]:
    extents = [_extent(line).grown(0.01) for line in lines]
    for one, other in _pairs([shape.rect for shape in shapes], extents):
        if _runs_through(_points(lines[other]), shapes[one].rect.grown(-_TOUCH)):
            yield f"a wire crosses {_name(shapes[one])}"


def _wires_in_wrong_frames(lines: Sequence[Line], frames: Sequence[Box]) -> Iterator[str]:
    """A wire of one scope does not enter frames of which that scope is no part."""
    for frame in frames:
        inside = frame.rect.grown(_TOUCH)
        for line in lines:
            own = _inside_of(frame, line)
            if own and not inside.holds(_extent(line)):
                yield f"a wire leaves {_name(frame)}"
            if not own and _runs_through(_points(line), frame.rect.grown(-_TOUCH)):
                yield f"a wire that does not belong there crosses {_name(frame)}"


def _loose_ends(lines: Sequence[Line], boxes: Sequence[Box]) -> Iterator[str]:
    """Wires end at boxes, bars, joints and edges of frames, or where another wire goes on."""
    ends = [(line, point) for line in lines for point in (line.start, line.pieces[-1][2])]
    spots = [Rect(x, y, 0.0, 0.0).grown(_NEAR) for _, (x, y) in ends]
    held = {n for n, box in _pairs(spots, [box.rect for box in boxes])}
    for number, (line, point) in enumerate(ends):
        others = (other for other in lines if other is not line)
        if number not in held and not any(_passes(other, spots[number]) for other in others):
            yield f"a wire ends in nothing at ({point[0]:.0f}, {point[1]:.0f})"


def _passes(line: Line, spot: Rect) -> bool:
    return _extent(line).grown(0.01).meets(spot) and _runs_through(_points(line), spot)


def _inside_of(frame: Box, line: Line) -> bool:
    """Whether a wire belongs into a frame: its scope goes on where that of the frame ends."""
    return line.scope[: len(frame.scope) + 1] == (*frame.scope, frame.number)


# ---- geometry ----------------------------------------------------------------------------------

Point = tuple[float, float]


@lru_cache(maxsize=10_000)
def _points(line: Line) -> list[Point]:
    points = [line.start]
    for first, second, end in line.pieces:
        points += [_bezier(points[-1], first, second, end, n / _STEPS) for n in range(1, _STEPS)]
        points.append(end)
    return points


def _bezier(a: Point, b: Point, c: Point, d: Point, t: float) -> Point:
    u = 1.0 - t
    weights = (u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t)
    x, y = (sum(w * p[n] for w, p in zip(weights, (a, b, c, d), strict=True)) for n in (0, 1))
    return x, y


@lru_cache(maxsize=10_000)
def _extent(line: Line) -> Rect:
    xs, ys = zip(*_points(line), strict=True)
    return Rect(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def _runs_through(points: Sequence[Point], rect: Rect) -> bool:
    return any(_cuts(a, b, rect) for a, b in pairwise(points))


def _cuts(a: Point, b: Point, rect: Rect) -> bool:
    """Whether a straight piece has a point inside a rectangle (Liang and Barsky)."""
    enter, leave = 0.0, 1.0
    for start, step, low, high in (
        (a[0], b[0] - a[0], rect.x, rect.right),
        (a[1], b[1] - a[1], rect.y, rect.bottom),
    ):
        if abs(step) < 1e-9:
            if not low < start < high:
                return False
            continue
        near, far = sorted(((low - start) / step, (high - start) / step))
        enter, leave = max(enter, near), min(leave, far)
    return enter < leave
