"""`diagc explain`, `diagc compile` and `diagc targets`: what is made of a program, and for what."""

import argparse
import sys
from pathlib import Path
from typing import Any

import diagc
from diagc.commands.program import load_programs
from diagc.commands.progress import progress
from diagc.errors import UserError

__all__ = ["compile_program", "explain", "show_targets"]


def explain(args: argparse.Namespace, options: dict[str, Any]) -> int:
    """Print what was fused and why."""
    for program in load_programs(args.program):
        with progress(f"compiling {program.name}"):
            compiled = diagc.compile(program.function, *program.inputs, **options)
        print(compiled.explain(format="json" if args.json else "text"))
    return 0


def compile_program(args: argparse.Namespace, options: dict[str, Any]) -> int:
    """Write the program as it is after a stage."""
    programs = load_programs(args.program)
    if len(programs) > 1:
        names = ", ".join(program.name for program in programs)
        raise UserError(
            f"{args.program} holds {len(programs)} programs",
            expected=f"one: {args.program}:NAME",
            found=names,
        )
    with progress(f"compiling {programs[0].name}"):
        compiled = diagc.compile(programs[0].function, *programs[0].inputs, **options)
    _write(args.output, compiled.emit(args.emit))
    return 0


def _write(file: str, text: str) -> None:
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {file}", found=error.strerror) from None


def show_targets() -> int:
    """List all targets, with the reason where this machine lacks one."""
    from diagc.targets import list_targets

    for target in list_targets():
        state = "available" if target.available else f"not here: {target.why_not}"
        print(f"{target.name:8} {target.description}; {state}")
    return 0
