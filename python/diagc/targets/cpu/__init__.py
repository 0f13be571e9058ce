"""Kernels for this machine's processor, lowered op by op to vector code."""

from diagc.targets.cpu.kernel import LoadedKernel, load_kernel, lower_kernel, text_key

__all__ = ["LoadedKernel", "load_kernel", "lower_kernel", "text_key"]
