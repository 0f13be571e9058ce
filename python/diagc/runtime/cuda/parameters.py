"""The parameters of a kernel's launches, packed once for a plan; `gpu_kernel` says their order."""

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

from diagc.errors import LaunchError
from diagc.runtime.gpu_kernel import GpuKernel
from diagc.runtime.launch_plan import LaunchPlan

__all__ = ["Parameters"]

_LARGEST_TILE = 2**20
"""No tile of a kernel, nor the chunks or the part of a stream that are on their way, is longer."""

_LARGEST = 2**31 - 1 - _LARGEST_TILE
"""Kernels count in i32 without overflow, and up to the end of the last tile, beyond the axis."""


class Parameters:
    """Parameters of one plan; threads that launch at the same time have blocks of their own.

    A block is memory for the values, pointers first, and the array of their addresses that
    `cuLaunchKernel` takes.

    Attributes:
        template: bytes of a block without its pointers.
        pointers: how many 64-bit pointers stand at its start.
        offsets: in bytes, of every parameter in a block, in order.

    Raises:
        LaunchError: an axis is so long that positions of its last tile could exceed an i32.
    """

    def __init__(
        self, kernel: GpuKernel, plan: LaunchPlan, tensor_maps: Sequence[bytes] = ()
    ) -> None:
        """Pack all but the pointers."""
        sizes = [_size(kernel, label, plan.sizes[label]) for label in kernel.dynamic_axes]
        wires = kernel.signature.wires
        strides = [
            plan.strides[wire][wires[wire].labels.index(label)]
            for wire, label in kernel.stride_parameters
        ]
        pointers = self.pointers = len(wires) + len(kernel.workspaces)
        # all 64-bit values first, so that every one is aligned; the addresses tell the order
        layout = f"<{pointers}Q{len(strides)}q{len(sizes)}i"
        self.template = struct.pack(layout, *[0] * pointers, *strides, *sizes)
        first_stride, first_size = 8 * pointers, 8 * (pointers + len(strides))
        self.offsets = [
            *range(0, first_stride, 8),
            *range(first_size, len(self.template), 4),
            *range(first_stride, first_size, 8),
        ]
        for tensor_map in tensor_maps:
            self.offsets.append(len(self.template))
            self.template += tensor_map
        self._memory = ctypes.c_char * len(self.template)
        self._addresses = ctypes.c_void_p * len(self.offsets)
        self._pack = struct.Struct(f"<{pointers}Q").pack_into
        self._free: list[tuple[Any, Any]] = []

    def take(self, pointers: Sequence[int]) -> tuple[Any, Any]:
        """A block with these pointers; its second half goes to the driver."""
        try:
            block = self._free.pop()
        except IndexError:
            block = self._new_block()
        self._pack(block[0], 0, *pointers)
        return block

    def give_back(self, block: tuple[Any, Any]) -> None:
        """Let another launch use a block: the driver has copied it."""
        self._free.append(block)

    def _new_block(self) -> tuple[Any, Any]:
        memory = self._memory.from_buffer_copy(self.template)
        base = ctypes.addressof(memory)
        return memory, self._addresses(*[base + offset for offset in self.offsets])


def _size(kernel: GpuKernel, label: str, size: int) -> int:
    if size > _LARGEST:
        raise LaunchError(
            f"axis '{label}' is too long for kernel '{kernel.signature.symbol}'",
            expected=f"at most {_LARGEST}",
            found=size,
        )
    return size
