"""A scene as SVG: plain elements with titles, texts as text, no scripts, nothing from outside."""

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from diagc.viz.metrics import FONT, text_width
from diagc.viz.scene import Box, Line, Scene, Shape, Text
from diagc.viz.style import STYLES

__all__ = ["figure", "style_sheet", "svg_text"]

_NAMESPACE = "http://www.w3.org/2000/svg"
_FAMILY = f"'{FONT}', Verdana, Geneva, sans-serif"
_BASELINE = 0.8  # of the height of a line
_RADII = {"box": 3.0, "pill": 8.0, "frame": 8.0, "bar": 1.0}


def svg_text(scene: Scene) -> str:
    """The drawing as an SVG document."""
    root = _root(scene)
    root.set("xmlns", _NAMESPACE)
    SubElement(root, "style").text = style_sheet()
    SubElement(root, "rect", width="100%", height="100%", fill="#ffffff")
    for shape in scene.shapes:
        _write(root, shape)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def figure(scene: Scene, name: str, again: bool = False) -> str:
    """The drawing as an element of an HTML page.

    Args:
        scene: the drawing.
        name: its id in the page.
        again: whether the page holds it already, so that it need only be referred to.
    """
    root = _root(scene)
    if again:
        SubElement(root, "use", href=f"#{name}")
    else:
        group = SubElement(root, "g", id=name)
        for shape in scene.shapes:
            _write(group, shape)
    return ElementTree.tostring(root, encoding="unicode")


def _root(scene: Scene) -> Element:
    width, height = _number(scene.width), _number(scene.height)
    root = Element("svg", width=width, height=height, viewBox=f"0 0 {width} {height}")
    root.set("font-family", _FAMILY)
    root.set("role", "img")
    if scene.title:
        SubElement(root, "title").text = scene.title
    return root


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def style_sheet() -> str:
    """CSS for all styles; a page with figures needs it once."""
    return "".join(f".{_class(name)}{{{';'.join(_rules(name))}}}" for name in STYLES)


def _class(style: str) -> str:
    return "d-" + style.replace(" ", "-")


def _rules(style: str) -> Iterator[str]:
    look = STYLES[style]
    yield f"fill:{look.fill or 'none'}"
    if look.stroke:
        yield f"stroke:{look.stroke};stroke-width:{_number(look.width)}"
    if look.dash:
        yield f"stroke-dasharray:{' '.join(map(_number, look.dash))}"
    if look.size:
        yield f"font-size:{_number(look.size)}px"
    if look.bold:
        yield "font-weight:bold"
    if look.italic:
        yield "font-style:italic"


def _write(root: Element, shape: Shape) -> None:
    if isinstance(shape, Box):
        _write_box(root, shape)
    elif isinstance(shape, Line):
        SubElement(root, "path", {"class": _class(shape.style)}, d=_path(shape))
    else:
        _write_text(root, shape)


def _write_box(root: Element, box: Box) -> None:
    rect = box.rect
    if box.form in ("dot", "joint"):
        radius = _number(rect.width / 2)
        centre = {"cx": _number(rect.x + rect.width / 2), "cy": _number(rect.y + rect.height / 2)}
        element = SubElement(root, "circle", centre, r=radius)
    elif box.form == "cap":
        tip = min(8.0, rect.width / 2)
        x, y, right, bottom = rect.x, rect.y, rect.right, rect.bottom
        corners = [(x, y), (right - tip, y), (right, (y + bottom) / 2), (right - tip, bottom)]
        points = " ".join(f"{_number(a)},{_number(b)}" for a, b in [*corners, (x, bottom)])
        element = SubElement(root, "polygon", points=points)
        element.set("stroke-linejoin", "round")
    else:
        place = {"x": rect.x, "y": rect.y, "width": rect.width, "height": rect.height}
        element = SubElement(root, "rect", {name: _number(v) for name, v in place.items()})
        element.set("rx", _number(min(_RADII[box.form], rect.height / 2)))
    element.set("class", _class(box.style))
    if box.title:
        SubElement(element, "title").text = box.title


def _path(line: Line) -> str:
    at = line.start
    words = [f"M{_number(at[0])} {_number(at[1])}"]
    for first, second, end in line.pieces:
        if first == at and second == end:
            words.append(f"L{_number(end[0])} {_number(end[1])}")
        else:
            words.append(
                "C" + " ".join(f"{_number(x)} {_number(y)}" for x, y in (first, second, end))
            )
        at = end
    return "".join(words)


def _write_text(root: Element, text: Text) -> None:
    shown = text.text.strip()
    indent = text_width(text.text, text.style) - text_width(text.text.lstrip(), text.style)
    element = SubElement(root, "text", {"class": _class(text.style)})
    element.set("x", _number(text.rect.x + indent))
    element.set("y", _number(text.rect.y + text.rect.height * _BASELINE))
    # so the width that was measured holds whatever font the reader has
    element.set("textLength", _number(text.rect.width - indent))
    element.text = shown
