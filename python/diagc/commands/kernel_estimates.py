"""What the cost model says of each kernel at the sizes that a program really has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.report import EstimateReport
from diagc.report.collect import predicted
from diagc.runtime.kernel_times import KernelTime
from diagc.targets import get_target

if TYPE_CHECKING:
    from diagc.runtime.program import Program

__all__ = ["estimate_kernels", "with_measurements"]


def estimate_kernels(
    program: "Program",
    times: Sequence[KernelTime | None],
    general: str,
    options: CompileOptions,
) -> list[EstimateReport | None]:
    """Predictions for the first launch of every kernel; None for one that is interpreted.

    Args:
        program: compiled, with its report.
        times: of its kernels, with the sizes of their first launches.
        general: text of its module at the stage `general`, where its kernels stand in order.
        options: that it was compiled with.
    """
    target = get_target(options.target)
    device = target.describe(options.device)
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(general)
        functions = [op for op in diag.functions(module) if diag.is_kernel(op)]
        return [
            None if time is None else predicted(function, kernel, time.sizes, target, device)
            for function, kernel, time in zip(functions, program.kernels, times, strict=True)
        ]


def with_measurements(
    program: "Program",
    times: Sequence[KernelTime | None],
    estimates: Sequence[EstimateReport | None],
) -> None:
    """Put what was measured and predicted at the same sizes into the program's report."""
    report = program.report
    assert report is not None, "a compiled program has a report"
    kernels = [
        kernel
        if time is None
        else replace(kernel, estimate=estimate, measured_seconds=time.seconds / time.launches)
        for kernel, time, estimate in zip(report.kernels, times, estimates, strict=True)
    ]
    program.report = replace(report, kernels=kernels)
