"""Where in the user's source an op was called: from Python frames, and from stack-trace text."""

import linecache
import os
import re
import sys
from functools import lru_cache
from itertools import islice
from types import CodeType, FrameType

import torch

import diagc
from diagc.errors import SourceLocation

__all__ = [
    "BOUNDARY",
    "caller_location",
    "direct_caller",
    "location_of_exception",
    "location_of_stack_trace",
]

BOUNDARY = "call_user_function"
"""The function of this package that calls the user's; frames above it are not the user's."""

_HIDDEN = (
    os.path.dirname(torch.__file__) + os.sep,
    os.path.dirname(os.path.abspath(diagc.__file__)) + os.sep,
    "<",
)
_HIDDEN_MODULES = ("contextlib.py", "functools.py")
_ENTRY = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+),')


def _is_boundary(code: CodeType) -> bool:
    return code.co_name == BOUNDARY and code.co_filename.startswith(_HIDDEN[1])


def _is_user_file(name: str) -> bool:
    return not name.startswith(_HIDDEN) and not name.endswith(_HIDDEN_MODULES)


@lru_cache(maxsize=4096)
def _position(code: CodeType, instruction: int) -> tuple[int, int]:
    """Line and column (both from 1) of an instruction; Python keeps them since 3.11."""
    line, _, column, _ = next(
        islice(code.co_positions(), instruction // 2, None), (None, None, None, None)
    )
    return line or code.co_firstlineno, (column or 0) + 1


def caller_location() -> SourceLocation | None:
    """The innermost frame that belongs neither to torch nor to this package.

    For a module of torch itself, compiled as it is, the line of its `forward`.
    """
    frame: FrameType | None = sys._getframe(1)
    outermost: FrameType | None = None
    while frame is not None and not _is_boundary(frame.f_code):
        if _is_user_file(frame.f_code.co_filename):
            return _location(frame)
        if frame.f_code.co_name == "forward":
            outermost = frame
        frame = frame.f_back
    return None if outermost is None else _location(outermost)


def direct_caller() -> SourceLocation | None:
    """Where the user's code calls a function of torch itself; None if torch's code calls it.

    For `__torch_function__` of a mode; such methods, of any mode, stand between both.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name == "__torch_function__":
        frame = frame.f_back
    if frame is None or not _is_user_file(frame.f_code.co_filename):
        return None
    return _location(frame)


def _location(frame: FrameType) -> SourceLocation:
    line, column = _position(frame.f_code, frame.f_lasti)
    return SourceLocation(frame.f_code.co_filename, line, column)


def location_of_exception(error: BaseException) -> SourceLocation | None:
    """The innermost user's frame of a traceback."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if _is_boundary(code):
            found = None
        if _is_user_file(code.co_filename):
            found = SourceLocation(code.co_filename, *_position(code, trace.tb_lasti))
        trace = trace.tb_next
    return found


def location_of_stack_trace(text: str | None) -> SourceLocation | None:
    """The innermost user's entry of a stack trace; the column is where the line's code starts."""
    entries = [m for m in _ENTRY.finditer(text or "") if _is_user_file(m["file"])]
    if not entries:
        return None
    file, line = entries[-1]["file"], int(entries[-1]["line"])
    source = linecache.getline(file, line)
    return SourceLocation(file, line, len(source) - len(source.lstrip()) + 1)
