"""`diagc opt`, also called `diagc-opt`: mlir-opt for the diag dialect.

Reads `.mlir` (or `.diag`) text, runs passes, prints the result. Starts without torch, and `--help`
without MLIR.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diagc import diagnostics
from diagc.arguments import add_pass_arguments, pass_options
from diagc.crash import reproducible, run_command
from diagc.errors import DiagcError, InternalError
from diagc.files import STANDARD, read_text, write_text
from diagc.options import CompileOptions

if TYPE_CHECKING:
    from diagc.diagnostics import Diagnostic
    from diagc.mlir import ir
    from diagc.passes.pipeline import Pipeline

__all__ = ["main"]

_SEPARATOR = re.compile(r"^\s*// -----\s*$")
_PASS_FLAG = re.compile(r"--?(?P<name>[A-Za-z][\w-]*)(?:=(?P<options>.*))?", re.DOTALL)

# `llvmir` and `ptx` are of a module with one gpu.module that is in the llvm dialect
_FORMS = ("mlir", "diag", "llvmir", "ptx")

_EPILOG = """\
passes can also be named one by one, with their options:
  diagc opt x.mlir --canonicalize-diag --derive-streams="limit=256" --cse
--show-passes lists the passes of diagc; all of MLIR's own passes are there as well."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is the exit status: 0, 1 (bad input), 70 (a bug of ours)."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return run_command("diagc opt", words, lambda: _main(words))


def _main(arguments: list[str]) -> int:
    parser = _make_parser()
    args, flags = parser.parse_known_args(arguments)
    if args.show_passes:
        print(_list_passes())
        return 0
    pipeline_text = _pipeline_text(args.pass_pipeline, flags, parser)
    runner = _Runner(args, _make_pipeline(pipeline_text, CompileOptions(**pass_options(args))))
    ok = True
    for number, chunk in enumerate(_split(read_text(args.file), args.split_input_file)):
        ok &= runner.process(number, chunk)
    if ok or args.output == STANDARD:  # never replace a file by half a result
        write_text(args.output, "// -----\n".join(runner.outputs))
    return 0 if ok else 1


# ---- arguments -------------------------------------------------------------------------------


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="diagc opt",
        description="run passes over a .mlir or .diag file and print the result",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("file", nargs="?", default=STANDARD, help="input file; '-' (default) is standard input")
    add("-o", dest="output", default=STANDARD, metavar="FILE", help="where the result goes")
    add("--pass-pipeline", default="", metavar="TEXT", help="'builtin.module(func.func(cse))'")
    add("--split-input-file", action="store_true", help="treat parts between '// -----' apart")
    add("--verify-diagnostics", action="store_true", help="compare with expected-* comments")
    add("--emit", choices=_FORMS, default="mlir", help="form of the result")
    add("--print-op-generic", action="store_true", help="print all ops in generic form")
    add("--print-debuginfo", action="store_true", help="print locations")
    add("--show-passes", action="store_true", help="list the passes of diagc")
    add_pass_arguments(parser)
    return parser


def _pipeline_text(pipeline: str, flags: list[str], parser: argparse.ArgumentParser) -> str:
    """Join `--pass-pipeline` and `--<pass>=<options>` flags; flags are nested where they belong."""
    if not flags:
        return pipeline
    if pipeline:
        parser.error(f"give either --pass-pipeline or single passes, found also {flags[0]}")
    return ",".join(_flag_text(flag, parser) for flag in flags)


def _flag_text(flag: str, parser: argparse.ArgumentParser) -> str:
    from diagc.passes import find_pass, is_pass

    match = _PASS_FLAG.fullmatch(flag)
    if match is None:
        parser.error(f"unknown argument {flag}")
    name, options = match["name"], match["options"]
    text = f"{name}{{{options}}}" if options else name
    anchor = find_pass(name).anchor if is_pass(name) else "any"
    return text if anchor in ("any", "builtin.module") else f"{anchor}({text})"


def _make_pipeline(text: str, options: CompileOptions) -> "Pipeline":
    from diagc.context import make_context
    from diagc.passes.pipeline import Pipeline

    with make_context():
        return Pipeline(text, options)


def _list_passes() -> str:
    from diagc.passes import find_pass, pass_names

    lines = []
    for name in pass_names():
        pass_class = find_pass(name)
        lines.append(f"  {name:26} {pass_class.summary()}")
        lines += [f"      {option}={value}" for option, value in pass_class.options().items()]
    return "\n".join(lines)


def _split(text: str, split: bool) -> list[str]:
    """Cut at `// -----`; each part keeps its line numbers by empty lines before it."""
    if not split:
        return [text]
    parts: list[list[str]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        if _SEPARATOR.match(line):
            parts.append([""] * number)
        else:
            parts[-1].append(line)
    return ["\n".join(part) for part in parts]


# ---- work ------------------------------------------------------------------------------------


class _Runner:
    """Processes the parts of one input; collects what is to be printed."""

    def __init__(self, args: argparse.Namespace, pipeline: "Pipeline") -> None:
        self._args = args
        self._pipeline = pipeline
        self.outputs: list[str] = []

    def process(self, number: int, text: str) -> bool:
        """Run the passes over one part; whether all went as it should."""
        found: list[Diagnostic] = []
        with reproducible({f"part{number}.txt": text}):
            ok = self._collect(text, found)
        if self._args.verify_diagnostics:
            from diagc.testing.verify_diagnostics import mismatches

            wrong = mismatches(text, found, self._args.file)
            print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
            return not wrong
        if found:
            print(diagnostics.render(found, text, self._args.file), file=sys.stderr)
        return ok

    def _collect(self, text: str, found: "list[Diagnostic]") -> bool:
        """Process `text`; diagnostics of all kinds go to `found`."""
        from diagc.context import make_context
        from diagc.mlir import ir

        def keep(diagnostic: ir.Diagnostic) -> bool:
            found.extend(diagnostics.from_mlir(diagnostic))
            return True

        with make_context() as context:
            handler = context.attach_diagnostic_handler(keep)
            try:
                self.outputs.append(self._transform(text))
            except (DiagcError, ir.MLIRError) as error:
                if isinstance(error, InternalError) and not self._args.verify_diagnostics:
                    error.in_file(self._args.file, text)
                    raise
                found.extend(diagnostics.from_error(error))
                return False
            finally:
                handler.detach()
        return True

    def _transform(self, text: str) -> str:
        from diagc.passes.verification import verify_module

        module = _parse(text, self._args.file)
        verify_module(module)
        self._pipeline.run(module)
        if not self._pipeline.options.verify_each:
            verify_module(module)
        return self._print(module)

    def _print(self, module: "ir.Module") -> str:
        if self._args.verify_diagnostics:
            return ""
        if self._args.emit == "diag":
            from diagc.frontend.text.printer import print_module

            return print_module(module).rstrip("\n") + "\n"
        if self._args.emit in ("llvmir", "ptx"):
            from diagc.targets.nvptx.pipeline import module_llvm, module_ptx

            make = module_llvm if self._args.emit == "llvmir" else module_ptx
            return make(module).rstrip("\n") + "\n"
        text = module.operation.get_asm(
            use_name_loc_as_prefix=True,
            assume_verified=True,
            print_generic_op_form=self._args.print_op_generic,
            enable_debug_info=self._args.print_debuginfo,
        )
        return str(text).rstrip("\n") + "\n"


def _parse(text: str, file: str) -> "ir.Module":
    if file.endswith(".diag"):
        from diagc.frontend.text import parse

        return parse(text, file)
    from diagc.mlir import ir

    return ir.Module.parse(text)


if __name__ == "__main__":
    sys.exit(main())
