"""Global memory of a simulated launch: numpy arrays, with what has been written of them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diagc.errors import LaunchError

__all__ = ["Buffer", "TensorMap"]


@dataclass
class Buffer:
    """An array that a kernel may touch; its parameter is the address of element (0, ..., 0).

    Args:
        array: any shape and strides; with gaps, the gaps count as part of it.
        name: for reports.
        writable: whether the kernel may write.
        initialised: whether reading it before a write is right; by default what is not written.
    """

    array: NDArray[np.generic]
    name: str
    writable: bool = False
    initialised: bool | None = None
    written: NDArray[np.uint8] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        """Find the bytes it spans.

        Raises:
            LaunchError: a negative stride, or an array that cannot be written although it must.
        """
        if any(stride < 0 for stride in self.array.strides):
            raise LaunchError(f"'{self.name}' has a negative stride", remedy="pass a copy")
        if self.writable and not self.array.flags.writeable:
            raise LaunchError(f"'{self.name}' is a result, and its array is read-only")
        initialised = not self.writable if self.initialised is None else self.initialised
        if not initialised:
            items = -(-self.span // self.array.itemsize)
            self.written = np.zeros(max(items, 1), np.uint8)

    @property
    def span(self) -> int:
        """Bytes from the first element to the end of the last."""
        if self.array.size == 0:
            return 0
        steps = zip(self.array.shape, self.array.strides, strict=True)
        return self.array.itemsize + sum((size - 1) * stride for size, stride in steps)

    @property
    def unwritten(self) -> int:
        """How many elements no kernel has written yet."""
        if self.written is None or self.array.size == 0:
            return 0
        itemsize = self.array.itemsize
        strides = tuple(stride // itemsize for stride in self.array.strides)
        view = np.lib.stride_tricks.as_strided(self.written, self.array.shape, strides)
        return int(self.array.size - np.count_nonzero(view))


@dataclass(frozen=True)
class TensorMap:
    """A tensor map, as `cuTensorMapEncodeTiled` makes it, of one of a launch's buffers.

    Args:
        buffer: the array; all of its axes.
        box: positions that a copy takes along each axis.
        order: axes from the innermost one on; by default from the last to the first.
        swizzle: bytes of a line in shared memory whose chunks are swizzled: 0, 32, 64 or 128.
    """

    buffer: Buffer
    box: tuple[int, ...]
    order: tuple[int, ...] = ()
    swizzle: int = 128

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of the array, the innermost one first."""
        return self.order or tuple(reversed(range(self.buffer.array.ndim)))
