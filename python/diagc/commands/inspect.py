"""`diagc explain`, `diagc compile` and `diagc targets`: what is made of a program, and for what."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from diagc.commands.load import load_programs
from diagc.commands.package import SUFFIX, write_package
from diagc.commands.program import Program
from diagc.commands.progress import progress
from diagc.errors import UserError
from diagc.files import write_text
from diagc.options import CompileOptions

__all__ = ["compile_program", "explain", "show_targets"]

_STAGE = "kernels"


def explain(args: argparse.Namespace, options: CompileOptions) -> int:
    """Print what was fused and why; of a normaliser's name, how it is computed in a stream."""
    from diagc.algebra.normalizers import NORMALIZERS

    if args.program in NORMALIZERS:
        from diagc.normalizers import derive

        proof = derive(args.program)
        print(json.dumps(asdict(proof)) if args.json else proof)
        return 0
    for program in _load(args.program):
        with progress(f"compiling {program.name}"):
            compiled = program.compile(options)
        print(compiled.explain(format="json" if args.json else "text"))
    return 0


def _load(spec: str) -> Sequence[Program]:
    with progress(f"loading {spec}"):
        return load_programs(spec)


def compile_program(args: argparse.Namespace, options: CompileOptions) -> int:
    """Write the program as it is after a stage, or as a package, by the name of the output."""
    programs = _load(args.program)
    if len(programs) > 1:
        raise UserError(
            f"{args.program} holds {len(programs)} programs",
            expected=f"one, {args.program}:NAME",
            found=", ".join(program.name for program in programs),
        )
    if args.output.endswith(SUFFIX):
        return write_package(programs[0], args, options)
    if args.with_weights or args.dynamic:
        expected = f"-o FILE{SUFFIX} with them"
        raise UserError("--with-weights and --dynamic are for packages", expected=expected)
    with progress(f"compiling {programs[0].name}"):
        text = programs[0].emit(args.emit or _STAGE, options)
    write_text(args.output, text if text.endswith("\n") else f"{text}\n")
    return 0


def show_targets() -> int:
    """List all targets, with the reason where this machine lacks one."""
    from diagc.targets import list_targets

    for target in list_targets():
        state = "available" if target.available else f"not here: {target.why_not}"
        print(f"{target.name:8} {target.description}; {state}")
    return 0
