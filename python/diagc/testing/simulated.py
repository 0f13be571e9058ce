"""Programs for GPUs on the CPU: every launch goes through the simulator, and is checked."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from diagc.runtime.gpu_kernel import GpuKernel, element_count, grid_of
from diagc.runtime.launch_plan import ArrayInfo, LaunchPlan, make_plan
from diagc.runtime.planned_kernel import PlannedKernel
from diagc.runtime.program import Program
from diagc.runtime.signature import DTYPES, Wire
from diagc.simulator import Buffer, Report, SimulatorOptions, simulate

__all__ = ["SimulatedKernel", "simulated"]

_INTEGERS: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_POISON = 0xFF  # NaN in every float type


class SimulatedKernel(PlannedKernel[LaunchPlan]):
    """A GPU kernel that is simulated where its arrays are; findings are errors.

    Args:
        kernel: what is launched.
        llvm_text: its LLVM IR.
        options: of the simulator.
    """

    def __init__(
        self, kernel: GpuKernel, llvm_text: str, options: SimulatorOptions | None = None
    ) -> None:
        """Keep what is needed for a launch."""
        super().__init__(kernel.signature)
        self.kernel, self.llvm_text, self.options = kernel, llvm_text, options
        self.reports: list[Report] = []

    def make_plan(self, args: Sequence[ArrayInfo], outs: Sequence[ArrayInfo] = ()) -> LaunchPlan:
        """Check arrays, which are on the CPU."""
        return make_plan(self.signature, args, outs)

    def launch(self, plan: LaunchPlan, pointers: Sequence[int]) -> None:
        """Simulate every launch.

        Raises:
            AssertionError: the simulator has findings.
        """
        parameters = self._parameters(plan, pointers)
        for launch in self.kernel.launches:
            grid = grid_of(launch, plan.sizes)
            if 0 in grid:
                continue
            report = simulate(
                self.llvm_text,
                launch.symbol,
                parameters,
                grid,
                launch.threads,
                launch.shared_bytes,
                options=self.options,
            )
            self.reports.append(report)
            assert not report.findings, str(report)

    def _parameters(self, plan: LaunchPlan, pointers: Sequence[int]) -> list[Any]:
        inputs = len(self.signature.args)
        buffers = [
            _buffer(wire, pointer, self._shape(plan, wire), plan.strides[i], writable=i >= inputs)
            for i, (wire, pointer) in enumerate(zip(self.signature.wires, pointers, strict=True))
        ]
        scratch = [
            Buffer(
                np.full(element_count(w.size, plan.sizes), _POISON, _INTEGERS[DTYPES[w.dtype]]),
                f"workspace{i}",
                writable=True,
            )
            for i, w in enumerate(self.kernel.workspaces)
        ]
        sizes = [plan.sizes[label] for label in self.kernel.dynamic_axes]
        wires = self.signature.wires
        strides = [
            plan.strides[wire][wires[wire].labels.index(label)]
            for wire, label in self.kernel.stride_parameters
        ]
        return [*buffers, *scratch, *sizes, *strides]

    def _shape(self, plan: LaunchPlan, wire: Wire) -> tuple[int, ...]:
        return tuple(plan.sizes[label] for label in wire.labels)


def _buffer(
    wire: Wire, pointer: int, shape: tuple[int, ...], strides: tuple[int, ...], *, writable: bool
) -> Buffer:
    """Memory at an address as an array of integers of the elements' size; results are poisoned."""
    item = DTYPES[wire.dtype]
    integer = _INTEGERS[item]
    steps = tuple(stride * item for stride in strides)
    if 0 in shape:
        return Buffer(np.empty(shape, integer), wire.name, writable)
    count = 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    memory: Any = (ctypes.c_char * (count * item)).from_address(pointer)
    array: Any = np.ndarray(shape, integer, memory, strides=steps)
    if writable:
        array[...] = (1 << 8 * item) - 1
    return Buffer(array, wire.name, writable)


def simulated(program: Program, options: SimulatorOptions | None = None) -> Program:
    """A program on the CPU whose GPU kernels are simulated.

    Args:
        program: compiled for the target nvptx.
        options: of the simulator.
    """
    loaded: list[Any] = list(program.kernels)
    kernels = [
        SimulatedKernel(kernel.kernel, kernel.llvm_text, options)
        if hasattr(kernel, "llvm_text")
        else kernel
        for kernel in loaded
    ]
    found = Program(program.inputs, program.steps, program.outputs, kernels, program.externs)
    found.report = program.report
    return found
