"""Which lowering a kernel gets, and what every lowering gives."""

from dataclasses import dataclass

from diagc.mlir import ir
from diagc.runtime.gpu_kernel import GpuLaunch, Workspace
from diagc.runtime.signature import KernelSignature
from diagc.targets.nvptx.arch import GpuArch

__all__ = ["GpuModule", "build_module"]


@dataclass(frozen=True)
class GpuModule:
    """A kernel as a module at stage `gpu`, with what it takes to launch it."""

    module: ir.Module
    signature: KernelSignature
    launches: tuple[GpuLaunch, ...]
    workspaces: tuple[Workspace, ...] = ()


def build_module(kernel: ir.Operation, arch: GpuArch) -> GpuModule:
    """A module of upstream ops that holds the kernel.

    Raises:
        UnsupportedError: an op that has no rule.
        LoweringError: what a block keeps does not fit shared memory.
    """
    from diagc.targets.nvptx.threads.lower import lower_threads

    return lower_threads(kernel, arch)
