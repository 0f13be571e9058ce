"""From `FILE.py`, `FILE.py:name`, `FILE.diag` or `FILE.diag:name` to programs."""

from collections.abc import Sequence
from pathlib import Path

from diagc.commands.program import Program
from diagc.commands.progress import progress
from diagc.errors import UserError

__all__ = ["load_program", "load_programs", "split_spec"]


def load_programs(spec: str) -> Sequence[Program]:
    """Collect the programs of the file that `spec` names.

    Raises:
        UserError: the file cannot be read, or holds no such program.
    """
    path, name = split_spec(spec)
    if path.suffix == ".diag":
        from diagc.commands.diagram_file import load_diagrams

        return load_diagrams(path, name)
    from diagc.commands.python_file import load_python

    return load_python(path, name)


def load_program(spec: str) -> Program:
    """The one program that `spec` names.

    Raises:
        UserError: as `load_programs`, or the file holds several.
    """
    with progress(f"loading {spec}"):
        programs = load_programs(spec)
    if len(programs) > 1:
        names = ", ".join(program.name for program in programs)
        message = f"{spec} holds {len(programs)} programs"
        raise UserError(message, expected=f"one, {spec}:NAME", found=names)
    return programs[0]


def split_spec(spec: str) -> tuple[Path, str | None]:
    """Take `FILE:name` apart; a colon inside an existing file's name belongs to the file.

    Raises:
        UserError: there is no such file.
    """
    file, colon, name = spec.rpartition(":")
    named = bool(colon) and not Path(spec).exists()
    path = Path(file if named else spec)
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        expected = "FILE.py, FILE.diag or FILE:name"
        raise UserError(f"cannot read {path}", expected=expected, found=found)
    return path, name if named else None
