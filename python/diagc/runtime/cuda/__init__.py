"""Kernels on NVIDIA GPUs through the driver's own library, libcuda: no CUDA toolkit is needed."""

from diagc.runtime.cuda.kernel import CudaKernel

__all__ = ["CudaKernel"]
