"""Launches that copy by tensor maps: the driver describes arrays, once for each set of pointers."""

import ctypes
from collections.abc import Callable, Sequence

from diagc.runtime.cuda.driver import Driver
from diagc.runtime.cuda.launcher import Launcher
from diagc.runtime.gpu_kernel import MAP_ALIGNMENT, GpuKernel, TensorMap
from diagc.runtime.launch_plan import LaunchPlan
from diagc.runtime.signature import DTYPES

__all__ = ["MAP_BYTES", "MappedLauncher", "encode"]

MAP_BYTES = 128
_MAP_PLACE = 64  # alignment that the driver asks for
_MOST_LAUNCHERS = 64

# of CUtensorMapDataType, CUtensorMapSwizzle, CUtensorMapL2promotion
_DTYPES = {"i1": 0, "f8E4M3FN": 0, "f16": 6, "f32": 7, "bf16": 9}
_SWIZZLES = {0: 0, 32: 1, 64: 2, 128: 3}
_PROMOTE_256_BYTES = 3


def encode(
    driver: Driver, kernel: GpuKernel, item: TensorMap, plan: LaunchPlan, pointer: int
) -> bytes:
    """The 128 bytes of a tensor map.

    Args:
        driver: the driver.
        kernel: whose array is described.
        item: which one, and the box.
        plan: with sizes and strides that `takes_tensor_maps` allows.
        pointer: to the array, a multiple of `MAP_ALIGNMENT`.

    Raises:
        LaunchError: the driver refuses.
    """
    wire = kernel.signature.wires[item.wire]
    rank, width = len(wire.labels), DTYPES[wire.dtype]
    sizes = [plan.sizes[label] for label in reversed(wire.labels)]
    strides = [width * stride for stride in reversed(plan.strides[item.wire])]
    memory = ctypes.create_string_buffer(MAP_BYTES + _MAP_PLACE)
    start = -ctypes.addressof(memory) % _MAP_PLACE
    longs, ints = ctypes.c_uint64 * rank, ctypes.c_uint32 * rank
    code = driver.cuTensorMapEncodeTiled(
        ctypes.addressof(memory) + start,
        _DTYPES[wire.dtype],
        rank,
        pointer,
        longs(*sizes),
        longs(*strides[1:], 0),
        ints(*reversed(item.box)),
        ints(*[1] * rank),
        *(0, _SWIZZLES[item.swizzle], _PROMOTE_256_BYTES, 0),
    )
    driver.check(code, f"describing '{wire.name}' of kernel '{kernel.signature.symbol}'")
    return memory.raw[start : start + MAP_BYTES]


class MappedLauncher:
    """Keeps a launcher for each set of arrays, with their tensor maps.

    Args:
        driver: the driver.
        kernel: with tensor maps.
        plan: with arrays that they can describe.
        make: gives a launcher with tensor maps.
        plain: the launcher for arrays that begin elsewhere than at multiples of `MAP_ALIGNMENT`.
    """

    def __init__(
        self,
        driver: Driver,
        kernel: GpuKernel,
        plan: LaunchPlan,
        make: Callable[[Sequence[bytes]], Launcher],
        plain: Launcher,
    ) -> None:
        """Describe nothing yet."""
        self._driver, self._kernel, self._plan = driver, kernel, plan
        self._make, self._plain = make, plain
        self._wires = [item.wire for item in kernel.tensor_maps]
        self._launchers: dict[tuple[int, ...], Launcher] = {}

    def __call__(self, stream: int, pointers: Sequence[int]) -> None:
        """Put the starts on a stream; see `Launcher`."""
        key = tuple([pointers[wire] for wire in self._wires])
        launcher = self._launchers.get(key)
        if launcher is None:
            launcher = self._new(key)
        launcher(stream, pointers)

    def _new(self, key: tuple[int, ...]) -> Launcher:
        if any(pointer % MAP_ALIGNMENT for pointer in key):
            return self._plain
        maps = zip(self._kernel.tensor_maps, key, strict=True)
        found = [encode(self._driver, self._kernel, item, self._plan, at) for item, at in maps]
        if len(self._launchers) >= _MOST_LAUNCHERS:
            self._launchers.clear()
        launcher = self._launchers[key] = self._make(found)
        return launcher
