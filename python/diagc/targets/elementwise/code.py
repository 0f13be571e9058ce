"""Constants, selections and lanes, as the scalar operations of maps need them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from diagc.mlir import arith, ir, llvm, math_dialect, scf, vector

__all__ = ["Index", "Rule", "ScalarCode", "is_float_type", "is_vector", "scalar_of"]

Index: TypeAlias = ir.Value | int

Rule: TypeAlias = Callable[[Any, ir.Operation, Sequence[ir.Value]], ir.Value]
"""Emits one scalar op: gets the code, the op of a map, its operands in compute types."""


def is_vector(value: ir.Value) -> bool:
    """Whether `value` is an MLIR vector."""
    return isinstance(value.type, ir.VectorType)


def scalar_of(type_: ir.Type) -> ir.Type:
    """The element type of a vector type, or the type itself."""
    return type_.element_type if isinstance(type_, ir.VectorType) else type_


def is_float_type(type_: ir.Type) -> bool:
    """Whether a scalar or vector type holds floats."""
    return isinstance(scalar_of(type_), (ir.F16Type, ir.BF16Type, ir.F32Type, ir.F64Type))


class ScalarCode:
    """Emits index arithmetic, loops, and scalars or vectors of `lanes` elements.

    Args:
        lanes: elements of a vector; 1 where everything is scalar.
        index_type: what positions are computed in.
    """

    def __init__(self, lanes: int, index_type: ir.Type) -> None:
        self.lanes = lanes
        self.index_type = index_type
        self.rules: Mapping[str, Rule] = {}
        """Rules of the target for single ops, instead of the general ones."""
        self.i1 = ir.IntegerType.get_signless(1)
        self.i8 = ir.IntegerType.get_signless(8)
        self.i32 = ir.IntegerType.get_signless(32)
        self.f32 = ir.F32Type.get()

    def vector_type(self, scalar: ir.Type, lanes: int | None = None) -> ir.VectorType:
        """A vector of `lanes` scalars."""
        return ir.VectorType.get([lanes or self.lanes], scalar)

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
        return False

    def intrinsic(self, name: str, result: ir.Type, operands: Sequence[ir.Value]) -> ir.Value:
        """An instruction by LLVM's name."""
        call = llvm.CallIntrinsicOp(result, name, list(operands), [], [])
        return call.operation.results[0]

    def broadcast(self, value: ir.Value, lanes: int | None = None) -> ir.Value:
        """A scalar in every lane; vectors stay."""
        if is_vector(value):
            return value
        return vector.broadcast(self.vector_type(value.type, lanes), value)

    def absolute(self, value: ir.Value) -> ir.Value:
        """The size of a float."""
        return math_dialect.absf(value)

    def copysign(self, value: ir.Value, sign: ir.Value) -> ir.Value:
        """The size of one float with the sign of another."""
        return math_dialect.copysign(value, sign)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """A * b + c, fused where the target can."""
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

    # -- index arithmetic ------------------------------------------------------------------------
    def index(self, value: Index) -> ir.Value:
        """An index value; an int becomes a constant."""
        if isinstance(value, int):
            return arith.constant(self.index_type, value)
        return value

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

    # -- control ---------------------------------------------------------------------------------
    def loop(
        self,
        low: Index,
        high: Index,
        step: Index,
        carried: Sequence[ir.Value],
        body: Callable[[Index, list[ir.Value]], Sequence[ir.Value]],
    ) -> list[ir.Value]:
        """scf.for with loop-carried values; a loop of one known trip is emitted without a loop."""
        if isinstance(low, int) and isinstance(high, int):
            if high <= low:
                return list(carried)
            if isinstance(step, int) and high - low <= step:
                return list(body(low, list(carried)))
        op = scf.ForOp(self.index(low), self.index(high), self.index(step), list(carried))
        with ir.InsertionPoint(op.body):
            result = body(op.induction_variable, list(op.inner_iter_args))
            scf.yield_(list(result))
        return list(op.results)

    def when(self, condition: ir.Value, then: Callable[[], None]) -> None:
        """scf.if without results."""
        op = scf.IfOp(condition)
        with ir.InsertionPoint(op.then_block):
            then()
            scf.yield_([])
