"""Arrays in global memory: addresses, vector accesses, and the test whether these are aligned."""

from collections.abc import Mapping
from dataclasses import dataclass

from diagc.mlir import arith, ir
from diagc.targets.elementwise.code import Index
from diagc.targets.nvptx.threads.code import ACCESS_BYTES, GpuCode, memory_bytes
from diagc.targets.nvptx.threads.layout import At, Frame, Pos

__all__ = ["GlobalWire"]


@dataclass(frozen=True, eq=False)
class GlobalWire:
    """One array.

    Args:
        pointer: to element (0, ..., 0).
        labels: its axes.
        strides: in elements, i64 values or ints, by label.
        element: its type.
    """

    pointer: ir.Value
    labels: tuple[str, ...]
    strides: Mapping[str, Index]
    element: ir.Type

    @property
    def unit(self) -> str | None:
        """The axis along which elements are neighbours, if it is known now."""
        return next((x for x in reversed(self.labels) if self.strides[x] == 1), None)

    def address(self, code: GpuCode, frame: Frame, at: At, base: ir.Value) -> ir.Value:
        """Pointer to a position, given `base`, that to the fixed axes' positions."""
        pointer = base
        for label in self.labels:
            if label not in frame.fixed:
                pointer = code.offset(pointer, self.element, self._step(code, label, at[label]))
        return pointer

    def base(self, code: GpuCode, frame: Frame) -> ir.Value:
        """Pointer to the positions of the fixed axes."""
        total: Index = 0
        for label in self.labels:
            if label in frame.fixed:
                step = self._step(code, label, frame.fixed[label])
                total = step if total == 0 else arith.addi(code.wide(total), code.wide(step))
        return code.offset(self.pointer, self.element, total)

    def _step(self, code: GpuCode, label: str, pos: Pos) -> Index:
        stride, whole = self.strides[label], pos.whole
        if stride == 1:
            return whole
        if isinstance(stride, int) and isinstance(whole, int):
            return stride * whole
        return arith.muli(code.wide(whole), code.wide(stride))

    def has_vectors(self, frame: Frame, label: str) -> bool:
        """Whether vectors along an axis are neighbours in memory, once alignment is tested."""
        return label == self.unit and frame.vector.get(label, 1) > 1

    def aligned(self, code: GpuCode, width: int) -> ir.Value:
        """Whether vectors of `width` elements are aligned at every position."""
        size = min(width * memory_bytes(self.element), ACCESS_BYTES)
        count = size // memory_bytes(self.element)
        address = ir.Operation.create(
            "llvm.ptrtoint", results=[code.i64], operands=[self.pointer]
        ).results[0]
        rest = arith.andi(address, code.scalar(code.i64, size - 1))
        for label in self.labels:
            if label != self.unit:
                low = arith.andi(code.wide(self.strides[label]), code.scalar(code.i64, count - 1))
                rest = arith.ori(rest, low)
        return arith.cmpi(arith.CmpIPredicate.eq, rest, code.scalar(code.i64, 0))
