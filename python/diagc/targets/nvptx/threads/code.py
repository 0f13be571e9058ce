"""A thin builder over arith, scf, vector, llvm and nvvm: one thread of a GPU, indices in i32."""

from collections.abc import Callable, Sequence

from diagc.mlir import arith, ir, llvm, scf, vector
from diagc.targets.elementwise.code import Index
from diagc.targets.elementwise.float8 import float8_bits, float8_value, is_float8
from diagc.targets.elementwise.scalars import compute_type, saturated
from diagc.targets.nvptx.scalar_code import GpuScalarCode

__all__ = ["ACCESS_BYTES", "WARP", "GpuCode", "memory_bytes", "memory_type"]

WARP = 32
ACCESS_BYTES = 16
"""The widest access of one thread."""

_DYNAMIC = -(1 << 31)
_ALL_LANES = -1


def memory_type(element: ir.Type) -> ir.Type:
    """How elements lie in memory: `i1` and f8 are a byte, `index` has 64 bits."""
    if is_float8(element):
        return ir.IntegerType.get_signless(8)
    if isinstance(element, ir.IndexType):
        return ir.IntegerType.get_signless(64)
    if isinstance(element, ir.IntegerType) and element.width == 1:
        return ir.IntegerType.get_signless(8)
    if isinstance(element, ir.IntegerType):
        return ir.IntegerType.get_signless(element.width)
    return element


def memory_bytes(element: ir.Type) -> int:
    """Bytes of an element in memory."""
    return int(memory_type(element).width) // 8


class GpuCode(GpuScalarCode):
    """Emits code at the insertion point; all scalars are in compute types."""

    # -- special registers and collectives ---------------------------------------------------------
    def register(self, name: str) -> ir.Value:
        """A special register, such as `tid.x`."""
        op = ir.Operation.create(f"nvvm.read.ptx.sreg.{name}", results=[self.i32])
        return op.results[0]

    def barrier(self) -> None:
        """All threads of the block meet."""
        ir.Operation.create("nvvm.barrier", attributes={"operandSegmentSizes": _segments(0, 0, 0)})

    def shuffle_xor(self, value: ir.Value, offset: int) -> ir.Value:
        """The value of the lane whose number differs by `offset` (xor)."""
        parts = [self._shuffle(part, offset) for part in self._to_words(value)]
        return self._from_words(parts, value.type)

    def _shuffle(self, word: ir.Value, offset: int) -> ir.Value:
        operands = [self.index(_ALL_LANES), word, self.index(offset), self.index(WARP - 1)]
        kind = ir.Attribute.parse("#nvvm<shfl_kind bfly>")
        op = ir.Operation.create(
            "nvvm.shfl.sync", results=[self.i32], operands=operands, attributes={"kind": kind}
        )
        return op.results[0]

    def _to_words(self, value: ir.Value) -> list[ir.Value]:
        width = value.type.width
        if width == 64:
            bits = value
            if not isinstance(value.type, ir.IntegerType):
                bits = arith.bitcast(self.i64, value)
            high = arith.shrui(bits, self.scalar(self.i64, 32))
            return [arith.trunci(self.i32, bits), arith.trunci(self.i32, high)]
        if isinstance(value.type, ir.IntegerType):
            return [value if width == 32 else arith.extui(self.i32, value)]
        return [arith.bitcast(self.i32, value)]

    def _from_words(self, words: Sequence[ir.Value], type_: ir.Type) -> ir.Value:
        if type_.width == 64:
            low, high = (arith.extui(self.i64, word) for word in words)
            bits = arith.ori(low, arith.shli(high, self.scalar(self.i64, 32)))
            return bits if isinstance(type_, ir.IntegerType) else arith.bitcast(type_, bits)
        if isinstance(type_, ir.IntegerType):
            return words[0] if type_.width == 32 else arith.trunci(type_, words[0])
        return arith.bitcast(type_, words[0])

    # -- memory ------------------------------------------------------------------------------------
    def wide(self, value: Index) -> ir.Value:
        """A signed index in 64 bits."""
        if isinstance(value, int):
            return self.scalar(self.i64, value)
        return value if value.type == self.i64 else arith.extsi(self.i64, value)

    def offset(self, pointer: ir.Value, element: ir.Type, count: Index) -> ir.Value:
        """The pointer to `count` elements further on."""
        if isinstance(count, int) and count == 0:
            return pointer
        kind = ir.TypeAttr.get(memory_type(element))
        indices = [count] if not isinstance(count, int) else []
        raw = [_DYNAMIC] if indices else [count]
        return llvm.GEPOp(pointer.type, pointer, indices, raw, kind, None).result

    def load(self, pointer: ir.Value, element: ir.Type) -> ir.Value:
        """One element, in its compute type."""
        type_ = memory_type(element)
        raw = llvm.load(type_, pointer, alignment=memory_bytes(element))
        return self.from_memory(raw, element)

    def load_vector(self, pointer: ir.Value, element: ir.Type, count: int) -> list[ir.Value]:
        """Consecutive elements of aligned memory, in their compute type."""
        values: list[ir.Value] = []
        size = min(count, ACCESS_BYTES // memory_bytes(element))
        type_ = ir.VectorType.get([size], memory_type(element))
        for start in range(0, count, size):
            at = self.offset(pointer, element, start)
            raw = llvm.load(type_, at, alignment=size * memory_bytes(element))
            parts = [vector.extract(raw, [], [i]) for i in range(size)]
            values += [self.from_memory(part, element) for part in parts]
        return values

    def store(self, value: ir.Value, pointer: ir.Value, element: ir.Type) -> None:
        """One element, from its compute type."""
        raw = self.to_memory(value, element)
        llvm.store(raw, pointer, alignment=memory_bytes(element))

    def store_vector(self, values: Sequence[ir.Value], pointer: ir.Value, element: ir.Type) -> None:
        """Consecutive elements of aligned memory, from their compute type."""
        size = min(len(values), ACCESS_BYTES // memory_bytes(element))
        type_ = ir.VectorType.get([size], memory_type(element))
        for start in range(0, len(values), size):
            parts = self._narrow(values[start : start + size], element)
            raw = vector.from_elements(type_, parts)
            at = self.offset(pointer, element, start)
            llvm.store(raw, at, alignment=size * memory_bytes(element))

    def _narrow(self, values: Sequence[ir.Value], element: ir.Type) -> list[ir.Value]:
        """To memory, 16-bit floats in pairs: one instruction rounds two."""
        if not isinstance(element, (ir.F16Type, ir.BF16Type)) or len(values) % 2:
            return [self.to_memory(value, element) for value in values]
        found: list[ir.Value] = []
        for first, second in zip(values[::2], values[1::2], strict=True):
            pair = vector.from_elements(ir.VectorType.get([2], first.type), [first, second])
            narrow = arith.truncf(ir.VectorType.get([2], element), pair)
            found += [vector.extract(narrow, [], [i]) for i in range(2)]
        return found

    def from_memory(self, raw: ir.Value, element: ir.Type) -> ir.Value:
        """The compute type of what was loaded."""
        wanted = compute_type(element)
        if is_float8(element):
            return float8_value(self, raw)
        if isinstance(element, ir.IndexType):
            return arith.trunci(wanted, saturated(self, raw, wanted))
        if isinstance(element, ir.IntegerType) and element.width == 1:
            return arith.cmpi(arith.CmpIPredicate.ne, raw, self.like(raw, 0))
        return raw if raw.type == wanted else arith.extf(wanted, raw)

    def to_memory(self, value: ir.Value, element: ir.Type) -> ir.Value:
        """What is stored of a value in its compute type."""
        wanted = memory_type(element)
        if is_float8(element):
            return float8_bits(self, value)
        if isinstance(element, ir.IndexType):
            return arith.extsi(wanted, value)
        if value.type == wanted:
            return value
        if isinstance(wanted, ir.IntegerType):
            return arith.extui(wanted, value)
        return arith.truncf(wanted, value)

    # -- control -----------------------------------------------------------------------------------
    def both(self, a: ir.Value | None, b: ir.Value | None) -> ir.Value | None:
        """A and b, where None is true."""
        if a is None or b is None:
            return a if b is None else b
        return arith.andi(a, b)

    def guarded(self, condition: ir.Value | None, then: Callable[[], None]) -> None:
        """Run `then` under a condition; None is true."""
        if condition is None:
            then()
        else:
            self.when(condition, then)

    def branch(
        self, condition: ir.Value, then: Callable[[], None], otherwise: Callable[[], None]
    ) -> None:
        """One of two branches."""
        op = scf.IfOp(condition, has_else=True)
        for block, body in ((op.then_block, then), (op.else_block, otherwise)):
            with ir.InsertionPoint(block):
                body()
                scf.yield_([])


def _segments(*sizes: int) -> ir.Attribute:
    return ir.DenseI32ArrayAttr.get(list(sizes))
