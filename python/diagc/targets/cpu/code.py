"""A thin builder over arith, scf, vector and memref, at the insertion point."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from diagc.mlir import arith, ir, memref, vector
from diagc.targets.cpu.task_memory import TaskMemory
from diagc.targets.elementwise.code import (
    Index,
    ScalarCode,
    is_float_type,
    is_vector,
    scalar_of,
)

__all__ = ["Code", "Index", "is_float_type", "is_vector", "scalar_of"]

NEAR_BITS = 128
"""What most shuffles of x86 stay inside of."""

Blocked: TypeAlias = Callable[[Index, int, list[ir.Value]], Sequence[ir.Value]]


def _sized(body: Blocked, block: int, i: Index, carried: list[ir.Value]) -> Sequence[ir.Value]:
    return body(i, block, carried)


class Code(ScalarCode):
    """Emits index arithmetic, loops and vectors of `lanes` elements.

    Args:
        lanes: elements of a vector.
        scales: whether the CPU multiplies f32 vectors by powers of two (AVX-512 `vscalefps`).
    """

    def __init__(self, lanes: int, *, scales: bool = False) -> None:
        super().__init__(lanes, ir.IndexType.get())
        self._scales = scales
        self.memory = TaskMemory()

    def scales(self, type_: ir.Type) -> bool:
        """Whether one instruction multiplies values of this type by powers of two."""
        return self._scales and type_ == self.vector_type(self.f32, 16)

    # -- control ---------------------------------------------------------------------------------

    def blocked_loop(
        self,
        low: Index,
        high: Index,
        blocks: Sequence[int],
        carried: Sequence[ir.Value],
        body: Blocked,
    ) -> list[ir.Value]:
        """Loops by falling block sizes, each a multiple of the next, then one by one.

        The body gets (i, block size, carried).
        """
        values = list(carried)
        for block in blocks:
            if block == 1:
                continue
            middle = self.add(low, self.floor_to(self.sub(high, low), block))
            values = self.loop(low, middle, block, values, partial(_sized, body, block))
            low = middle
        return self.loop(low, high, 1, values, partial(_sized, body, 1))

    # -- vectors and memory ------------------------------------------------------------------------

    def iota(self) -> ir.Value:
        """Lanes 0, 1, 2 and so on, as i32."""
        values = [ir.IntegerAttr.get(self.i32, i) for i in range(self.lanes)]
        type_ = self.vector_type(self.i32)
        return arith.constant(type_, ir.DenseElementsAttr.get(values, type_))

    def to_i32(self, value: Index) -> ir.Value:
        """An index as i32."""
        if isinstance(value, int):
            return self.scalar(self.i32, value)
        return arith.index_cast(self.i32, value)

    def load(self, buffer: ir.Value, at: Sequence[Index]) -> ir.Value:
        """One scalar."""
        return memref.load(buffer, [self.index(i) for i in at])

    def store(self, value: ir.Value, buffer: ir.Value, at: Sequence[Index]) -> None:
        """One scalar."""
        memref.store(value, buffer, [self.index(i) for i in at])

    def load_vector(
        self,
        buffer: ir.Value,
        at: Sequence[Index],
        mask: ir.Value | None = None,
        lanes: int | None = None,
    ) -> ir.Value:
        """A vector of consecutive elements; lanes outside `mask` are 0 and not read."""
        element = buffer.type.element_type
        type_ = self.vector_type(element, lanes)
        where = [self.index(i) for i in at]
        if mask is None:
            return vector.load(type_, buffer, where)
        zero = self.splat(element, 0, lanes)
        return vector.maskedload(type_, buffer, where, mask, zero)

    def prefetch(self, buffer: ir.Value, at: Sequence[Index]) -> None:
        """Bring the cache line of an element near: into the second level, where a chunk fits."""
        memref.prefetch(buffer, [self.index(i) for i in at], False, 2, True)

    def store_vector(
        self, value: ir.Value, buffer: ir.Value, at: Sequence[Index], mask: ir.Value | None = None
    ) -> None:
        """Consecutive elements; lanes outside `mask` are not written."""
        where = [self.index(i) for i in at]
        if mask is None:
            vector.store(value, buffer, where)
        else:
            vector.maskedstore(buffer, where, mask, value)

    def transpose(self, rows: Sequence[ir.Value]) -> list[ir.Value]:
        """Columns of a square of vectors, by shuffles that x86 has as one instruction each.

        Squares inside of 16 bytes by interleaving, then ever longer pieces change places: three
        times 8 instructions for 8 lanes (LLVM made 70 of one shuffle of all elements).
        """
        lanes, values = len(rows), list(rows)
        near = min(lanes, NEAR_BITS // scalar_of(rows[0].type).width)
        inside = [near >> k for k in range(1, near.bit_length())]
        between = [near << k for k in range((lanes // near).bit_length() - 1)]
        for apart in (*inside, *between):
            order = _exchanged(lanes, apart) if apart >= near else _interleaved(lanes, near)
            for i in (i for i in range(lanes) if not i & apart):
                pair = values[i], values[i + apart]
                values[i], values[i + apart] = (vector.shuffle(*pair, half) for half in order)
        return values


def _interleaved(lanes: int, near: int) -> tuple[list[int], list[int]]:
    """Elements of two vectors in turn: of the first half of each `near` elements, of the second."""
    starts = range(0, lanes, near)
    first = [x for start in starts for i in range(start, start + near // 2) for x in (i, lanes + i)]
    return first, [i + near // 2 for i in first]


def _exchanged(lanes: int, width: int) -> tuple[list[int], list[int]]:
    """Two vectors after every second `width` elements of the first and others of the second."""
    first = [lanes + i - width if i & width else i for i in range(lanes)]
    return first, [i + width for i in first]
