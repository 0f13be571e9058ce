"""Kernels for this machine's processor, lowered op by op to vector code."""

from diagc.targets.cpu.kernel import LoadedKernel, lower_kernel

__all__ = ["LoadedKernel", "lower_kernel"]
