"""A compiled GPU kernel that runs on the CPU: takes the place of the one that launches on a GPU."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from diagc.runtime.factors import element_count
from diagc.runtime.gpu_kernel import (
    MAP_ALIGNMENT,
    GpuKernel,
    grid_of,
    planned_launches,
    planned_sizes,
    takes_tensor_maps,
)
from diagc.runtime.launch_plan import ArrayInfo, LaunchPlan, make_plan
from diagc.runtime.numpy_launch import NUMPY_DTYPES, call_numpy
from diagc.runtime.planned_kernel import PlannedKernel
from diagc.simulator.buffers import Buffer, TensorMap
from diagc.simulator.findings import Finding
from diagc.simulator.launch import Parameter, SimulatorOptions, simulate
from diagc.simulator.report import Counters, Report

__all__ = ["CompiledGpuKernel", "SimulatedKernel", "simulate_kernel"]

Array = np.ndarray[Any, np.dtype[Any]]


class CompiledGpuKernel(Protocol):
    """What the compiler's kernel objects have for the simulator."""

    @property
    def kernel(self) -> GpuKernel:
        """Launches and signature."""

    @property
    def llvm_text(self) -> str:
        """LLVM IR that the PTX was made from, with or without locations."""


@dataclass(frozen=True)
class SimulatedPlan(LaunchPlan):
    """A plan with the shapes of all arrays."""

    shapes: tuple[tuple[int, ...], ...]


class SimulatedKernel(PlannedKernel[SimulatedPlan]):
    """Runs a kernel's launches in the simulator, on arrays in host memory.

    Args:
        kernel: launches and signature.
        llvm_text: LLVM IR of all of them.
        options: how to simulate.

    Attributes:
        reports: one for each call, in order.
    """

    def __init__(
        self, kernel: GpuKernel, llvm_text: str, options: SimulatorOptions | None = None
    ) -> None:
        """Compile nothing yet."""
        super().__init__(kernel.signature)
        self.kernel = kernel
        self.llvm_text = llvm_text
        self.options = options or SimulatorOptions()
        self.reports: list[Report] = []

    def make_plan(self, args: Sequence[ArrayInfo], outs: Sequence[ArrayInfo] = ()) -> SimulatedPlan:
        """Check arrays, which must be in host memory."""
        plan = make_plan(self.signature, args, outs)
        sizes = planned_sizes(self.kernel, plan.sizes, self.options.multiprocessors)
        plan = replace(plan, sizes=sizes)
        wires = self.signature.wires
        shapes = tuple(tuple(sizes[label] for label in wire.labels) for wire in wires)
        return SimulatedPlan(**vars(plan), shapes=shapes)

    def launch(self, plan: SimulatedPlan, pointers: Sequence[int]) -> None:
        """Poison the results, run all launches, keep the report; see `PlannedKernel.launch`."""
        buffers = self._wire_buffers(plan, pointers)
        scratch = [self._workspace(i, plan) for i in range(len(self.kernel.workspaces))]
        params = self._parameters(plan, [*buffers, *scratch])
        mapped = self._is_mapped(plan, pointers)
        launches, reports = planned_launches(self.kernel, plan.sizes, mapped=mapped), []
        if set(launches) <= set(self.kernel.bulk_launches):
            params += self._tensor_maps(buffers)
        for launch in launches:
            grid = grid_of(launch, plan.sizes, self.options.multiprocessors)
            if 0 not in grid:
                reports.append(
                    simulate(
                        self.llvm_text,
                        launch.symbol,
                        params,
                        grid,
                        launch.threads,
                        launch.shared_bytes,
                        options=self.options,
                    )
                )
        if reports:
            total = sum(reports[1:], reports[0])
            self.reports.append(total.with_findings(self._unwritten(buffers)))

    def _is_mapped(self, plan: SimulatedPlan, pointers: Sequence[int]) -> bool:
        """Whether the launches with tensor maps run, as on a GPU."""
        starts = [pointers[item.wire] for item in self.kernel.tensor_maps]
        aligned = all(start % MAP_ALIGNMENT == 0 for start in starts)
        return aligned and takes_tensor_maps(self.kernel, plan.sizes, plan.strides)

    def _tensor_maps(self, buffers: list[Buffer]) -> list[Parameter]:
        return [
            TensorMap(buffers[item.wire], item.box, swizzle=item.swizzle)
            for item in self.kernel.tensor_maps
        ]

    def _wire_buffers(self, plan: SimulatedPlan, pointers: Sequence[int]) -> list[Buffer]:
        inputs, buffers = len(self.signature.args), []
        for i, wire in enumerate(self.signature.wires):
            dtype = NUMPY_DTYPES[wire.dtype]
            array = _view(pointers[i], dtype, plan.shapes[i], plan.strides[i])
            if i >= inputs:
                array.view(np.dtype(f"V{dtype.itemsize}"))[...] = b"\xff" * dtype.itemsize
            buffers.append(Buffer(array, wire.name, writable=i >= inputs))
        return buffers

    def _workspace(self, index: int, plan: SimulatedPlan) -> Buffer:
        workspace = self.kernel.workspaces[index]
        dtype = NUMPY_DTYPES[workspace.dtype]
        count = element_count(workspace.size, plan.sizes)
        array = np.frombuffer(bytearray(b"\xff" * (count * dtype.itemsize)), dtype)
        return Buffer(array, f"workspace {index}", writable=True)

    def _parameters(self, plan: SimulatedPlan, buffers: list[Buffer]) -> list[Parameter]:
        wires = self.signature.wires
        sizes = [plan.sizes[label] for label in self.kernel.dynamic_axes]
        strides = [
            plan.strides[wire][wires[wire].labels.index(label)]
            for wire, label in self.kernel.stride_parameters
        ]
        return [*buffers, *sizes, *strides]

    def _unwritten(self, buffers: list[Buffer]) -> list[Finding]:
        symbol = self.kernel.launches[-1].symbol
        return [
            Finding(
                "unwritten-result",
                symbol,
                f"{buffer.unwritten} of {buffer.array.size} elements of '{buffer.name}' are never"
                " written",
            )
            for buffer in buffers
            if buffer.writable and buffer.unwritten
        ]


def _view(
    pointer: int, dtype: "np.dtype[Any]", shape: tuple[int, ...], strides: tuple[int, ...]
) -> Array:
    """An array over memory that somebody else owns; strides in elements."""
    if 0 in shape:
        return np.empty(shape, dtype)
    span = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    memory = memoryview((ctypes.c_char * (span * dtype.itemsize)).from_address(pointer))
    steps = [step * dtype.itemsize for step in strides]
    return np.ndarray(shape, dtype, memory, strides=steps)


def simulate_kernel(
    kernel: CompiledGpuKernel, *arrays: Any, options: SimulatorOptions | None = None
) -> tuple[list[Any], Report]:
    """Run a compiled GPU kernel on the CPU.

    Args:
        kernel: what the nvptx target made.
        arrays: one per argument of its signature, all torch tensors or all numpy arrays (bf16 as
            uint16); axes in the order of the labels.
        options: how to simulate.

    Returns:
        the results, and the report of all its launches.

    Raises:
        LaunchError: arrays that do not fit.
        UnsupportedError: an instruction that the simulator has no model of.
        TargetError: there is no C++ compiler for the run time.
    """
    simulated = SimulatedKernel(kernel.kernel, kernel.llvm_text, options)
    if all(isinstance(array, np.ndarray) for array in arrays):
        results: list[Any] = list(call_numpy(simulated, arrays))
    else:
        from diagc.runtime.torch_launch import call  # torch

        results = list(call(simulated, arrays))
    checking = simulated.options.checking
    return results, sum(simulated.reports, Report((), (), Counters(), checking, 0.0))
