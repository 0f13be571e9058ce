"""The errors that diagc raises: the user's mistakes, what is unsupported yet, and our own bugs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

__all__ = [
    "PARSED_TEXT",
    "CacheError",
    "DiagSyntaxError",
    "DiagcError",
    "InternalError",
    "LaunchError",
    "LoweringError",
    "PackageError",
    "PassError",
    "SourceLocation",
    "TargetError",
    "UnsupportedError",
    "UserError",
    "VerificationError",
    "caret",
]

PARSED_TEXT = "-"
"""The file name in locations of a module that MLIR parsed from text."""

_LOCATION = re.compile(r'"(?P<file>[^"]*)":(?P<line>\d+):(?P<column>\d+)')


@dataclass(frozen=True)
class SourceLocation:
    """A place in a user's file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    @classmethod
    def of(cls, location: object) -> "SourceLocation | None":
        """Convert an `ir.Location`, its text, or a SourceLocation; None when it names no file.

        Works on the text of the location, so that this module needs no bindings. Of a fused or
        named location the first file position counts.
        """
        if location is None or isinstance(location, cls):
            return location
        match = _LOCATION.search(str(location))
        if match is None or match["line"] == "0":
            return None  # line 0 is MLIR's place for a module that was parsed from text
        return cls(match["file"], int(match["line"]), int(match["column"]))

    def __str__(self) -> str:
        """Give `file:line:column`."""
        return f"{self.file}:{self.line}:{self.column}"


_CONTEXT = 80
"""Columns of a long source line that are shown on either side of the caret."""


def caret(text: str, location: SourceLocation) -> str:
    """Show the source line at `location` of `text` with a caret under its column, or nothing."""
    lines = text.splitlines()
    if not 0 < location.line <= len(lines):
        return ""
    line, before = lines[location.line - 1], location.column - 1
    start = max(0, before - _CONTEXT) if len(line) > 2 * _CONTEXT else 0
    shown = line[start : start + 2 * _CONTEXT]
    return f"\n{shown}\n{' ' * (before - start)}^"


class DiagcError(Exception):
    """Base of every error that diagc raises on purpose.

    Args:
        message: what is wrong; lower-case first letter, no full stop.
        location: where: an `ir.Location`, its text, a SourceLocation, or None.
        expected: what would have been right, without the word "expected".
        found: what was there, without the word "found".
        remedy: what the user can do.
        notes: further facts, each shown as a line of its own.
        source: the text that `location` points into, when it is not a readable file.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        location: object = None,
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
        notes: tuple[str, ...] = (),
        source: str | None = None,
    ) -> None:
        """Keep the parts apart, so that tools can show them as they like."""
        super().__init__(message)
        self.message = message
        self.location = SourceLocation.of(location)
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.notes = notes
        self.source = source

    def located(self, location: object) -> Self:
        """Give this error the location, unless it has one already."""
        self.location = self.location or SourceLocation.of(location)
        return self

    def in_file(self, file: str, text: str) -> Self:
        """Say that `text`, which MLIR knows as "-", was read from `file`."""
        if self.location is not None and self.location.file in (PARSED_TEXT, file):
            self.location = replace(self.location, file=file)
            self.source = text
        return self

    @property
    def summary(self) -> str:
        """One line: the message, what was expected, what was found, the remedy."""
        parts = [self.message]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        text = ", ".join(parts)
        return text if self.remedy is None else f"{text}; {self.remedy}"

    def render(self) -> str:
        """Give the paragraph for a user: position, summary, source line with caret, notes."""
        if self.location is None:
            return "\n".join([f"error: {self.summary}", *self._note_lines()])
        text = _read(self.location.file) if self.source is None else self.source
        head = f"{self.location}: error: {self.summary}{caret(text, self.location)}"
        return "\n".join([head, *self._note_lines()])

    def _note_lines(self) -> list[str]:
        return [f"note: {note}" for note in self.notes]

    def __str__(self) -> str:
        """Give position and summary in one line."""
        return self.summary if self.location is None else f"{self.location}: {self.summary}"


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


class UserError(DiagcError):
    """The user's mistake: the message says where, what was expected, what was found."""


class VerificationError(UserError):
    """IR that breaks a rule of a dialect."""


class DiagSyntaxError(UserError):
    """Text that is not a diagram: a `.diag` file, a pipeline, an option."""


class PassError(UserError):
    """A pass cannot do what was asked of it; without a location that of the op it runs on."""


class LoweringError(UserError):
    """A target cannot lower this kernel as it stands."""


class TargetError(UserError):
    """An unknown target, or one that this machine does not have."""


class LaunchError(UserError):
    """Arguments that a compiled kernel does not accept: rank, dtype, sizes, device."""


class MismatchError(DiagcError):
    """A compiled program differs from eager torch by more than rounding: a bug of ours."""

    def __str__(self) -> str:
        """Give all facts: it is met in the middle of a program, as a traceback."""
        return "\n".join([super().__str__(), *self._note_lines()])


class PackageError(UserError):
    """A `.diagpkg` that is unreadable, damaged, or made for another machine."""


class CacheError(UserError):
    """The kernel cache cannot be used: not writable, not private, damaged."""


class UnsupportedError(DiagcError):
    """Something that diagc does not do yet.

    Args:
        op: the operation or feature, by its full name (`aten.sort.default`).
        issue: where progress can be watched, if there is such a place.
    """

    def __init__(
        self,
        op: str,
        *,
        reason: str = "",
        issue: str | None = None,
        location: object = None,
        remedy: str | None = None,
    ) -> None:
        """Name the op; the message is made from it."""
        message = f"'{op}' is not supported yet" + (f": {reason}" if reason else "")
        notes = () if issue is None else (f"progress is tracked in {issue}",)
        super().__init__(message, location=location, remedy=remedy, notes=notes)
        self.op = op
        self.issue = issue


class InternalError(DiagcError):
    """Our bug; the message asks for a report and names the reproducer when one was written.

    Args:
        message: what went wrong.
        location: where in the user's program, if known.
        reproducer: the directory with the reproducer, once there is one.
        files: what a reproducer should hold, text by file name.
    """

    exit_code = 70

    def __init__(
        self,
        message: str,
        *,
        location: object = None,
        reproducer: Path | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, location=location)
        self.files = dict(files or {})
        self.attach(reproducer)

    def attach(self, reproducer: Path | None) -> None:
        """Name the directory with the reproducer in the message."""
        self.reproducer = reproducer
        self.remedy = "this is a bug in diagc, please report it"
        if reproducer is not None:
            self.remedy += f" with the files in {reproducer}"
