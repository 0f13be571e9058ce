"""Diagnostics as data: MLIR's and our own in one form, shown with the source line and a caret."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from diagc.errors import PARSED_TEXT, DiagcError, SourceLocation, caret

__all__ = ["Diagnostic", "from_error", "from_mlir", "render"]

# MLIR's note with the offending op in full; the caret shows the op, so nobody misses it.
_OP_NOTE = "see current operation"


@dataclass(frozen=True)
class Diagnostic:
    """One message; a note follows the diagnostic that it belongs to."""

    severity: str
    """`error`, `warning`, `remark` or `note`."""
    message: str
    location: SourceLocation | None = None


def from_mlir(diagnostic: Any, severity: str | None = None) -> Iterator[Diagnostic]:
    """Convert an `ir.Diagnostic` or `ir.DiagnosticInfo` with its notes."""
    kind = severity or str(diagnostic.severity).rsplit(".", 1)[-1].lower()
    yield Diagnostic(kind, diagnostic.message, SourceLocation.of(diagnostic.location))
    for note in diagnostic.notes:
        if not note.message.startswith(_OP_NOTE):
            yield from from_mlir(note, "note")


def from_error(error: Exception) -> list[Diagnostic]:
    """Convert a DiagcError or an `ir.MLIRError`."""
    if isinstance(error, DiagcError):
        notes = [Diagnostic("note", note, error.location) for note in error.notes]
        return [Diagnostic("error", error.summary, error.location), *notes]
    listed = getattr(error, "error_diagnostics", ())
    found = [diagnostic for item in listed for diagnostic in from_mlir(item)]
    return found or [Diagnostic("error", str(error).strip())]


def render(diagnostics: Iterable[Diagnostic], text: str, file: str) -> str:
    """Show diagnostics about `text`, which was read from `file`, one after the other."""
    return "\n".join(_render(diagnostic, text, file) for diagnostic in diagnostics)


def _render(diagnostic: Diagnostic, text: str, file: str) -> str:
    where = diagnostic.location
    if where is None:
        return f"{file}: {diagnostic.severity}: {diagnostic.message}"
    in_text = where.file in (PARSED_TEXT, file)
    shown = SourceLocation(file, where.line, where.column) if in_text else where
    line = caret(text, where) if in_text else ""
    return f"{shown}: {diagnostic.severity}: {diagnostic.message}{line}"
