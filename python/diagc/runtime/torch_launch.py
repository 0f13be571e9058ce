"""Launch kernels on torch tensors."""

from collections.abc import Sequence
from typing import Any

import torch

from diagc.errors import LaunchError
from diagc.runtime.launch_plan import ArrayInfo, check_overlap
from diagc.runtime.planned_kernel import PlannedKernel

__all__ = ["TORCH_DTYPES", "call", "dtype_name"]

TORCH_DTYPES = {
    "i1": torch.bool,
    "i8": torch.int8,
    "ui8": torch.uint8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "f8E4M3FN": torch.float8_e4m3fn,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
    "index": torch.int64,
}
_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items() if name != "index"}


def call(
    kernel: PlannedKernel[Any],
    tensors: Sequence[torch.Tensor],
    out: Sequence[torch.Tensor] = (),
    **options: Any,
) -> list[torch.Tensor]:
    """Run a kernel and give its results.

    Strided tensors are read in place; only one whose last dimension is not dense is copied.
    Gradients are not recorded here.

    Args:
        kernel: what to run.
        tensors: one per argument of its signature, dims in the order of the labels.
        out: result tensors to write to; fresh ones by default.
        options: of the kernel's `launch`, such as `threads` on a CPU.

    Raises:
        LaunchError: wrong count, device, dtype, rank, size, or results that overlap in memory.
    """
    try:
        key = tuple([(t.shape, t.stride(), t.dtype, t.device) for t in (*tensors, *out)])
    except RuntimeError as error:  # nested tensors have no strides
        raise LaunchError(f"a tensor has no dense layout: {error}") from None
    plan = kernel.plans.get(key)
    if plan is None:
        plan = kernel.plan(key, [_info(t) for t in tensors], [_info(t) for t in out])
    results = list(out) or [
        # 0.5 us less than empty
        torch.empty_strided(shape, strides, dtype=TORCH_DTYPES[dtype], device=device)
        for shape, strides, dtype, device in plan.results
    ]
    if plan.empty:
        return results
    arrays = [*tensors, *results]
    for i in plan.copies:
        arrays[i] = arrays[i].contiguous()
    try:
        pointers = [t.data_ptr() for t in arrays]
    except RuntimeError as error:  # a sparse tensor can look like the dense one of a known plan
        raise LaunchError(f"a tensor has no data in memory: {error}") from None
    if out:
        check_overlap(kernel.signature, [_info(t) for t in arrays], pointers)
    kernel.launch(plan, pointers, **options)
    return results


def dtype_name(dtype: torch.dtype) -> str:
    """The element type of a signature; torch's own name for a dtype that wires do not hold."""
    return _NAMES.get(dtype, str(dtype))


def _info(tensor: torch.Tensor) -> ArrayInfo:
    if tensor.layout != torch.strided:
        raise LaunchError("a tensor has no dense layout", found=tensor.layout)
    dtype = dtype_name(tensor.dtype)
    return ArrayInfo(tuple(tensor.shape), tensor.stride(), dtype, str(tensor.device))
