"""`diagc run`: compile, run, compare with eager, and show kernels, errors and times in a table."""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch

import diagc
from diagc.commands.comparison import Comparison, Timing, compare, time_both
from diagc.commands.program import Program, load_programs
from diagc.commands.progress import progress

__all__ = ["run"]


@dataclass(frozen=True)
class Outcome:
    """What there is to tell about one program."""

    program: Program
    compiled: Any
    comparison: Comparison
    timing: Timing | None


def run(args: argparse.Namespace, options: dict[str, Any]) -> int:
    """Do the command; the result is 1 when a program differs from eager."""
    outcomes = [_run_program(program, args, options) for program in load_programs(args.program)]
    show = _print_json if args.json else _print_table
    for outcome in outcomes:
        show(outcome)
    return 0 if all(outcome.comparison.equal for outcome in outcomes) else 1


def _run_program(program: Program, args: argparse.Namespace, options: dict[str, Any]) -> Outcome:
    if isinstance(program.function, torch.nn.Module):
        program.function.eval()  # dropout would make every run differ
    with progress(f"compiling {program.name}"):
        compiled = diagc.compile(program.function, *program.inputs, **options)
    with progress(f"comparing {program.name} with eager torch"):
        comparison = compare(program.function, compiled, program.inputs)
        timing = None if args.no_time else time_both(program.function, compiled, program.inputs)
    return Outcome(program, compiled, comparison, timing)


def _kernel_rows(compiled: Any) -> list[dict[str, Any]]:
    return [
        {
            "kernel": kernel.name,
            "streams": list(kernel.streams),
            "target": kernel.target,
            "cache": kernel.cache,
        }
        for kernel in compiled.kernels
    ]


def _print_json(outcome: Outcome) -> None:
    print(
        json.dumps(
            {
                "program": outcome.program.name,
                "kernels": _kernel_rows(outcome.compiled),
                "outside": list(outcome.compiled.outside),
                "comparison": {**asdict(outcome.comparison), "equal": outcome.comparison.equal},
                "seconds": None if outcome.timing is None else asdict(outcome.timing),
            }
        )
    )


def _print_table(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=outcome.program.name, title_justify="left")
    for column in ("kernel", "derived stream", "target", "cache"):
        table.add_column(column, overflow="fold")
    for row in _kernel_rows(outcome.compiled):
        streams = "\n".join(row["streams"]) or "none"
        table.add_row(row["kernel"], streams, row["target"], row["cache"])
    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.print(table)
    for line in _summary(outcome):
        console.print(line, soft_wrap=True)


def _summary(outcome: Outcome) -> list[str]:
    comparison, timing = outcome.comparison, outcome.timing
    verdict = "equal to eager" if comparison.equal else "DIFFERS FROM EAGER"
    lines = [
        f"max error   {comparison.error:.2e}, eager {comparison.eager_error:.2e}, "
        f"against {comparison.reference}: {verdict}"
    ]
    if timing is not None:
        lines.append(
            f"time        {timing.compiled * 1e3:.3f} ms, eager {timing.eager * 1e3:.3f} ms, "
            f"ratio {timing.ratio:.2f}"
        )
    if outcome.compiled.outside:
        lines.append(f"left in torch: {', '.join(outcome.compiled.outside)}")
    return lines
