"""`diagc run`: compile, run, compare, and show kernels, errors and times in a table.

A torch program is compared with eager torch, both against float64; a diagram with the float64
meaning of its ops. With --simulate kernels for GPUs run in the simulator, whose report is shown.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from diagc.commands.kernel_checks import MOST_OPERATIONS, KernelCheck, check_kernels
from diagc.commands.kernel_estimates import estimate_kernels, with_measurements
from diagc.commands.load import load_programs
from diagc.commands.program import Compiled, DiagramProgram, Program, TorchProgram, require_device
from diagc.commands.progress import progress
from diagc.commands.simulated import SimulatedProgram
from diagc.commands.timing import Timing, time_calls
from diagc.options import CompileOptions, require_gpu_target
from diagc.runtime.comparison import Comparison, compare, compare_with
from diagc.runtime.kernel_times import KernelTime, time_kernels
from diagc.targets import get_target

if TYPE_CHECKING:
    from diagc.simulator import Report as SimulatorReport

__all__ = ["run"]

_NONE = "–"
_KERNELS_NOTE = (
    "kernels: error over the largest value, against float64 on the arguments that they got, of the "
    f"first calls up to {MOST_OPERATIONS:.0e} operations; "
    "time of all calls in a run, each waited for, and its share of that run"
)
_FILE_WIDTH = 120
"""Columns of the table where no terminal says how many it has."""


@dataclass(frozen=True)
class Outcome:
    """What there is to tell about one program; `report` is `explain(format="json")`."""

    name: str
    report: dict[str, Any]
    comparison: Comparison
    timing: Timing | None
    kernels: Sequence[KernelCheck] = ()
    kernel_times: Sequence[KernelTime | None] = ()
    simulation: "SimulatorReport | None" = None

    @property
    def good(self) -> bool:
        """Whether the numbers are right, and the simulator, if it was asked, found nothing."""
        return self.comparison.equal and (self.simulation is None or self.simulation.clean)


def run(args: argparse.Namespace, options: CompileOptions) -> int:
    """Do the command; the result is 1 when a program is wrong, or its simulation has findings."""
    good = True
    if args.simulate:
        require_gpu_target(options)
    with progress(f"loading {args.program}"):
        programs = load_programs(args.program)
    for program in programs:
        timed = not args.no_time and not args.simulate
        outcome = _run_program(program, options, timed, args.simulate)
        (_print_json if args.json else _print_table)(outcome)
        good &= outcome.good
    return 0 if good else 1


def _run_program(program: Program, options: CompileOptions, timed: bool, simulate: bool) -> Outcome:
    if isinstance(program, TorchProgram) and isinstance(program.function, torch.nn.Module):
        program.function.eval()  # dropout would make every run differ
    device = "cpu" if simulate else get_target(options.target).device
    require_device(device)
    with progress(f"compiling {program.name}"):
        compiled = program.compile(options)
        compiled = SimulatedProgram(compiled) if simulate else compiled
    program = program.on(device)
    with progress(f"running and comparing {program.name}"):
        comparison = _compare(program, compiled)
        peer = _peer(program)
        timing = time_calls(compiled, peer, program.inputs) if timed else None
    kernels: Sequence[KernelCheck] = ()
    times: Sequence[KernelTime | None] = ()
    if not simulate:
        with progress(f"checking the kernels of {program.name}"):
            lowered, inputs = compiled.bind(*program.inputs)
            times = time_kernels(lowered, inputs) if timed else ()
            general = program.emit("general", options)
            if timed:
                estimates = estimate_kernels(lowered, times, general, options)
                with_measurements(lowered, times, estimates)
            kernels = check_kernels(lowered, inputs, general, options)
    report = json.loads(compiled.explain(format="json"))
    simulation = compiled.simulation if isinstance(compiled, SimulatedProgram) else None
    return Outcome(program.name, report, comparison, timing, kernels, times, simulation)


def _compare(program: Program, compiled: Compiled) -> Comparison:
    if isinstance(program, TorchProgram):
        return compare(program.function, compiled, program.inputs)
    assert isinstance(program, DiagramProgram)
    reference = [torch.as_tensor(array) for array in program.reference()]
    return compare_with(reference, [result.cpu() for result in compiled(*program.inputs)])


def _peer(program: Program) -> Callable[..., Any] | None:
    return program.function if isinstance(program, TorchProgram) else None


# ---- showing ---------------------------------------------------------------------------------


def _print_json(outcome: Outcome) -> None:
    print(
        json.dumps(
            {
                "program": outcome.name,
                "report": outcome.report,
                "comparison": {**asdict(outcome.comparison), "equal": outcome.comparison.equal},
                "seconds": None if outcome.timing is None else asdict(outcome.timing),
                "kernels": [asdict(check) for check in outcome.kernels],
                "kernel_times": [time and asdict(time) for time in outcome.kernel_times],
                "simulation": None if outcome.simulation is None else outcome.simulation.to_json(),
            }
        )
    )


def _print_table(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=outcome.name, title_justify="left")
    table.add_column("kernel", no_wrap=True)
    for column in ("derived stream", "calls", "max error", "time", "share", "time ratio", "cache"):
        table.add_column(column, overflow="fold")
    kernels = outcome.report["kernels"]
    checks = outcome.kernels or [KernelCheck(kernel["name"]) for kernel in kernels]
    times = outcome.kernel_times or [None] * len(kernels)
    for kernel, check, time in zip(kernels, checks, times, strict=True):
        streams = "\n".join(map(_stream_text, kernel["streams"])) or "none"
        cells = _kernel_cells(check, time)
        table.add_row(kernel["name"], streams, str(kernel["calls"]), *cells, _NONE, kernel["cache"])
    whole = _NONE if outcome.timing is None else _milliseconds(outcome.timing.compiled)
    error, ratio = f"{outcome.comparison.error:.1e}", _ratio(outcome.timing)
    table.add_section()
    table.add_row("whole program", "", "", error, whole, "", ratio, "")
    width = None if sys.stdout.isatty() else _FILE_WIDTH
    console = Console(file=sys.stdout, highlight=False, markup=False, width=width)
    console.print(table)
    if outcome.simulation is not None:
        console.print(str(outcome.simulation), soft_wrap=True)
    for line in _summary(outcome):
        console.print(line, soft_wrap=True)


def _stream_text(stream: dict[str, Any]) -> str:
    return "\n".join([f"along {stream['axis']}", *stream["law"]])


def _kernel_cells(check: KernelCheck, time: KernelTime | None) -> tuple[str, str, str]:
    """Error, time, share."""
    error = _NONE if check.error is None else f"{check.error:.1e} rel."
    if time is None:
        return error, _NONE, _NONE
    return error, _milliseconds(time.seconds), f"{time.share:.0%}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms"


def _ratio(timing: Timing | None) -> str:
    return _NONE if timing is None or timing.ratio is None else f"{timing.ratio:.2f}"


def _predicted(kernel: dict[str, Any]) -> str | None:
    """What the cost model says of a kernel that was timed."""
    estimate, measured = kernel["estimate"], kernel["measured_seconds"]
    if estimate is None or measured is None:
        return None
    least = _milliseconds(estimate["seconds"])
    ratio = f"{measured / estimate['seconds']:.2f}"
    where = f"on {estimate['device']}, bound by {estimate['bound']}"
    return f"{kernel['name']}: {least} at least {where}; measured {ratio} times that"


def _summary(outcome: Outcome) -> list[str]:
    lines = [outcome.comparison.text()]
    if outcome.timing is not None:
        lines.append(outcome.timing.text())
    if outcome.kernels:
        lines.append(_KERNELS_NOTE)
    lines += filter(None, map(_predicted, outcome.report["kernels"]))
    outside = [f"{item['what']} x {item['calls']}" for item in outcome.report["outside"]]
    if outside:
        lines.append(f"outside: {', '.join(outside)}")
    if outcome.report["fall_back"]:
        lines.append("fall-back: not all kernels are code of the target; see diagc explain")
    return lines
