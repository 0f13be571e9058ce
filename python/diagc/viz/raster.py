"""A scene as PNG or PDF, drawn by matplotlib without a window."""

from io import BytesIO
from typing import Any

from diagc.viz.metrics import font_file
from diagc.viz.scene import Box, Line, Scene, Shape, Text
from diagc.viz.style import STYLES

__all__ = ["image"]

_DOTS = 72.0  # one px of a scene is one point
_BASELINE = 0.8
_RADII = {"box": 3.0, "pill": 8.0, "frame": 8.0, "bar": 1.0}


def image(scene: Scene, format: str, scale: float = 2.0) -> bytes:
    """The bytes of a file; a `png` has `scale` pixels for each px of the scene."""
    from matplotlib.figure import Figure

    size = (scene.width / _DOTS, scene.height / _DOTS)
    figure = Figure(figsize=size, dpi=_DOTS * scale, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0.0, scene.width)
    axes.set_ylim(scene.height, 0.0)
    axes.axis("off")
    for order, shape in enumerate(scene.shapes):
        artist = _artist(shape)
        artist.set_zorder(order)
        artist.set_clip_on(False)
        axes.add_artist(artist)
    buffer = BytesIO()
    # without dates, so that the same diagram gives the same bytes
    metadata = {"CreationDate": None} if format == "pdf" else {"Software": None}
    figure.savefig(buffer, format=format, metadata=metadata)
    return buffer.getvalue()


def _artist(shape: Shape) -> Any:
    if isinstance(shape, Box):
        return _box(shape)
    return _line(shape) if isinstance(shape, Line) else _text(shape)


def _paint(style: str) -> dict[str, Any]:
    look = STYLES[style]
    dash = (0, tuple(length / look.width for length in look.dash)) if look.dash else "solid"
    paint = {"facecolor": look.fill or "none", "edgecolor": look.stroke or "none"}
    return {**paint, "linewidth": look.width, "linestyle": dash}


def _box(box: Box) -> Any:
    from matplotlib.patches import Circle, FancyBboxPatch, Polygon

    rect, paint = box.rect, _paint(box.style)
    if box.form in ("dot", "joint"):
        centre = (rect.x + rect.width / 2, rect.y + rect.height / 2)
        return Circle(centre, rect.width / 2, **paint)
    if box.form == "cap":
        tip = min(8.0, rect.width / 2)
        middle = rect.y + rect.height / 2
        right = [(rect.right - tip, rect.y), (rect.right, middle), (rect.right - tip, rect.bottom)]
        return Polygon([(rect.x, rect.y), *right, (rect.x, rect.bottom)], **paint)
    radius = min(_RADII[box.form], rect.height / 2, rect.width / 2)
    style = f"round,pad=0,rounding_size={radius}"
    return FancyBboxPatch((rect.x, rect.y), rect.width, rect.height, boxstyle=style, **paint)


def _line(line: Line) -> Any:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    points, codes = [line.start], [Path.MOVETO]
    for piece in line.pieces:
        points += piece
        codes += [Path.CURVE4] * 3
    return PathPatch(Path(points, codes), capstyle="butt", **_paint(line.style))


def _text(text: Text) -> Any:
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text as Artist

    look, rect = STYLES[text.style], text.rect
    font = FontProperties(fname=str(font_file(look)), size=look.size)
    shown = text.text.replace("$", r"\$")
    y = rect.y + rect.height * _BASELINE
    return Artist(rect.x, y, shown, color=look.fill, fontproperties=font, va="baseline")
