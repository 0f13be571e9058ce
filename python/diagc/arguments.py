"""Command-line arguments that several commands share, and what they mean for the compiler."""

import argparse
from pathlib import Path
from typing import Any

from diagc.options import CompileOptions

__all__ = ["add_pass_arguments", "pass_options"]


def add_pass_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments about passes: printing, dumping, timing, checking."""
    add = parser.add_argument
    for when in ("before", "after"):
        text = f"print the IR {when} this pass, or 'all'; may be repeated"
        add(f"--print-ir-{when}", action="append", default=[], metavar="PASS", help=text)
    add("--dump-dir", type=Path, metavar="DIR", help="write the IR after every pass to a file")
    add("--timing", action="store_true", help="print the time of every pass")
    add("--validate", action="store_true", help="check derived streams on random f64 data")
    add("--no-verify-each", action="store_true", help="do not verify after every pass")


def pass_options(args: argparse.Namespace) -> dict[str, Any]:
    """Give the fields of `CompileOptions` that the arguments ask for; the rest keep defaults."""
    defaults = CompileOptions()
    return {
        "validate": args.validate or defaults.validate,
        "verify_each": not args.no_verify_each,
        "print_ir_before": tuple(args.print_ir_before),
        "print_ir_after": tuple(args.print_ir_after),
        "dump_dir": args.dump_dir or defaults.dump_dir,
        "timing": args.timing,
    }
