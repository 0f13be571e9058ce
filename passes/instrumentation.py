"""What watches a pipeline run: IR printing, IR dumps into a directory, timing of every pass."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import perf_counter

from diagc.errors import UserError
from diagc.mlir import ir
from diagc.options import CompileOptions

__all__ = ["Dumper", "Instrumentation", "IrPrinter", "PassTime", "Timer", "print_op"]


class Instrumentation:
    """Told before and after every pass on every op; the default does nothing."""

    def before(self, name: str, op: ir.Operation) -> None:
        """Pass `name` is about to run on `op`."""

    def after(self, name: str, op: ir.Operation) -> None:
        """Pass `name` has changed `op`, which verifies."""


def print_op(op: ir.Operation) -> str:
    """Give the text of `op` with the names of the user's program as SSA names.

    The verifier is not run again: it costs 30 µs an op and has run already.
    """
    return str(op.get_asm(use_name_loc_as_prefix=True, assume_verified=True))


def _symbol(op: ir.Operation) -> str:
    name = op.attributes.get("sym_name")
    return "" if name is None else f" ('@{ir.StringAttr(name).value}')"


@dataclass(frozen=True)
class IrPrinter(Instrumentation):
    """Print the IR on stderr before and after the chosen passes, in the form mlir-opt uses."""

    options: CompileOptions

    def before(self, name: str, op: ir.Operation) -> None:
        """Print when `print_ir_before` asks for this pass."""
        self._print("Before", self.options.print_ir_before, name, op)

    def after(self, name: str, op: ir.Operation) -> None:
        """Print when `print_ir_after` asks for this pass."""
        self._print("After", self.options.print_ir_after, name, op)

    def _print(self, when: str, chosen: tuple[str, ...], name: str, op: ir.Operation) -> None:
        if name not in chosen and "all" not in chosen:
            return
        head = f"// -----// IR Dump {when} {name}{_symbol(op)} //----- //"
        print(f"{head}\n{print_op(op).rstrip()}\n", file=sys.stderr)


class Dumper(Instrumentation):
    """Write the IR after every pass to `<directory>/<number>-<pass>[-@<symbol>].mlir`."""

    def __init__(self, directory: Path) -> None:
        """Make the directory.

        Raises:
            UserError: it cannot be made.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the dump directory {directory}", found=error.strerror
            ) from None
        self._directory = directory
        self._numbers = count()

    def after(self, name: str, op: ir.Operation) -> None:
        """Write one file; the files sort in the order of the run."""
        symbol = _symbol(op).strip(" ()'")
        stem = f"{next(self._numbers):03}-{name}" + (f"-{symbol}" if symbol else "")
        (self._directory / f"{stem}.mlir").write_text(print_op(op), encoding="utf-8")


@dataclass
class PassTime:
    """How often a pass ran and how long it took in all, in seconds, verification apart."""

    runs: int = 0
    seconds: float = 0.0
    verify_seconds: float = 0.0


@dataclass
class Timer:
    """Times by pass name, in the order in which passes ran first."""

    passes: dict[str, PassTime] = field(default_factory=dict)

    @contextmanager
    def run(self, name: str) -> Iterator[None]:
        """Count the block as one run of pass `name`, also when it fails."""
        record = self.passes.setdefault(name, PassTime())
        start = perf_counter()
        try:
            yield
        finally:
            record.runs += 1
            record.seconds += perf_counter() - start

    @contextmanager
    def verify(self, name: str) -> Iterator[None]:
        """Count the block as verification after pass `name`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.passes[name].verify_seconds += perf_counter() - start

    @property
    def seconds(self) -> float:
        """The time of all passes with verification."""
        return sum(record.seconds + record.verify_seconds for record in self.passes.values())

    def report(self) -> str:
        """Give a table, one line a pass: milliseconds, share, milliseconds of verifying, runs."""
        total = self.seconds or 1.0
        rows = [
            f"{r.seconds * 1e3:9.2f} {(r.seconds + r.verify_seconds) / total:7.1%} "
            f"{r.verify_seconds * 1e3:9.2f} {r.runs:5}  {name}"
            for name, r in self.passes.items()
        ]
        head = "  run ms   share  verify ms  runs  pass"
        return "\n".join([head, *rows, f"{self.seconds * 1e3:9.2f} ms in all"])
