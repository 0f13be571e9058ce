"""Scratch memory of a task: small arrays on the stack, large or open ones on the heap."""

from collections.abc import Sequence
from math import prod

from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir, memref

__all__ = ["TaskMemory"]

STACK_BYTES = 768 * 1024
"""What a task may take of its thread's stack. Threads of OpenMP have 2 MiB or more; torch runs in
them as well."""

HEAP_BYTES = 256 * 1024 * 1024
"""What a task may take in all, where sizes are static."""

_ALIGNMENT = 64


class TaskMemory:
    """Allocates where the task begins: inside a loop the stack would grow.

    `begin` is called once all sizes are known, `end` where the task ends.
    """

    def __init__(self) -> None:
        self.stack_bytes = 0
        self.total_bytes = 0
        self._heap: list[ir.Value] = []
        self._anchor: ir.Operation | None = None

    def begin(self) -> None:
        """Memory is allocated here, however late it is asked for."""
        self._anchor = arith.ConstantOp(ir.IndexType.get(), 0).operation

    def end(self) -> None:
        """Give back what stands on the heap."""
        for buffer in self._heap:
            memref.dealloc(buffer)

    def insertion_point(self) -> ir.InsertionPoint:
        """Where sizes of open axes are to be computed."""
        assert self._anchor is not None
        return ir.InsertionPoint(self._anchor)

    def allocate(self, shape: Sequence[ir.Value | int], element: ir.Type) -> ir.Value:
        """An array of the current task, aligned to a cache line.

        Raises:
            UnsupportedError: the task would need too much memory.
        """
        dynamic = ir.ShapedType.get_dynamic_size()
        static = [size if isinstance(size, int) else dynamic for size in shape]
        sizes = [size for size in shape if not isinstance(size, int)]
        type_ = ir.MemRefType.get(static, element)
        on_stack = not sizes and self._fits(prod(static) * _bytes(element))
        with self.insertion_point():
            if on_stack:
                return memref.alloca(type_, [], [], alignment=_ALIGNMENT)
            self._heap.append(memref.alloc(type_, sizes, [], alignment=_ALIGNMENT))
        return self._heap[-1]

    def _fits(self, size: int) -> bool:
        """Count an array of `size` bytes; says whether the stack has room for it."""
        self.total_bytes += size
        if self.total_bytes > HEAP_BYTES:
            raise UnsupportedError(
                "kernel",
                reason=f"one task of it would need {self.total_bytes >> 20} MiB of memory, "
                f"the limit is {HEAP_BYTES >> 20} MiB",
                remedy="make the axes that stay inside a task shorter",
            )
        if self.stack_bytes + size > STACK_BYTES:
            return False
        self.stack_bytes += size
        return True


def _bytes(element: ir.Type) -> int:
    width: int = element.width
    return max(1, width // 8)
