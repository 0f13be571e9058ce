"""How things look: sizes in px, colours, fonts."""

from dataclasses import dataclass

from diagc.viz.model import Level

__all__ = [
    "BOTTOM",
    "GAP",
    "LEVEL_STYLES",
    "PITCH",
    "SEPARATION",
    "STYLES",
    "TOP",
    "Style",
]

PITCH = 17.0
"""Between two wires of one array: a wire and the label above it."""
GAP = 14.0
"""What is added to the pitch between two arrays that go into one operation."""
TOP = 13.0
"""What a bundle takes above its first wire: the label."""
BOTTOM = 7.0
"""What it takes below its last wire."""
SEPARATION = 8.0
"""Between two things of one column."""


@dataclass(frozen=True)
class Style:
    """Colours as #rrggbb, widths in px, `dash` as lengths on and off, `size` of the font in px."""

    stroke: str = ""
    fill: str = ""
    width: float = 1.0
    dash: tuple[float, ...] = ()
    size: float = 0.0
    bold: bool = False
    italic: bool = False


_INK, _GREY = "#1f2933", "#7b8794"
_COLOURS = {
    Level.PLAIN: "#334e68",
    Level.MEMORY: "#1f5fa8",
    Level.CHIP: "#d9730d",
    Level.STATE: "#2f8f4e",
}

LEVEL_STYLES = {level: level.name.lower() for level in Level}
"""Style of an array's wires by its level; with ` number` behind it that of one without axes."""

STYLES: dict[str, Style] = {
    # boxes
    "map": Style("#52606d", "#ffffff", 1.1),
    "normalize": Style("#8a4fbf", "#f4ecfb", 1.3),
    "reduce": Style("#52606d", "#fff4d6", 1.1),
    "view": Style("#829ab1", "#eef3f8", 1.0),
    "constant": Style("#9aa5b1", "#f5f7fa", 1.0),
    "state box": Style("#2f8f4e", "#e6f6ec", 1.1),
    "call": Style("#7b8794", "#e4e7eb", 1.1),
    "kernel": Style("#c9a27a", "#fffaf4", 1.2),
    "loop": Style("#7cc093", "#f0faf3", 1.2),
    "tag": Style("#9fb3c8", "#f0f4f8", 1.0),
    "dot": Style("#334e68", "#334e68", 1.0),
    "hole": Style("#9aa5b1", "#ffffff", 1.1),
    # wires that belong to no array
    "broadcast": Style("#9aa5b1", "", 1.1, (3.0, 2.5)),
    "tuple": Style("#cbd2d9", "", 0.8, (1.5, 2.5)),
    # texts
    "text": Style("", _INK, size=10.0),
    "strong": Style("", _INK, size=10.5, bold=True),
    "letter": Style("", "#8a4fbf", size=9.0, italic=True),
    "label": Style("", _INK, size=9.5, italic=True),
    "sub": Style("", _INK, size=7.0, italic=True),
    "size": Style("", _GREY, size=8.0),
    "faint": Style("", _GREY, size=8.5, italic=True),
    "note": Style("", "#52606d", size=9.0),
    "heading": Style("", _INK, size=12.0, bold=True),
}
for _level, _name in LEVEL_STYLES.items():
    STYLES[_name] = Style(_COLOURS[_level], "", 1.5)
    STYLES[f"{_name} number"] = Style(_COLOURS[_level], "", 1.5, (1.5, 2.5))
