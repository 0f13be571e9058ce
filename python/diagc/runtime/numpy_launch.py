"""Launch kernels on numpy arrays: for tests and for machines without torch.

numpy has no bfloat16: such wires are `uint16` arrays that hold the bits. Those of
f8E4M3FN are arrays of one raw byte, `V1`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diagc.runtime.launch_plan import ArrayInfo, check_overlap
from diagc.runtime.planned_kernel import PlannedKernel

__all__ = ["NUMPY_DTYPES", "call_numpy"]

Array = np.ndarray[Any, np.dtype[Any]]

NUMPY_DTYPES = {
    "i1": np.dtype(np.bool_),
    "i8": np.dtype(np.int8),
    "ui8": np.dtype(np.uint8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "f8E4M3FN": np.dtype("V1"),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "index": np.dtype(np.int64),
}
_NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items() if name != "index"}


def call_numpy(
    kernel: PlannedKernel[Any],
    arrays: Sequence[Array],
    out: Sequence[Array] = (),
    threads: int | None = None,
) -> list[Array]:
    """Run a kernel and give its results; see `torch_launch.call`.

    Raises:
        LaunchError: wrong count, dtype, rank, size, or results that overlap in memory.
    """
    inputs = [_whole_strides(array) for array in arrays]
    plan = kernel.make_plan([_info(array) for array in inputs], [_info(array) for array in out])
    results = list(out) or [np.empty(info.shape, NUMPY_DTYPES[info.dtype]) for info in plan.results]
    if plan.empty:
        return results
    for i in plan.copies:
        inputs[i] = np.ascontiguousarray(inputs[i])
    used = [*inputs, *results]
    pointers = [array.ctypes.data for array in used]
    if out:
        check_overlap(kernel.signature, [_info(array) for array in used], pointers)
    options = {} if threads is None else {"threads": threads}
    kernel.launch(plan, pointers, **options)
    return results


def _whole_strides(array: Array) -> Array:
    """Copy an array that is misaligned or whose strides are no multiple of its item size."""
    whole = all(step % array.itemsize == 0 for step in array.strides)
    return array if whole and array.flags.aligned else array.copy()


def _info(array: Array) -> ArrayInfo:
    dtype = _NAMES.get(array.dtype, str(array.dtype))
    strides = tuple(step // array.itemsize for step in array.strides)
    return ArrayInfo(array.shape, strides, dtype)
