"""Stages of the GPU's code as passes, so that `diagc opt` runs each alone."""

from dataclasses import dataclass
from typing import ClassVar

from diagc.dialects import diag
from diagc.errors import PassError
from diagc.mlir import ir
from diagc.options import PRECISIONS
from diagc.passes.base import Pass
from diagc.targets.nvptx.arch import DEFAULT_ARCH, parse_arch
from diagc.targets.nvptx.lowering import build_module
from diagc.targets.nvptx.pipeline import gpu_module_of, lower_to_nvvm

__all__ = ["LowerGpuToNvvmPass", "LowerKernelToGpuPass"]


@dataclass(frozen=True)
class LowerKernelToGpuPass(Pass):
    """lower the one kernel function of a module to a gpu.module, which takes its place."""

    name: ClassVar[str] = "lower-kernel-to-gpu"
    anchor: ClassVar[str] = "builtin.module"
    arch: str = DEFAULT_ARCH
    """The architecture, as `sm_90`."""
    float32_matmul_precision: str = "highest"
    """`highest`, or `high` and `medium`: products of f32 in tf32."""

    def run(self, op: ir.Operation) -> None:
        """Lower the kernel; what calls it goes, too.

        Raises:
            PassError: there is not one kernel, or no such precision.
        """
        module = op.opview
        kernels = [function for function in diag.functions(module) if diag.is_kernel(function)]
        if len(kernels) != 1:
            raise PassError("a module of one kernel is wanted", expected=1, found=len(kernels))
        if self.float32_matmul_precision not in PRECISIONS:
            expected, found = ", ".join(PRECISIONS), self.float32_matmul_precision
            raise PassError("no such float32-matmul-precision", expected=expected, found=found)
        tf32 = self.float32_matmul_precision != "highest"
        built = build_module(kernels[0], parse_arch(self.arch), tf32=tf32)
        for function in diag.functions(module):
            function.erase()
        module.body.append(gpu_module_of(built.module))


@dataclass(frozen=True)
class LowerGpuToNvvmPass(Pass):
    """lower a gpu.module of upstream ops to the llvm and nvvm dialects."""

    name: ClassVar[str] = "lower-gpu-to-nvvm"
    anchor: ClassVar[str] = "builtin.module"

    def run(self, op: ir.Operation) -> None:
        """Run the upstream passes of `pipeline.LOWERING`."""
        lower_to_nvvm(op.opview, verify=True)
