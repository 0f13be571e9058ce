"""A compiled GPU kernel that is launched on torch's current stream, without ever waiting for it."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diagc.runtime.cuda import torch_streams
from diagc.runtime.cuda.device import Device, find_device
from diagc.runtime.cuda.driver import Driver
from diagc.runtime.cuda.module import LoadedModule
from diagc.runtime.cuda.parameters import Parameters
from diagc.runtime.cuda.results import SUCCESS
from diagc.runtime.gpu_kernel import GpuKernel, element_count, grid_of
from diagc.runtime.launch_plan import ArrayInfo, LaunchPlan, make_plan
from diagc.runtime.planned_kernel import PlannedKernel
from diagc.runtime.torch_launch import TORCH_DTYPES

__all__ = ["CudaKernel", "CudaPlan"]

Start = tuple[int, int, int, int, int, int, int, int]
"""Function, blocks along x, y, z, threads along x, y, z, bytes of shared memory."""


@dataclass(frozen=True)
class CudaPlan(LaunchPlan):
    """A plan for one GPU.

    Args:
        device: where the arrays are.
        module: the code there.
        starts: what is launched, in order; starts without blocks are left out.
        parameters: of all starts.
        workspaces: number of elements and dtype of scratch memory.
    """

    device: Device
    module: LoadedModule
    starts: tuple[Start, ...]
    parameters: Parameters
    workspaces: tuple[tuple[int, torch.dtype], ...]


class CudaKernel(PlannedKernel[CudaPlan]):
    """A kernel for NVIDIA GPUs; nothing asks for a driver before the first plan.

    Its code is loaded once on every GPU that it is used on. Launches and scratch memory go through
    torch's current stream and allocator, so they can be captured in a CUDA graph; plans are to be
    made before, by a call on tensors of the same shapes.

    Args:
        kernel: what the compiler made.
    """

    def __init__(self, kernel: GpuKernel) -> None:
        """Keep the code; load nothing."""
        super().__init__(kernel.signature)
        self.kernel = kernel
        self._modules: dict[int, LoadedModule] = {}

    def make_plan(self, args: Sequence[ArrayInfo], outs: Sequence[ArrayInfo] = ()) -> CudaPlan:
        """Check arrays, which must be on one GPU, and load the code there.

        Raises:
            LaunchError: the arrays do not fit the signature, or the GPU has no memory left.
            TargetError: no driver, or code that this GPU does not take.
        """
        where = next((info.device for info in (*args, *outs)), "cuda")
        index = torch_streams.device_index(where, self.signature.symbol)
        checked = make_plan(self.signature, args, outs, where)
        device = find_device(index)
        grids = [grid_of(launch, checked.sizes) for launch in self.kernel.launches]
        parameters = Parameters(self.kernel, checked)
        module = self.load(device)
        return CudaPlan(
            **vars(checked),
            device=device,
            module=module,
            starts=tuple(
                (function, *grid, launch.threads, 1, 1, launch.shared_bytes)
                for function, grid, launch in zip(
                    module.functions, grids, self.kernel.launches, strict=True
                )
                if 0 not in grid
            ),
            parameters=parameters,
            workspaces=tuple(
                (element_count(workspace.size, checked.sizes), TORCH_DTYPES[workspace.dtype])
                for workspace in self.kernel.workspaces
            ),
        )

    def load(self, device: Device) -> LoadedModule:
        """The code on a GPU; loaded when it is not there yet.

        Raises:
            TargetError: this GPU does not take it.
            LaunchError: the GPU has no memory left.
        """
        module = self._modules.get(device.index)
        if module is None:
            module = self._modules.setdefault(device.index, LoadedModule(device, self.kernel))
        return module

    def launch(self, plan: CudaPlan, pointers: Sequence[int]) -> None:
        """Put a plan's starts on the current stream of its GPU; see `PlannedKernel.launch`.

        Raises:
            LaunchError: the driver refuses, perhaps for an earlier kernel that failed.
        """
        device = plan.device
        scratch = [
            torch_streams.allocate(count, dtype, device.index) for count, dtype in plan.workspaces
        ]
        stream = torch_streams.current_stream(device.index)
        block = plan.parameters.take([*pointers, *(tensor.data_ptr() for tensor in scratch)])
        entered = device.enter()
        try:
            _start(plan, stream, block[1])
        finally:
            if entered:
                device.leave()
            plan.parameters.give_back(block)


def _start(plan: CudaPlan, stream: int, addresses: Any) -> None:
    driver = plan.device.driver
    if not plan.module.pinned and _is_capturing(driver, stream):
        plan.module.pin()
    launch = driver.cuLaunchKernel
    for start in plan.starts:
        code = launch(*start, stream, addresses, None)
        if code != SUCCESS:
            driver.fail(code, "launching a kernel")


def _is_capturing(driver: Driver, stream: int) -> bool:
    found = ctypes.c_int()
    driver.check(
        driver.cuStreamIsCapturing(stream, ctypes.byref(found)), "asking a stream for a capture"
    )
    return found.value != 0
