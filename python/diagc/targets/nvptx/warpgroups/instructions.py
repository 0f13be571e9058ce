"""The instructions of sm_90a: wgmma, mbarriers, copies by tensor maps, registers of a warpgroup."""

from collections.abc import Callable, Sequence

from diagc.mlir import arith, ir, llvm, nvvm, scf
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.instructions import FULL_WARP, Code

__all__ = ["STEP_BYTES", "WARPGROUP", "WarpgroupCode"]

WARPGROUP = 128
"""Threads."""

STEP_BYTES = 32
"""Of an operand, that one product sums over: 16 positions of 16 bits, 32 of f8."""

_KINDS = {"f8E4M3FN": "e4m3"}
_SWIZZLES = {128: 1, 64: 2, 32: 3}  # bytes of a line, and the field of a descriptor

# numbers of barriers; 0 is that of all threads
_CONSUMERS = 1
_FIRST_TURN = 2  # of the first group, then one each

_WAIT = (
    "{ .reg .pred P1; LAB_WAIT: mbarrier.try_wait.parity.shared::cta.b64 P1, [$0], $1; "
    "@P1 bra DONE; bra LAB_WAIT; DONE: }"
)


class WarpgroupCode(Code):
    """An emitter for the consumers of a block: `barrier` is one of them alone.

    Args:
        consumers: threads that compute.
    """

    def __init__(self, consumers: int) -> None:
        """Nothing is emitted yet."""
        super().__init__()
        self.consumers = consumers
        self._dialect = ir.IntegerAttr.get(self.i64, 0)  # AT&T, the only one there is

    def barrier(self) -> None:
        """Wait for all threads that compute."""
        nvvm.BarrierOp(barrierId=self.index(_CONSUMERS), numberOfThreads=self.index(self.consumers))

    def wait_turn(self, group: Index) -> None:
        """Wait until another group has given a group, this one, its turn."""
        both = self.index(2 * WARPGROUP)
        nvvm.BarrierOp(barrierId=self._turn(group), numberOfThreads=both, aligned=True)

    def give_turn(self, group: Index) -> None:
        """Another group may go on; this one does not wait for it."""
        both = self.index(2 * WARPGROUP)
        nvvm.BarrierArriveOp(both, barrierId=self._turn(group), aligned=True)

    def _turn(self, group: Index) -> ir.Value:
        return self.index(self.add(group, _FIRST_TURN))

    def barrier_of_all(self) -> None:
        """Wait for all threads of the block."""
        super().barrier()

    def choose_values(
        self,
        condition: ir.Value,
        first: Callable[[], Sequence[ir.Value]],
        second: Callable[[], Sequence[ir.Value]],
    ) -> list[ir.Value]:
        """A branch with results, of the types that `second` gives; it is asked for them first."""
        values = list(second())
        branch = scf.IfOp(condition, [value.type for value in values], has_else=True)
        with self.region(branch.operation, branch.then_block):
            scf.yield_(list(first()))
        with self.region(branch.operation, branch.else_block):
            scf.yield_(values)
        return list(branch.results)

    def uniform(self, value: Index) -> ir.Value:
        """A number that is the same in the whole warp, so that ptxas knows it."""
        return self.value_of_lane(self.index(value), 0)

    def elect(self) -> ir.Value:
        """Whether this is the one lane of the warp that was chosen (i1)."""
        return nvvm.ElectSyncOp(results=[self.i1]).pred

    def set_registers(self, count: int, *, more: bool) -> None:
        """Change what every thread of the warpgroup has."""
        action = "increase" if more else "decrease"
        nvvm.SetMaxRegisterOp(count, ir.Attribute.parse(f"#nvvm<action {action}>"))

    # -- mbarriers -------------------------------------------------------------------------------
    def init_mbarrier(self, place: ir.Value, count: int) -> None:
        """Expect so many arrivals in every phase."""
        nvvm.MBarrierInitOp(place, self.index(count))

    def fence_mbarriers(self) -> None:
        """What was initialised is visible to copies that are ordered behind."""
        nvvm.FenceMbarrierInitOp()

    def arrive(self, place: ir.Value) -> None:
        """Arrive once."""
        nvvm.MBarrierArriveOp(place, results=[self.i64])

    def expect(self, place: ir.Value, size: int) -> None:
        """Arrive once, and expect bytes of copies."""
        nvvm.MBarrierArriveExpectTxOp(place, self.index(size))

    def wait_mbarrier(self, place: ir.Value, parity: Index) -> None:
        """Wait until the phase with a parity is over."""
        address = llvm.PtrToIntOp(self.i32, place).result
        self._assembly(None, [address, self.index(parity)], _WAIT, "r,r,~{memory}")

    def copy_box(
        self, target: ir.Value, tensor_map: ir.Value, at: Sequence[Index], mbarrier: ir.Value
    ) -> None:
        """Start copying a box; coordinates from the innermost dimension on."""
        coordinates = [self.index(x) for x in at]
        nvvm.CpAsyncBulkTensorGlobalToSharedClusterOp(
            target, tensor_map, coordinates, mbarrier, [], isCTAOnly=True
        )

    def store_box(self, tensor_map: ir.Value, source: ir.Value, at: Sequence[Index]) -> None:
        """Start copying a box from shared memory; coordinates as of `copy_box`."""
        coordinates = [self.index(x) for x in at]
        nvvm.CpAsyncBulkTensorSharedCTAToGlobalOp(tensor_map, source, coordinates)

    def commit_stores(self) -> None:
        """What this thread has started since the last time is a group."""
        nvvm.CpAsyncBulkCommitGroupOp()

    def wait_stores(self) -> None:
        """Wait until all stores of this thread have read shared memory."""
        nvvm.CpAsyncBulkWaitGroupOp(0, read=True)

    def fence_proxy(self) -> None:
        """What threads wrote to shared memory is visible to products and stores behind."""
        kind = ir.Attribute.parse("#nvvm.proxy_kind<async.shared>")
        nvvm.FenceProxyOp(kind, space=ir.Attribute.parse("#nvvm.shared_space<cta>"))

    # -- products --------------------------------------------------------------------------------
    def multiply_async(
        self,
        kind: str,
        columns: int,
        sums: Sequence[ir.Value],
        rows: Sequence[ir.Value],
        descriptor: ir.Value,
        *,
        by_k: bool,
    ) -> list[ir.Value]:
        """Issue a product of 64 rows of a warpgroup, of one step; gives its sums, not there yet.

        Args:
            kind: bf16, f16 or f8E4M3FN, whose operands both go along k.
            columns: number of columns, a multiple of 8 up to 256.
            sums: what is added to (f32), `columns` / 2; none to start with.
            rows: four words of the A operand, or its descriptor (i64).
            descriptor: of the B operand.
            by_k: whether the lines of the B operand are positions of k.
        """
        count = columns // 2
        inputs = [*map(str, range(count))] if sums else []
        first = count + len(inputs)
        registers = len(rows) > 1
        names = [f"${first + i}" for i in range(len(rows) + 1)]
        a = "{" + ",".join(names[:-1]) + "}" if registers else names[0]
        wide = kind not in _KINDS
        tail = "1, 1" + ("" if registers or not wide else ", 0") + f", {int(by_k)}" * wide
        depth, name = (16, kind) if wide else (32, _KINDS[kind])
        d = "{" + ",".join(f"${i}" for i in range(count)) + "}"
        text = (
            f"{{ .reg .pred p; setp.ne.b32 p, {int(bool(sums))}, 0; wgmma.mma_async.sync.aligned."
            f"m64n{columns}k{depth}.f32.{name}.{name} {d}, {a}, {names[-1]}, p, {tail}; }}"
        )
        constraints = ["=f"] * count + inputs + (["r"] * 4 if registers else ["l"]) + ["l"]
        operands = [*sums, *rows, descriptor]
        return self._values([self.f32] * count, operands, text, constraints)

    def fence_products(
        self, sums: Sequence[ir.Value] = (), words: Sequence[ir.Value] = ()
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """Registers are ready for products; those given are handed on: none moves behind."""
        if not sums and not words:
            nvvm.WgmmaFenceAlignedOp()
            return [], []
        types = [self.f32] * len(sums) + [self.i32] * len(words)
        found = self._tied(types, [*sums, *words], "wgmma.fence.sync.aligned;")
        return found[: len(sums)], found[len(sums) :]

    def commit_products(self) -> None:
        """What was issued since the last time is a group."""
        nvvm.WgmmaGroupSyncAlignedOp()

    def wait_products(self, pending: int, sums: Sequence[ir.Value]) -> list[ir.Value]:
        """Wait until `pending` groups are under way; gives sums of a product that is over."""
        text = f"wgmma.wait_group.sync.aligned {pending};"
        return self._tied([self.f32] * len(sums), sums, text)

    # -- f8 --------------------------------------------------------------------------------------
    def pack_float8(self, low: ir.Value, high: ir.Value) -> ir.Value:
        """Two f32 rounded to f8E4M3FN, beyond its range to the largest, in an i16."""
        text = "cvt.rn.satfinite.e4m3x2.f32 $0, $1, $2;"
        i16 = ir.IntegerType.get_signless(16)
        return self._assembly(i16, [high, low], text, "=h,f,f").results[0]

    def permute_bytes(self, low: ir.Value, high: ir.Value, selector: Index) -> ir.Value:
        """Four of the eight bytes of two words, by the digits of a selector."""
        operands = [low, high, self.index(selector)]
        return llvm.CallIntrinsicOp(self.i32, "llvm.nvvm.prmt", operands, [], []).operation.results[
            0
        ]

    def value_of_lane(self, value: ir.Value, lane: Index) -> ir.Value:
        """The word of another lane."""
        operands = [self.index(x) for x in (FULL_WARP, value, lane, 31)]
        kind = ir.Attribute.parse("#nvvm<shfl_kind idx>")
        return nvvm.ShflOp(*operands, kind, results=[self.i32]).res

    # -- assembly --------------------------------------------------------------------------------
    def _tied(
        self, types: Sequence[ir.Type], values: Sequence[ir.Value], text: str
    ) -> list[ir.Value]:
        letters = ["=f" if kind == self.f32 else "=r" for kind in types]
        return self._values(types, values, text, [*letters, *map(str, range(len(values)))])

    def _values(
        self,
        types: Sequence[ir.Type],
        operands: Sequence[ir.Value],
        text: str,
        constraints: Sequence[str],
    ) -> list[ir.Value]:
        """Assembly with several results."""
        if len(types) == 1:
            return [self._assembly(types[0], operands, text, ",".join(constraints)).results[0]]
        struct = ir.Type.parse("!llvm.struct<(" + ", ".join(map(str, types)) + ")>")
        found = self._assembly(struct, operands, text, ",".join(constraints)).results[0]
        return [
            llvm.extractvalue(kind, found, ir.DenseI64ArrayAttr.get([i]))
            for i, kind in enumerate(types)
        ]

    def _assembly(
        self, result: ir.Type | None, operands: Sequence[ir.Value], text: str, constraints: str
    ) -> ir.OpView:
        return llvm.InlineAsmOp(
            result,
            list(operands),
            text,
            constraints,
            has_side_effects=True,
            asm_dialect=self._dialect,
        )

    def descriptor(self, address: ir.Value, leading: int, pitch: int) -> ir.Value:
        """Of a matrix in shared memory (i32 address), swizzled; PTX ISA, wgmma.

        Args:
            address: a multiple of 16.
            leading: bytes from one panel to the next, where lines are positions of k.
            pitch: bytes of a line of a panel: 128, 64 or 32.
        """
        bits = arith.andi(address, self.index(0x3FFFF))
        start = arith.extui(self.i64, arith.shrui(bits, self.index(4)))
        fixed = _SWIZZLES[pitch] << 62 | 8 * pitch >> 4 << 32 | leading >> 4 << 16
        signed = fixed - (1 << 64) if fixed >> 63 else fixed
        return arith.ori(start, self.scalar(self.i64, signed))

    def moved(self, descriptor: ir.Value, distance: Index) -> ir.Value:
        """The descriptor of a matrix some bytes (a multiple of 16) further on."""
        if isinstance(distance, int):
            if distance == 0:
                return descriptor
            return arith.addi(descriptor, self.scalar(self.i64, distance // 16))
        return arith.addi(descriptor, arith.extui(self.i64, self.index(self.div(distance, 16))))
