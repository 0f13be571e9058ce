"""Breaks long formulas into lines."""

import re
from collections.abc import Iterator

from diagc.viz.metrics import text_width

__all__ = ["wrap_formula"]

_WIDTH = 150.0
_LINES = 7
_GOOD_BREAKS = re.compile(r"(?<=, )|(?<=; )|(?= [+−<>=≥≤≠] )|(?= (?:and|or) )")
_BREAKS = re.compile(rf"{_GOOD_BREAKS.pattern}|(?=·)|(?=/)")


def wrap_formula(text: str) -> list[str]:
    """The lines of a formula; what does not fit into a few of them ends with `…`."""
    lines = list(_lines(text))
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"{lines[_LINES - 1]} …"]
    return lines or [""]


def _lines(text: str) -> Iterator[str]:
    line = ""
    for piece in _pieces(text):
        if line and text_width((line + piece).strip(), "text") > _WIDTH:
            yield line.strip()
            line = ""
        line += piece
    if line.strip():
        yield line.strip()


def _pieces(text: str) -> Iterator[str]:
    """What is not torn apart: whole arguments and terms, products only where those are long."""
    for piece in _GOOD_BREAKS.split(text):
        long = text_width(piece, "text") > _WIDTH
        yield from _BREAKS.split(piece) if long else [piece]
