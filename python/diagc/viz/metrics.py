"""How wide texts are, measured in the font that drawings use."""

from functools import cache
from pathlib import Path
from typing import Any

from diagc.viz.style import STYLES, Style

__all__ = ["FONT", "font_file", "text_height", "text_width"]

FONT = "DejaVu Sans"
"""It comes with matplotlib; Verdana, which stands in for it in browsers, is as wide."""

_EM = 100.0  # what is measured once and scaled: hinting must play no role


def text_width(text: str, style: str) -> float:
    """The width in px of one line."""
    look = STYLES[style]
    return sum(_advance(character, look.bold, look.italic) for character in text) * look.size


def text_height(style: str) -> float:
    """The height in px of one line, from the top of `l` to the bottom of `g`."""
    return STYLES[style].size


@cache
def _advance(character: str, bold: bool, italic: bool) -> float:
    """Width of one character for a font of size 1."""
    font = _font(bold, italic)
    glyph = font.load_char(ord(character), flags=_no_hinting())
    return float(glyph.linearHoriAdvance) / 65536 / _EM


def _no_hinting() -> Any:
    from matplotlib.ft2font import LoadFlags

    return LoadFlags.NO_HINTING


@cache
def _font(bold: bool, italic: bool) -> Any:
    from matplotlib.ft2font import FT2Font

    font = FT2Font(str(font_file(Style(bold=bold, italic=italic))))
    font.set_size(_EM, 72)
    return font


def font_file(style: Style) -> Path:
    """The file of the font in the cut that a style asks for."""
    import matplotlib

    cut = ("Bold" if style.bold else "") + ("Oblique" if style.italic else "")
    name = f"DejaVuSans-{cut}.ttf" if cut else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
