"""Reads and writes the files that a command line names; '-' is standard input or output."""

import os
import sys
from pathlib import Path

from diagc.errors import UserError

__all__ = ["STANDARD", "read_text", "relative_to_here", "write_text"]

STANDARD = "-"


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
