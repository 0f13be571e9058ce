"""What each kernel of a program does on the arrays that it really gets: its error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from diagc.context import make_context
from diagc.cost import kernel_cost
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.runtime.comparison import max_error
from diagc.runtime.host_kernel import HostKernel, host_array
from diagc.runtime.planned_kernel import PlannedKernel
from diagc.runtime.torch_launch import TORCH_DTYPES, call
from diagc.targets import get_target

if TYPE_CHECKING:
    import numpy as np

    from diagc.runtime.program import Program

__all__ = ["MOST_OPERATIONS", "KernelCheck", "check_kernels"]

MOST_OPERATIONS = 10**10
"""The interpreter evaluates the first calls of a kernel, up to so many operations in all."""


@dataclass
class KernelCheck:
    """What was found of one kernel, over all its calls in one run of the program.

    Args:
        name: of the kernel.
        calls: how often it was called.
        checked: how many calls were compared with the interpreter.
        error: largest difference from float64 in those, on the same arguments, over the largest
            value of the result; None where none was compared: the kernel is interpreted itself,
            or too large.
    """

    name: str
    calls: int = 0
    checked: int = 0
    error: float | None = None


def check_kernels(
    program: "Program",
    inputs: Sequence[torch.Tensor],
    general: str,
    options: CompileOptions,
) -> list[KernelCheck]:
    """Run a program once, kernel by kernel.

    Args:
        program: compiled, with its report.
        inputs: of the program.
        general: text of its module at the stage `general`, where its kernels stand in order.
        options: that it was compiled with.
    """
    from diagc.runtime.program import Program

    checks = [KernelCheck(kernel.name) for kernel in program.report.kernels]
    references = _interpreted(general, options)
    kernels = [
        _observed(kernel, reference, check, program.device)
        if isinstance(kernel, PlannedKernel)
        else kernel
        for kernel, reference, check in zip(program.kernels, references, checks, strict=True)
    ]
    observed = Program(
        *(program.inputs, program.steps, program.outputs, kernels, program.externs),
        *(program.float64, program.device),
    )
    observed(inputs)
    return checks


@dataclass(frozen=True)
class _Reference:
    """The meaning of a kernel; `module` keeps its function alive."""

    module: ir.Module
    function: ir.Operation
    kernel: HostKernel

    def operations(self, arrays: "Sequence[np.ndarray[Any, Any]]") -> int:
        """What the cost model says of a call on such arrays."""
        pairs = zip(self.kernel.signature.args, arrays, strict=True)
        sizes = {
            label: size
            for wire, array in pairs
            for label, size in zip(wire.labels, array.shape, strict=True)
        }
        with self.module.context:
            return kernel_cost(self.function, sizes).flops


def _interpreted(general: str, options: CompileOptions) -> list[_Reference]:
    lower = get_target("interp").load().lower_kernel
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(general)
        kernels = [op for op in diag.functions(module) if diag.is_kernel(op)]
        return [_Reference(module, op, lower(op, options)) for op in kernels]


def _observed(
    kernel: PlannedKernel[Any],
    reference: _Reference,
    check: KernelCheck,
    device: str,
) -> HostKernel:
    """A kernel that fills in a check at every call."""
    left = MOST_OPERATIONS
    names = [TORCH_DTYPES[wire.dtype] for wire in kernel.signature.args]

    def run(arrays: "Sequence[np.ndarray[Any, Any]]") -> "Sequence[np.ndarray[Any, Any]]":
        pairs = zip(arrays, names, strict=True)
        tensors = [torch.tensor(array, dtype=dtype, device=device) for array, dtype in pairs]
        results = call(kernel, tensors)
        check.calls += 1
        nonlocal left
        left -= reference.operations(arrays)
        if left >= 0:
            check.checked += 1
            exact = map(torch.tensor, reference.kernel.function(_wide(arrays)))
            errors = map(_relative_error, results, exact)
            check.error = max([check.error or 0.0, *errors])
        return [host_array(result) for result in results]

    return HostKernel(kernel.signature, run)


def _relative_error(result: torch.Tensor, exact: torch.Tensor) -> float:
    """Largest error over the largest value; the share that differs where there are no floats."""
    error = max_error(result.cpu(), exact)
    if not exact.is_floating_point():
        return error / max(exact.numel(), 1)
    finite = exact[exact.isfinite()].abs()
    return error / (float(finite.max()) if finite.any() else 1.0)


def _wide(arrays: "Sequence[np.ndarray[Any, Any]]") -> "list[np.ndarray[Any, Any]]":
    return [array.astype("float64") if array.dtype.kind == "f" else array for array in arrays]
