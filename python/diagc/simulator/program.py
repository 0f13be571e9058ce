"""Whole programs whose GPU kernels are simulated; everything else of them runs as ever."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diagc.cost import Traffic
from diagc.simulator.kernel import SimulatedKernel
from diagc.simulator.launch import SimulatorOptions
from diagc.simulator.report import Counters, Report

if TYPE_CHECKING:
    from diagc.runtime.program import Program

__all__ = ["program_report", "simulated_program"]


def simulated_program(
    program: "Program",
    options: SimulatorOptions | None = None,
    kernel_class: type[SimulatedKernel] = SimulatedKernel,
) -> "Program":
    """The same program on the CPU, with every kernel for a GPU in the simulator.

    Args:
        program: compiled for the target nvptx.
        options: how to simulate.
        kernel_class: what takes the place of each kernel for a GPU.
    """
    from diagc.runtime.program import Program  # torch

    loaded: Sequence[Any] = program.kernels
    kernels = [
        kernel_class(kernel.kernel, kernel.llvm_text, options)
        if hasattr(kernel, "llvm_text")
        else kernel
        for kernel in loaded
    ]
    made = Program(program.inputs, program.steps, program.outputs, kernels, program.externs)
    made.report = program.report
    return made


def program_report(program: "Program") -> Report:
    """What all kernels of a simulated program have reported so far, kernel by kernel."""
    kernels = [kernel for kernel in program.kernels if isinstance(kernel, SimulatedKernel)]
    checking = all(kernel.options.checking for kernel in kernels)
    reports = [report for kernel in kernels for report in kernel.reports]
    total = sum(reports, Report((), (), Counters(), checking, 0.0))
    return replace(total, predicted=_predicted(program))


def _predicted(program: "Program") -> Traffic | None:
    """Global traffic of all calls so far; None unless it is predicted for every kernel."""
    if program.report is None:
        return None
    total = Traffic()
    for kernel, known in zip(program.kernels, program.report.kernels, strict=True):
        if not isinstance(kernel, SimulatedKernel) or not kernel.options.checking:
            return None
        if known.read_bytes is None or known.written_bytes is None:
            return None
        total += Traffic(known.read_bytes, known.written_bytes) * len(kernel.reports)
    return total
