"""The `diagc` command: arguments in, a subcommand called, diagnostics and exit status out.

Exit status: 0; 1 for the user's mistakes and for results that differ from eager; 2 for arguments
that argparse refuses; 70 for bugs of ours; 130 when interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TypeAlias

from diagc import __version__, opt
from diagc.arguments import add_pass_arguments, pass_options
from diagc.crash import run_command
from diagc.options import CompileOptions

__all__ = ["main"]

# argparse gives the type of `add_subparsers()` no public name
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_PROGRAM_HELP = "FILE.py or FILE.diag, with :NAME for one program of it"
_EPILOG = """\
a program is a diagram of a .diag file, or a public function or torch.nn.Module of a Python
file, which must also define example_inputs(), a function that gives the tuple of arguments.
A class or function without parameters that makes a Module stands for that Module. Without
':NAME' all programs of the file are taken; names with an underscore do not count.

exit status: 0, 1 (bad input, or a result that differs), 2 (wrong usage), 70 (a bug in diagc)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["opt"]:
        return opt.main(words[1:])
    args = _make_parser().parse_args(words)
    return run_command(f"diagc {args.command}", words[1:], lambda: _dispatch(args))


def _dispatch(args: argparse.Namespace) -> int:
    if args.command == "targets":
        return _targets(args)
    options = CompileOptions(
        target=_target(args.target, args.device),
        device=args.device,
        autotune=args.autotune,
        batch_invariant=args.batch_invariant,
        importer=args.importer,
        reassociate=args.reassociate,
        library=args.library,
        empty_rows=args.empty_rows,
        float32_matmul_precision=args.float32_matmul_precision,
        float8_matmul_precision=args.float8_matmul_precision,
        **pass_options(args),
    )
    if args.command == "run":
        from diagc.commands.run import run

        return run(args, options)
    if args.command == "bisect":
        from diagc.commands.bisect import bisect

        return bisect(args, options)
    from diagc.commands.importing import import_program
    from diagc.commands.inspect import compile_program, draw, explain

    commands = {
        "import": import_program,
        "explain": explain,
        "compile": compile_program,
        "draw": draw,
    }
    return commands[args.command](args, options)


def _targets(args: argparse.Namespace) -> int:
    if args.measure:
        from diagc.commands.measure import measure

        return measure()
    from diagc.commands.inspect import show_targets

    return show_targets()


def _target(target: str, device: str) -> str:
    if not device:
        return target
    from diagc.targets import target_for

    return target_for(target, device)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="diagc",
        description="compile diagrams of tensor programs to streamed, fused kernels",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"diagc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_import(commands)
    _add_compile(commands)
    _add_explain(commands)
    _add_draw(commands)
    text = "find the region, and the pass or kernel, that makes a program differ from eager torch"
    _add_program_command(commands, "bisect", text)
    _add_targets(commands)
    commands.add_parser("opt", help="run passes over .mlir or .diag text; see diagc opt --help")
    return parser


def _add_targets(commands: Subparsers) -> None:
    text = "list the targets, what this machine has, and the devices that are described"
    parser = commands.add_parser("targets", help=text, description=text)
    text = "measure this machine's CPU for the cost model, and keep that; takes seconds"
    parser.add_argument("--measure", action="store_true", help=text)


def _add_program_command(commands: Subparsers, name: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("program", metavar="FILE", help=_PROGRAM_HELP)
    parser.add_argument("--target", default="auto", help="see diagc targets; default auto")
    text = "the device that costs are told for: a name of diagc targets, or a FILE.toml"
    parser.add_argument("--device", default="", metavar="NAME", help=text)
    text = "measure a few schedules of each kernel, and keep the fastest for next time"
    parser.add_argument("--autotune", action="store_true", help=text)
    choices = {"torch-mlir": "its raw torch dialect", "fx": "the operations as they run"}
    text = "rows give the same bits however many there are"
    parser.add_argument("--batch-invariant", action="store_true", help=text)
    _add_choice(parser, "--importer", choices, "what a Python program is read through")
    choices = {"auto": "by cost", "exact": "where rounding allows", "off": "never"}
    _add_choice(parser, "--reassociate", choices, "reorder chains of contractions")
    choices = {"auto": "the library of torch", "none": "kernels"}
    _add_choice(parser, "--library", choices, "what computes lone contractions")
    choices = {"zero": "zeros", "eager": "what torch gives, NaN"}
    _add_choice(parser, "--empty-rows", choices, "results of rows that are masked out whole")
    choices = {"highest": "all digits", "high": "tf32's", "medium": "tf32's"}
    _add_choice(parser, "--float32-matmul-precision", choices, "products of f32 on tensor cores")
    choices = {"highest": "those of f16", "high": "those of f8, of computed operands too"}
    _add_choice(parser, "--float8-matmul-precision", choices, "products with f8 on tensor cores")
    add_pass_arguments(parser)
    return parser


def _add_choice(
    parser: argparse.ArgumentParser, name: str, choices: dict[str, str], text: str
) -> None:
    """Add an option with named values, the first of which is the default."""
    listing = "; ".join(f"{choice}: {meaning}" for choice, meaning in choices.items())
    parser.add_argument(
        name, choices=list(choices), default=next(iter(choices)), help=f"{text} ({listing})"
    )


def _add_run(commands: Subparsers) -> None:
    text = "compile, run, compare with eager torch; show kernels, streams, errors and times"
    parser = _add_program_command(commands, "run", text)
    parser.add_argument("--no-time", action="store_true", help="do not measure times")
    parser.add_argument("--json", action="store_true", help="print one line of JSON a program")
    text = "run kernels for GPUs on the CPU, and check every access (with --target=nvptx)"
    parser.add_argument("--simulate", action="store_true", help=text)


def _add_import(commands: Subparsers) -> None:
    text = "write a Python program as a diagram, with its weights as arguments"
    parser = _add_program_command(commands, "import", text)
    text = "where it goes; default standard output"
    parser.add_argument("-o", dest="output", default="-", metavar="FILE.mlir", help=text)
    parser.add_argument("--dynamic", action="store_true", help="keep all sizes open that can be")
    _add_weights(parser)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    text = "write the weights to a file of safetensors, by name"
    parser.add_argument("--weights", metavar="FILE.safetensors", help=text)


def _add_compile(commands: Subparsers) -> None:
    text = "write a program as it is after a stage, or as a package that runs without a compiler"
    parser = _add_program_command(commands, "compile", text)
    parser.add_argument("--emit", metavar="STAGE", help="which stage; default kernels")
    text = "where it goes; FILE.diagpkg is a package, for diagc.runtime.load"
    parser.add_argument("-o", dest="output", default="-", metavar="FILE", help=text)
    text = "put parameters into the package"
    parser.add_argument("--with-weights", action="store_true", help=text)
    _add_weights(parser)
    text = "keep all sizes of the package open that can be"
    parser.add_argument("--dynamic", action="store_true", help=text)
    text = "programs with other tiles and forms in the package, at most; load() chooses by shape"
    parser.add_argument("--variants", type=int, default=1, metavar="N", help=text)


def _add_explain(commands: Subparsers) -> None:
    text = "say what was fused and why, and what stays outside; or derive a normaliser by its name"
    parser = _add_program_command(commands, "explain", text)
    parser.add_argument("--json", action="store_true", help="the same as --format=json")
    choices = {"text": "for people", "json": "for programs", "html": "one page with pictures"}
    _add_choice(parser, "--format", choices, "what is written")
    text = "run it on its example inputs, and tell measured beside predicted times"
    parser.add_argument("--measure", action="store_true", help=text)
    parser.add_argument("-o", dest="output", default="-", metavar="FILE", help="where it goes")


def _add_draw(commands: Subparsers) -> None:
    text = "draw a program as a neural circuit diagram, as written or after any pass"
    parser = _add_program_command(commands, "draw", text)
    text = "FILE.svg, FILE.png or FILE.pdf; - for SVG on standard output; default NAME.svg"
    parser.add_argument("-o", dest="output", metavar="FILE", help=text)
    when = parser.add_mutually_exclusive_group()
    text = "the program as it is behind this pass or stage"
    when.add_argument("--after", metavar="PASS", help=text)
    when.add_argument("--before", metavar="PASS", help="likewise, before it")
    parser.add_argument("--width", type=float, metavar="PX", help="where long diagrams wrap")


if __name__ == "__main__":
    sys.exit(main())
