"""A thin builder over arith, scf, vector and memref, at the insertion point."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from diagc.mlir import arith, ir, llvm, memref, scf, vector
from diagc.targets.cpu.task_memory import TaskMemory

__all__ = ["Code", "is_float_type", "is_vector", "scalar_of"]

Index: TypeAlias = ir.Value | int


def is_vector(value: ir.Value) -> bool:
    """Whether `value` is an MLIR vector."""
    return isinstance(value.type, ir.VectorType)


def scalar_of(type_: ir.Type) -> ir.Type:
    """The element type of a vector type, or the type itself."""
    return type_.element_type if isinstance(type_, ir.VectorType) else type_


def is_float_type(type_: ir.Type) -> bool:
    """Whether a scalar or vector type holds floats."""
    return isinstance(scalar_of(type_), (ir.F16Type, ir.BF16Type, ir.F32Type, ir.F64Type))


Blocked: TypeAlias = Callable[[Index, int, list[ir.Value]], Sequence[ir.Value]]


def _sized(body: Blocked, block: int, i: Index, carried: list[ir.Value]) -> Sequence[ir.Value]:
    return body(i, block, carried)


class Code:
    """Emits index arithmetic, loops and vectors of `lanes` elements.

    Args:
        lanes: elements of a vector.
        scales: whether the CPU multiplies f32 vectors by powers of two (AVX-512 `vscalefps`).
    """

    def __init__(self, lanes: int, *, scales: bool = False) -> None:
        self.lanes, self._scales = lanes, scales
        self.memory = TaskMemory()
        self.index_type = ir.IndexType.get()
        self.i1 = ir.IntegerType.get_signless(1)
        self.i8 = ir.IntegerType.get_signless(8)
        self.i32 = ir.IntegerType.get_signless(32)
        self.f32 = ir.F32Type.get()

    # -- constants and types ---------------------------------------------------------------------
    def vector_type(self, scalar: ir.Type, lanes: int | None = None) -> ir.VectorType:
        """A vector of `lanes` scalars."""
        return ir.VectorType.get([lanes or self.lanes], scalar)

    def index(self, value: Index) -> ir.Value:
        """An index value; an int becomes a constant."""
        if isinstance(value, int):
            return arith.constant(self.index_type, value)
        return value

    def scalar(self, type_: ir.Type, value: float) -> ir.Value:
        """A scalar constant of any element type."""
        return arith.constant(type_, self._attr(type_, value))

    def splat(self, type_: ir.Type, value: float, lanes: int | None = None) -> ir.Value:
        """A vector constant with equal lanes."""
        vector_type = self.vector_type(type_, lanes)
        attr = ir.DenseElementsAttr.get_splat(vector_type, self._attr(type_, value))
        return arith.constant(vector_type, attr)

    def like(self, value: ir.Value, number: float) -> ir.Value:
        """A constant of the type of `value`, scalar or vector."""
        if is_vector(value):
            return self.splat(scalar_of(value.type), number, value.type.shape[0])
        return self.scalar(value.type, number)

    @staticmethod
    def _attr(type_: ir.Type, value: float) -> ir.Attribute:
        if is_float_type(type_):
            return ir.FloatAttr.get(type_, float(value))
        return ir.IntegerAttr.get(type_, int(value))

    def scales(self, type_: ir.Type) -> bool:
        """Whether one instruction multiplies values of this type by powers of two."""
        return self._scales and type_ == self.vector_type(self.f32, 16)

    # -- index arithmetic ------------------------------------------------------------------------
    def add(self, a: Index, b: Index) -> Index:
        """A + b, folded when both are ints or one is 0."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if isinstance(a, int) and a == 0:
            return b
        if isinstance(b, int) and b == 0:
            return a
        return arith.addi(self.index(a), self.index(b))

    def sub(self, a: Index, b: Index) -> Index:
        """A - b."""
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        if isinstance(b, int) and b == 0:
            return a
        return arith.subi(self.index(a), self.index(b))

    def mul(self, a: Index, b: Index) -> Index:
        """A * b."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if isinstance(b, int) and b == 1:
            return a
        if isinstance(a, int) and a == 1:
            return b
        return arith.muli(self.index(a), self.index(b))

    def ceil_div(self, a: Index, b: int) -> Index:
        """A / b, rounded up (a >= 0)."""
        if isinstance(a, int):
            return -(-a // b)
        return a if b == 1 else arith.ceildivui(a, self.index(b))

    def min(self, a: Index, b: Index) -> Index:
        """The smaller of two signed indices."""
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return arith.minsi(self.index(a), self.index(b))

    def max(self, a: Index, b: Index) -> Index:
        """The larger of two signed indices."""
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        return arith.maxsi(self.index(a), self.index(b))

    def floor_to(self, a: Index, step: int) -> Index:
        """The largest multiple of `step` that is at most a (a >= 0)."""
        if isinstance(a, int):
            return a - a % step
        return arith.subi(a, arith.remui(a, self.index(step)))

    def less(self, a: Index, b: Index) -> ir.Value:
        """A < b, signed."""
        return arith.cmpi(arith.CmpIPredicate.slt, self.index(a), self.index(b))

    def intrinsic(self, name: str, result: ir.Type, operands: Sequence[ir.Value]) -> ir.Value:
        """An instruction of the CPU by LLVM's name."""
        call = llvm.CallIntrinsicOp(result, name, list(operands), [], [])
        return call.operation.results[0]

    # -- control ---------------------------------------------------------------------------------
    def loop(
        self,
        low: Index,
        high: Index,
        step: int,
        carried: Sequence[ir.Value],
        body: Callable[[Index, list[ir.Value]], Sequence[ir.Value]],
    ) -> list[ir.Value]:
        """scf.for with loop-carried values; a loop of one known trip is emitted without a loop."""
        if isinstance(low, int) and isinstance(high, int):
            if high <= low:
                return list(carried)
            if high - low <= step:
                return list(body(low, list(carried)))
        op = scf.ForOp(self.index(low), self.index(high), self.index(step), list(carried))
        with ir.InsertionPoint(op.body):
            result = body(op.induction_variable, list(op.inner_iter_args))
            scf.yield_(list(result))
        return list(op.results)

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

    def when(self, condition: ir.Value, then: Callable[[], None]) -> None:
        """scf.if without results."""
        op = scf.IfOp(condition)
        with ir.InsertionPoint(op.then_block):
            then()
            scf.yield_([])

    # -- vectors and memory ------------------------------------------------------------------------
    def broadcast(self, value: ir.Value, lanes: int | None = None) -> ir.Value:
        """A scalar in every lane; vectors stay."""
        if is_vector(value):
            return value
        return vector.broadcast(self.vector_type(value.type, lanes), value)

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

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """A * b + c, fused where the CPU can."""
        from diagc.mlir import math_dialect

        if is_vector(a):
            return vector.fma(a, b, c)
        return math_dialect.fma(a, b, c)

    def select(self, condition: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        """Lane by lane; scalars are broadcast when any operand is a vector."""
        if any(is_vector(v) for v in (condition, a, b)):
            condition, a, b = (self.broadcast(v) for v in (condition, a, b))
        return arith.select(condition, a, b)

    def reduce_vector(self, kind: str, value: ir.Value) -> ir.Value:
        """Combine the lanes of a vector with a monoid of the dialect's table."""
        names = {"add": "add", "mul": "mul", "or": "or", "and": "and"}
        names |= (
            {"max": "maximumf", "min": "minimumf"}
            if is_float_type(value.type)
            else {"max": "maxsi", "min": "minsi"}
        )
        attr = ir.Attribute.parse(f"#vector.kind<{names[kind]}>")
        fast = ir.Attribute.parse("#arith.fastmath<reassoc>")
        return vector.reduction(scalar_of(value.type), attr, value, fastmath=fast)

    def transpose(self, rows: Sequence[ir.Value]) -> list[ir.Value]:
        """Columns of a square of vectors."""
        lanes, element = len(rows), scalar_of(rows[0].type)
        type_ = ir.VectorType.get([lanes, lanes], element)
        square = arith.constant(
            type_, ir.DenseElementsAttr.get_splat(type_, self._attr(element, 0))
        )
        for i, row in enumerate(rows):
            square = vector.insert(row, square, [], [i])
        turned = vector.transpose(type_, square, [1, 0])
        return [vector.extract(turned, [], [i]) for i in range(lanes)]
