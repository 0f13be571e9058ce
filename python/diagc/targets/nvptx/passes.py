"""Stages of the GPU's code as passes, so that `diagc opt` runs each alone."""

from dataclasses import dataclass
from typing import ClassVar

from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.targets.nvptx.pipeline import lower_to_nvvm

__all__ = ["LowerGpuToNvvmPass"]


@dataclass(frozen=True)
class LowerGpuToNvvmPass(Pass):
    """lower a gpu.module of upstream ops to the llvm and nvvm dialects."""

    name: ClassVar[str] = "lower-gpu-to-nvvm"
    anchor: ClassVar[str] = "builtin.module"

    def run(self, op: ir.Operation) -> None:
        """Run the upstream passes of `pipeline.LOWERING`."""
        lower_to_nvvm(op.opview, verify=True)
