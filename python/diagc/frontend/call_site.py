"""Where in a user's Python file the builder was called."""

import contextlib
import sys
from pathlib import Path
from types import FrameType

from diagc.mlir import ir

__all__ = ["call_site"]

# The builder's own files, and the one that Python runs `with` blocks of generators in.
_NOT_THE_USER = (str(Path(__file__).parent), contextlib.__file__)


def call_site(name: str = "") -> ir.Location:
    """Give file, line and column of the innermost call from outside this package.

    A `name` is put around it, as in `loc("S"("attention.py":7:9))`.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_USER):
        frame = frame.f_back
    if frame is None:
        where = ir.Location.unknown()
    else:
        where = ir.Location.file(frame.f_code.co_filename, frame.f_lineno, _column(frame))
    return ir.Location.name(name, where) if name else where


def _column(frame: FrameType) -> int:
    """Give the column of the running call, from 1; 1 where Python was told to forget it."""
    for number, (_, _, column, _) in enumerate(frame.f_code.co_positions()):
        if number == frame.f_lasti // 2 and column is not None:
            return column + 1
    return 1
