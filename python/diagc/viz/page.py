"""The page around a diagram: margin, heading, and a legend of what is in it."""

from collections.abc import Iterator

from diagc.viz.items import array_bar, text_at
from diagc.viz.joining import joined
from diagc.viz.metrics import text_width
from diagc.viz.model import Level
from diagc.viz.scene import Box, Rect, Scene, Shape, Text, segment
from diagc.viz.style import LEVEL_STYLES

__all__ = ["finish"]

_MARGIN = 16.0
_HEADING = 26.0
_LEGEND = 26.0
_SAMPLE = 22.0
_BROADCAST = "broadcast: the same at every position of this axis"


def finish(scene: Scene, title: str) -> Scene:
    """The scene with a heading above it and a legend below."""
    shapes: list[Shape] = [text_at(_MARGIN, _MARGIN + 6.0, title, "heading")]
    legend = list(_legend(scene, _MARGIN + _HEADING + scene.height + _LEGEND - 6.0))
    page = Scene(0.0, 0.0, [*shapes], title)
    page.place(scene.shapes, _MARGIN, _MARGIN + _HEADING)
    page.shapes = joined([*page.shapes, *legend])
    texts = (shape.rect.right for shape in page.shapes if isinstance(shape, Text))
    page.width = max(scene.width + _MARGIN, *texts) + _MARGIN
    page.height = 2 * _MARGIN + _HEADING + scene.height + (_LEGEND - 6.0 if legend else 0.0)
    return page


def _legend(scene: Scene, y: float) -> Iterator[Shape]:
    styles = {shape.style for shape in scene.shapes}
    x = _MARGIN
    for level in Level:
        name = LEVEL_STYLES[level]
        if level is not Level.PLAIN and {name, f"{name} number"} & styles:
            yield segment(x, y, x + _SAMPLE, y, name)
            yield from (array_bar([y], x), array_bar([y], x + _SAMPLE))
            yield text_at(x + _SAMPLE + 5.0, y, level.value, "note")
            x += _SAMPLE + 25.0 + text_width(level.value, "note")
    if "broadcast" in styles:
        yield Box(Rect(x, y - 2.5, 5.0, 5.0), "hole", "dot")
        yield segment(x + 5.0, y, x + _SAMPLE, y, "broadcast")
        yield array_bar([y], x + _SAMPLE)
        yield text_at(x + _SAMPLE + 5.0, y, _BROADCAST, "note")
        x += _SAMPLE + 25.0 + text_width(_BROADCAST, "note")
    if "sub" in styles:
        words = "g: size of a group, s: size of a chunk"
        yield text_at(x, y, words, "note")
