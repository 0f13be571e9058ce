"""The instructions that tiles are made of: addresses, copies, ldmatrix, mma, shuffles, barriers."""

from collections.abc import Sequence

from diagc.mlir import arith, ir, llvm, math_dialect, nvvm, vector
from diagc.targets.nvptx.tiles.emitter import Emitter, Index

__all__ = ["FULL_WARP", "Code"]

FULL_WARP = -1
"""Mask of all 32 lanes."""

_DYNAMIC = -2147483648
_INBOUNDS = 1
_LARGEST_F32 = 3.4028234663852886e38
_TF32_BITS = -8192  # 0xffffe000: sign, exponent and the 10 bits of mantissa that tf32 has

_TF32_HALF = 0x1000  # of the last place
_NO_SIGN = 0x7FFFFFFF
_LARGE_BITS = 0x7F000000  # 2**127: numbers from there on, infinity and NaN are not rounded


class Code(Emitter):
    """An emitter that knows the GPU's instructions."""

    def __init__(self) -> None:
        super().__init__()
        parse = ir.Attribute.parse
        self.shared = ir.Type.parse("!llvm.ptr<3>")
        self.glob = ir.Type.parse("!llvm.ptr<1>")
        self._by_row = parse("#nvvm.mma_layout<row>")
        self._by_column = parse("#nvvm.mma_layout<col>")
        self._matrix_shape = parse("#nvvm.ld_st_matrix_shape<m = 8, n = 8>")
        self._matrix_element = parse("#nvvm.ld_st_matrix_elt_type<b16>")
        self._four_words = ir.Type.parse("!llvm.struct<(i32, i32, i32, i32)>")
        self._four_floats = ir.Type.parse("!llvm.struct<(f32, f32, f32, f32)>")
        self._cached = parse("#nvvm<load_cache_modifier cg>")
        self._butterfly = parse("#nvvm<shfl_kind bfly>")
        self._any = parse("#nvvm<vote_sync_kind any>")
        self.contract = parse("#arith.fastmath<contract>")
        self._positions = [ir.DenseI64ArrayAttr.get([i]) for i in range(4)]
        self._pairs = {kind: ir.Type.parse(f"vector<2x{kind}>") for kind in ("bf16", "f16")}
        self._shapes = {k: parse(f"#nvvm.shape<m = 16, n = 8, k = {k}>") for k in (8, 16)}
        self._types = {t: parse(f"#nvvm.mma_type<{t}>") for t in ("bf16", "f16", "tf32")}

    # -- addresses and memory ------------------------------------------------------------------
    def address(self, base: ir.Value, offset: Index) -> ir.Value:
        """A pointer `offset` bytes (i32 or i64) behind another."""
        if isinstance(offset, int):
            if offset == 0:
                return base
            dynamic, constants = [], [offset]
        else:
            dynamic, constants = [offset], [_DYNAMIC]
        element = ir.TypeAttr.get(self.i8)
        return llvm.GEPOp(base.type, base, dynamic, constants, element, _INBOUNDS).result

    def load(self, type_: ir.Type, pointer: ir.Value, alignment: int) -> ir.Value:
        """Read a value."""
        return llvm.LoadOp(type_, pointer, alignment=alignment).result

    def load_f32_pair(self, pointer: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Two neighbouring f32, aligned to 8 bytes."""
        pair = self.load(ir.VectorType.get([2], self.f32), pointer, 8)
        return vector.extract(pair, [], [0]), vector.extract(pair, [], [1])

    def f32_pair(self, low: ir.Value, high: ir.Value) -> ir.Value:
        """Two f32 as a vector."""
        return vector.from_elements(ir.VectorType.get([2], self.f32), [low, high])

    def store(self, value: ir.Value, pointer: ir.Value, alignment: int) -> None:
        """Write a value."""
        llvm.StoreOp(value, pointer, alignment=alignment)

    def copy_async(self, target: ir.Value, source: ir.Value, size: ir.Value | None) -> None:
        """Start a copy of 16 bytes to shared memory; those behind `size` (i32) become 0."""
        nvvm.CpAsyncOp(target, source, 16, self._cached, cpSize=size)

    def commit_copies(self) -> None:
        """What was started since the last time is a group."""
        nvvm.CpAsyncCommitGroupOp()

    def wait_copies(self, pending: int) -> None:
        """Wait until at most `pending` groups of this thread are under way."""
        nvvm.CpAsyncWaitGroupOp(pending)

    def barrier(self) -> None:
        """Wait for all threads of the block."""
        nvvm.BarrierOp(aligned=True)

    def sync_warp(self) -> None:
        """Wait for all lanes of the warp."""
        nvvm.SyncWarpOp(self.index(FULL_WARP))

    # -- matrices ------------------------------------------------------------------------------
    def load_matrices(self, pointer: ir.Value, *, transposed: bool) -> list[ir.Value]:
        """Four 8 x 8 matrices of 16-bit elements, two elements (an i32) of each per lane."""
        layout = self._by_column if transposed else self._by_row
        found = nvvm.LdMatrixOp(
            pointer,
            4,
            layout,
            self._matrix_shape,
            self._matrix_element,
            results=[self._four_words],
        ).res
        return [self._extract(self.i32, found, i) for i in range(4)]

    def store_matrices(self, pointer: ir.Value, words: Sequence[ir.Value]) -> None:
        """Four 8 x 8 matrices of 16-bit elements, as `load_matrices` gives them."""
        shape, element = self._matrix_shape, self._matrix_element
        nvvm.StMatrixOp(pointer, list(words), self._by_row, shape, element)

    def multiply(
        self,
        kind: str,
        a: Sequence[ir.Value],
        b: Sequence[ir.Value],
        sums: Sequence[ir.Value],
    ) -> list[ir.Value]:
        """A product of fragments (i32 words) m16 n8, added to four f32; kind is bf16, f16, tf32."""
        if kind == "f16":
            a, b = ([self.bitcast(self.pair_type("f16"), x) for x in words] for words in (a, b))
        found = nvvm.MmaOp(
            self._four_floats,
            self._shapes[8 if kind == "tf32" else 16],
            self._by_row,
            self._by_column,
            list(a),
            list(b),
            list(sums),
            multiplicandAPtxType=self._types[kind],
            multiplicandBPtxType=self._types[kind],
        ).res
        return [self._extract(self.f32, found, i) for i in range(4)]

    def _extract(self, type_: ir.Type, struct: ir.Value, position: int) -> ir.Value:
        return llvm.extractvalue(type_, struct, self._positions[position])

    # -- lanes ---------------------------------------------------------------------------------
    def exchange(self, value: ir.Value, distance: int) -> ir.Value:
        """The value of the lane whose number differs in the bit `distance`."""
        operands = [self.index(FULL_WARP), value, self.index(distance), self.index(31)]
        return nvvm.ShflOp(*operands, self._butterfly, results=[value.type]).res

    def uniform(self, value: Index) -> Index:
        """A number that is the same in the whole warp, where that must be known."""
        return value

    def any_lane(self, condition: ir.Value) -> ir.Value:
        """Whether a condition holds in any lane of the warp."""
        mask = self.index(FULL_WARP)
        return nvvm.VoteSyncOp(mask, condition, self._any, results=[self.i1]).res

    # -- scalars -------------------------------------------------------------------------------
    def bitcast(self, type_: ir.Type, value: ir.Value) -> ir.Value:
        """The same bits as another type."""
        return value if value.type == type_ else llvm.bitcast(type_, value)

    def pair_type(self, kind: str) -> ir.Type:
        """Two 16-bit floats."""
        return self._pairs[kind]

    def pack(self, kind: str, low: ir.Value, high: ir.Value) -> ir.Value:
        """Two f32 rounded to bf16 or f16, in an i32."""
        wide = self.f32_pair(low, high)
        return self.bitcast(self.i32, arith.truncf(self.pair_type(kind), wide))

    def unpack(self, kind: str, word: ir.Value, position: int) -> ir.Value:
        """One of the two 16-bit floats of an i32, as f32."""
        if kind == "bf16":
            bits = (
                arith.shli(word, self.index(16))
                if position == 0
                else arith.andi(word, self.index(-65536))
            )
            return self.bitcast(self.f32, bits)
        pair = self.bitcast(self.pair_type(kind), word)
        return arith.extf(self.f32, vector.extract(pair, [], [position]))

    def float8_words(self, word: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The four f8E4M3FN of an i32 as f16, exactly, in two words.

        The bits of exponent and mantissa are those of an f16 that is 2**8 times smaller, subnormal
        numbers too; that of NaN becomes 480, which no other number does.
        """
        low = arith.ori(self._moved(word, 0xFF, 8), self._moved(word, 0xFF00, 16))
        high = arith.ori(
            arith.andi(arith.shrui(word, self.index(8)), self.index(0xFF00)),
            arith.andi(word, self.index(-0x1000000)),
        )
        return self._halves(low), self._halves(high)

    def float8_half(self, byte: ir.Value) -> ir.Value:
        """The bits (i16) of an f8E4M3FN (i8) as f16."""
        word = self._halves(self._moved(arith.extui(self.i32, byte), 0xFF, 8))
        return arith.trunci(ir.IntegerType.get_signless(16), word)

    def _moved(self, word: ir.Value, mask: int, distance: int) -> ir.Value:
        return arith.shli(arith.andi(word, self.index(mask)), self.index(distance))

    def _halves(self, word: ir.Value) -> ir.Value:
        """Two f8 in the upper bytes of the halves of a word as two f16."""
        size = arith.andi(word, self.index(0x7F007F00))
        pair = self.bitcast(self.pair_type("f16"), arith.shrui(size, self.index(1)))
        half = ir.F16Type.get()
        scale = ir.DenseElementsAttr.get_splat(pair.type, ir.FloatAttr.get(half, 256.0))
        number = self.bitcast(self.i32, arith.mulf(pair, arith.constant(pair.type, scale)))
        is_nan = arith.andi(arith.addi(size, self.index(0x01000100)), self.index(-0x7FFF8000))
        sign = arith.andi(word, self.index(-0x7FFF8000))
        exponent = arith.shrui(is_nan, self.index(2))  # of 480, with the bit that it lacks
        return arith.ori(arith.ori(number, exponent), sign)

    def tf32_parts(self, value: ir.Value, parts: int) -> list[ir.Value]:
        """An f32 as a sum of `parts` numbers that tf32 holds, the largest first, as i32 words.

        Parts are cut, not rounded, so none overflows. Only the last one of infinity is infinite:
        the others are the largest numbers, as neither infinity minus infinity nor the product of
        infinity with a part that is 0 is a number.
        """
        found = []
        for part in range(parts):
            last = part == parts - 1
            word = self.bitcast(self.i32, value if last else self._clamped(value))
            word = arith.andi(word, self.index(_TF32_BITS))
            found.append(word)
            if not last:
                value = arith.subf(value, self.bitcast(self.f32, word))
        return found

    def tf32_nearest(self, value: ir.Value) -> ir.Value:
        """An f32 rounded to tf32, as an i32 word; what would overflow is cut."""
        word = self.bitcast(self.i32, value)
        raised = arith.addi(word, self.index(_TF32_HALF))
        size = arith.andi(word, self.index(_NO_SIGN))
        small = arith.cmpi(arith.CmpIPredicate.slt, size, self.index(_LARGE_BITS))
        return arith.andi(arith.select(small, raised, word), self.index(_TF32_BITS))

    def _clamped(self, value: ir.Value) -> ir.Value:
        """Infinities become the largest numbers."""
        largest = self.scalar(self.f32, _LARGEST_F32)
        return arith.minnumf(arith.maxnumf(value, self.scalar(self.f32, -_LARGEST_F32)), largest)

    def exp2(self, value: ir.Value) -> ir.Value:
        """Two to a power, within 2 units of the last place; results below 2**-126 are 0."""
        return nvvm.Ex2Op(value, ftz=True).result

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """A * b + c, rounded once."""
        return math_dialect.fma(a, b, c)

    def thread(self) -> ir.Value:
        """Number of the thread in its block."""
        return nvvm.ThreadIdXOp(results=[self.i32]).res

    def block(self) -> ir.Value:
        """Number of the block along x."""
        return nvvm.BlockIdXOp(results=[self.i32]).res

    def blocks(self) -> ir.Value:
        """Number of blocks along x."""
        return nvvm.GridDimXOp(results=[self.i32]).res
