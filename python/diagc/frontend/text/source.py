"""A `.diag` text with its file name: places, and errors that point at them."""

import bisect
from typing import TypeVar

from diagc.errors import SourceLocation, UserError
from diagc.mlir import ir

__all__ = ["Source"]

E = TypeVar("E", bound=UserError)


class Source:
    """The text of one file; offsets count characters from 0, lines and columns from 1."""

    def __init__(self, text: str, filename: str) -> None:
        """Index the starts of lines."""
        self.text = text
        self.filename = filename
        self._starts = [0, *(i + 1 for i, c in enumerate(text) if c == "\n")]

    def place(self, offset: int) -> SourceLocation:
        """Give file, line and column of an offset."""
        line = bisect.bisect_right(self._starts, offset)
        return SourceLocation(self.filename, line, offset - self._starts[line - 1] + 1)

    def location(self, offset: int, name: str = "") -> ir.Location:
        """Give the MLIR location of an offset, with a name for what stands there."""
        place = self.place(offset)
        where = ir.Location.file(place.file, place.line, place.column)
        return ir.Location.name(name, where) if name else where

    def error(
        self,
        kind: type[E],
        offset: int,
        message: str,
        *,
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
    ) -> E:
        """Make an error of `kind` that shows the line at `offset` with a caret."""
        return kind(
            message,
            location=self.place(offset),
            expected=expected,
            found=found,
            remedy=remedy,
            source=self.text,
        )
