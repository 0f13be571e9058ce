"""A compiled GPU kernel that is launched on torch's current stream, without ever waiting for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from diagc.runtime.cuda import torch_streams
from diagc.runtime.cuda.device import Device, find_device
from diagc.runtime.cuda.launcher import Launcher, Start, make_launcher
from diagc.runtime.cuda.module import LoadedModule
from diagc.runtime.cuda.parameters import Parameters
from diagc.runtime.cuda.tensor_maps import MappedLauncher
from diagc.runtime.factors import element_count
from diagc.runtime.gpu_kernel import (
    GpuKernel,
    GpuLaunch,
    grid_of,
    planned_launches,
    planned_sizes,
    takes_tensor_maps,
)
from diagc.runtime.launch_plan import ArrayInfo, LaunchPlan, make_plan
from diagc.runtime.planned_kernel import PlannedKernel
from diagc.runtime.torch_launch import TORCH_DTYPES

__all__ = ["CudaKernel", "CudaPlan"]


@dataclass(frozen=True)
class CudaPlan(LaunchPlan):
    """A plan for one GPU.

    Args:
        device: where the arrays are.
        launcher: puts everything on a stream.
        workspaces: number of elements and dtype of scratch memory.
    """

    device: Device
    launcher: Launcher
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
        sizes = planned_sizes(self.kernel, checked.sizes, device.multiprocessors)
        checked = replace(checked, sizes=sizes)
        return CudaPlan(
            **vars(checked),
            device=device,
            launcher=self._launcher(device, checked),
            workspaces=tuple(
                (element_count(workspace.size, checked.sizes), TORCH_DTYPES[workspace.dtype])
                for workspace in self.kernel.workspaces
            ),
        )

    def _launcher(self, device: Device, plan: LaunchPlan) -> Launcher:
        """Of the launches that the arrays suit."""
        kernel, module = self.kernel, self.load(device)
        launches = planned_launches(kernel, plan.sizes, mapped=False)
        starts = _starts(device, module, launches, plan)
        plain = make_launcher(device, module, starts, Parameters(kernel, plan))
        bulk = planned_launches(kernel, plan.sizes, mapped=True)
        if bulk == launches or not takes_tensor_maps(kernel, plan.sizes, plan.strides):
            return plain
        starts = _starts(device, module, bulk, plan)

        def make(tensor_maps: Sequence[bytes]) -> Launcher:
            return make_launcher(device, module, starts, Parameters(kernel, plan, tensor_maps))

        return MappedLauncher(device.driver, kernel, plan, make, plain)

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
        index = plan.device.index
        if plan.workspaces:
            scratch = [
                torch_streams.allocate(count, dtype, index) if count else None
                for count, dtype in plan.workspaces
            ]
            found = [0 if tensor is None else tensor.data_ptr() for tensor in scratch]
            pointers = [*pointers, *found]
        plan.launcher(torch_streams.current_stream(index), pointers)


def _starts(
    device: Device, module: LoadedModule, launches: Sequence[GpuLaunch], plan: LaunchPlan
) -> list[Start]:
    """Launches with their grids; those without blocks are left out."""
    grids = [(launch, grid_of(launch, plan.sizes, device.multiprocessors)) for launch in launches]
    return [
        (module.functions[launch.symbol], *grid, launch.threads, 1, 1, launch.shared_bytes)
        for launch, grid in grids
        if 0 not in grid
    ]
