"""Names of files, and what a command line reads and writes; '-' is standard input or output."""

import os
import sys
from pathlib import Path

from diagc.errors import UserError

__all__ = ["STANDARD", "as_path", "read_text", "relative_to_here", "write_text"]

STANDARD = "-"


def as_path(value: object, what: str) -> Path:
    """The path that a caller of a public function gave.

    Args:
        value: a string or path.
        what: it is of, such as "a package", for the message.

    Raises:
        UserError: it is neither, or names no file, as '' and '/' do.
    """
    expected, text = f"the path of {what}, as a str or pathlib.Path", None
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
    if not isinstance(text, str):
        raise UserError("this is no path", expected=expected, found=_shown(value))
    if "\0" in text or not Path(text).name:
        raise UserError("this path names no file", expected=expected, found=repr(text))
    return Path(text)


def _shown(value: object) -> str:
    kind = type(value).__name__
    return f"{value!r} of type {kind}" if isinstance(value, int | bytes) else kind


def read_text(file: str) -> str:
    """Read a whole text file.

    Raises:
        UserError: it cannot be read, or is no UTF-8.
    """
    if file == STANDARD:
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {file}", found=error.strerror) from None
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        raise UserError(f"cannot read {file}", expected="UTF-8 text", found=found) from None


def write_text(file: str, text: str) -> None:
    """Replace a file by `text`.

    Raises:
        UserError: it cannot be written.
    """
    if file == STANDARD:
        sys.stdout.write(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {file}", found=error.strerror) from None


def relative_to_here(text: str) -> str:
    """The text with paths of files below the working directory as relative ones."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")
