"""Kernels for tests of mbarriers, copies by tensor maps and wgmma, in LLVM IR, a line each.

Shared memory holds mbarriers at byte 0 (`MBARRIER`), then what tests put there, from byte 1024 on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagc.simulator import Buffer, Report, TensorMap
from diagc.simulator.launch import Parameter
from diagc.testing.lane_kernel import kernel_text, run_text
from diagc.testing.word_kernel import BARRIER, GLOBAL, SHARED

__all__ = [
    "COMMIT_STORES",
    "MBARRIER",
    "MBARRIER_FENCE",
    "PROXY_FENCE",
    "Products",
    "arrive",
    "expect",
    "init",
    "leader",
    "load",
    "place",
    "run_copies",
    "run_stores",
    "store",
    "wait",
    "wait_stores",
]

MBARRIER = "@shared"
MBARRIER_FENCE = "  call void @llvm.nvvm.fence.mbarrier_init.release.cluster()"
COMMIT_STORES = "  call void @llvm.nvvm.cp.async.bulk.commit.group()"
PROXY_FENCE = "  call void @llvm.nvvm.fence.proxy.async.shared_cta()"
_LOOP = (
    "{ .reg .pred P1; LAB_WAIT: mbarrier.try_wait.parity.shared.b64 P1, [$0], $1; "
    "@P1 bra DONE; bra LAB_WAIT; DONE: }"
)

Words = NDArray[np.uint16]


def place(offset: int) -> str:
    """A pointer to a byte of shared memory."""
    return f"getelementptr (i8, {SHARED} @shared, i32 {offset})"


def init(count: int, offset: int = 0) -> str:
    """Initialise an mbarrier."""
    return f"  call void @llvm.nvvm.mbarrier.init.shared({SHARED} {place(offset)}, i32 {count})"


def arrive(name: str, offset: int = 0) -> str:
    """Arrive once; `name` gets the token."""
    return f"  {name} = call i64 @llvm.nvvm.mbarrier.arrive.shared({SHARED} {place(offset)})"


def expect(name: str, size: int, offset: int = 0) -> str:
    """Arrive once, and expect bytes of copies."""
    function = "@llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space.cta"
    return f"  {name} = call i64 {function}({SHARED} {place(offset)}, i32 {size})"


def wait(parity: int, offset: int = 0) -> str:
    """Wait for the phase with a parity."""
    return f'  call void asm sideeffect "{_LOOP}", "r,r"({SHARED} {place(offset)}, i32 {parity})'


def load(tensor_map: str, to: int, at: Sequence[int], mbarrier: int = 0) -> str:
    """Copy a box to shared memory; coordinates from the innermost dimension on."""
    coordinates = ", ".join(f"i32 {x}" for x in at)
    return (
        f"  call void @llvm.nvvm.cp.async.bulk.tensor.g2s.cta.tile.{len(at)}d"
        f"({SHARED} {place(to)}, {SHARED} {place(mbarrier)}, "
        f"ptr {tensor_map}, {coordinates}, i64 0, i1 false)"
    )


def store(tensor_map: str, start: int, at: Sequence[int]) -> str:
    """Copy a box from shared memory; coordinates from the innermost dimension on."""
    coordinates = ", ".join(f"i32 {x}" for x in at)
    return (
        f"  call void @llvm.nvvm.cp.async.bulk.tensor.s2g.tile.{len(at)}d"
        f"({SHARED} {place(start)}, ptr {tensor_map}, {coordinates}, i64 0, i1 false)"
    )


def wait_stores(pending: int = 0) -> str:
    """Wait until all but some groups of stores have read shared memory."""
    return f"  call void @llvm.nvvm.cp.async.bulk.wait.group.read(i32 {pending})"


def leader(body: str, label: str = "leader") -> str:
    """What the first thread of the block does alone."""
    return f"""  %is_{label} = icmp eq i32 %lane, 0
  br i1 %is_{label}, label %{label}, label %after_{label}
{label}:
{body}
  br label %after_{label}
after_{label}:"""


def run_copies(
    body: str, source: Words, box: tuple[int, ...], *, out: int, threads: int = 64, seed: int = 0
) -> tuple[Report, Words]:
    """Run a body with the tensor map `%map` of 16-bit elements; gives `out` elements."""
    result = np.full(out, 0xDEAD, np.uint16)
    parameters = f"ptr byval([128 x i8]) align 64 %map, {GLOBAL} %out"
    tensor_map = TensorMap(Buffer(source, "source"), box)
    params: list[Parameter] = [tensor_map, Buffer(result, "out", writable=True)]
    text = kernel_text(parameters, body + "\n  ret void")
    return run_text(text, params, threads=threads, shared=1 << 16, seed=seed), result


def run_stores(
    body: str, shape: tuple[int, ...], box: tuple[int, ...], *, writable: bool = True, seed: int = 0
) -> tuple[Report, Words]:
    """Run a body of two warps with the tensor map `%map` of an array that it writes; gives that."""
    result = np.full(shape, 0xDEAD, np.uint16)
    tensor_map = TensorMap(Buffer(result, "result", writable=writable), box)
    text = kernel_text("ptr byval([128 x i8]) align 64 %map", body + "\n  ret void")
    return run_text(text, [tensor_map], threads=64, shared=1 << 16, seed=seed), result


@dataclass(frozen=True)
class Products:
    """A kernel of one warpgroup: A (64 x 64) times B (64 x n), in four steps of wgmma.

    A and B come by copies, B with its columns as lines or, `by_k`, with positions of k as lines.

    Args:
        n: columns.
        dtype: "bf16" or "f16".
        by_k: how B lies; then n is 64 or a multiple of it.
        registers: whether A comes in registers.
        leading, stride: of the matrix descriptor of B, in bytes.
    """

    n: int = 64
    dtype: str = "bf16"
    by_k: bool = False
    registers: bool = False
    leading: int = 8192
    stride: int = 1024

    A, B = 1024, 1024 + 64 * 128

    def copies(self) -> str:
        """Of A and B by the first thread, with the wait for them."""
        size = 64 * 128 + self.n * 128
        boxes = self.n // 64 if self.by_k else 1
        loads = [load("%b", self.B + 8192 * i, (64 * i, 0)) for i in range(boxes)]
        start = [expect("%copied", size), load("%a", self.A, (0, 0)), *loads]
        return "\n".join(
            [
                leader("\n".join([init(1), MBARRIER_FENCE])),
                BARRIER,
                leader("\n".join(start), "copier"),
                wait(0),
            ]
        )

    def _descriptor(self, byte: int, leading: int, stride: int) -> int:
        address = (0x10000000 + byte & 0x3FFFF) >> 4
        return 1 << 62 | stride >> 4 << 32 | leading >> 4 << 16 | address

    def product(self, step: int, before: str = "") -> str:
        """`%s{step}`, a struct of all sums, from the values `before`i (or none)."""
        count = self.n // 2
        struct = "{ " + ", ".join(["float"] * count) + " }"
        inputs = [f"float {before}{i}" for i in range(count)] if before else []
        first = count + len(inputs)
        if self.registers:
            inputs += [f"i32 %w{step}_{i}" for i in range(4)]
            rows = "{" + ", ".join(f"${first + i}" for i in range(4)) + "}"
        else:
            inputs.append(f"i64 {self._descriptor(self.A + 32 * step, 16, 1024)}")
            rows = f"${first}"
        last = f"${first + (4 if self.registers else 1)}"
        start = self.B + (2048 if self.by_k else 32) * step
        inputs.append(f"i64 {self._descriptor(start, self.leading, self.stride)}")
        sums = "{" + ", ".join(f"${i}" for i in range(count)) + "}"
        tail = f"{int(self.by_k)}" if self.registers else f"0, {int(self.by_k)}"
        template = (
            f"{{ .reg .pred p; setp.ne.b32 p, {int(bool(before))}, 0; wgmma.mma_async.sync.aligned."
            f"m64n{self.n}k16.f32.{self.dtype}.{self.dtype} {sums}, {rows}, {last}, "
            f"p, 1, 1, {tail}; }}"
        )
        call = f'asm sideeffect "{template}", "{self._constraints(inputs, before)}"'
        return f"  %s{step} = call {struct} {call}({', '.join(inputs)})\n" + self.taken(
            f"%s{step}", f"%s{step}_"
        )

    def _constraints(self, inputs: Sequence[str], before: str) -> str:
        count = self.n // 2
        tied = [str(i) for i in range(count)] if before else []
        rest = ["l" if item.startswith("i64") else "r" for item in inputs[len(tied) :]]
        return ",".join([*["=f"] * count, *tied, *rest])

    def taken(self, struct: str, name: str) -> str:
        """The values of a struct, `name`0, `name`1 and so on."""
        kind = "{ " + ", ".join(["float"] * (self.n // 2)) + " }"
        lines = [f"  {name}{i} = extractvalue {kind} {struct}, {i}" for i in range(self.n // 2)]
        return "\n".join(lines)

    def waited(self, groups: int, before: str = "%s3_", name: str = "%d") -> str:
        """A wait that is tied to the sums `before`i, and gives `name`i."""
        count = self.n // 2
        kind = "{ " + ", ".join(["float"] * count) + " }"
        constraints = ",".join([*["=f"] * count, *map(str, range(count))])
        values = ", ".join(f"float {before}{i}" for i in range(count))
        template = f"wgmma.wait_group.sync.aligned {groups};"
        head = f'  {name} = call {kind} asm sideeffect "{template}", "{constraints}"({values})'
        return head + "\n" + self.taken(name, name)

    def stores(self, name: str = "%d") -> str:
        """All sums to `out`, thread by thread."""
        lines = [f"  %first = mul i32 %lane, {self.n // 2}"]
        for i in range(self.n // 2):
            lines += [
                f"  %at{i} = add i32 %first, {i}",
                f"  %to{i} = getelementptr float, {GLOBAL} %out, i32 %at{i}",
                f"  store float {name}{i}, {GLOBAL} %to{i}, align 4",
            ]
        return "\n".join(lines)

    def words_of_rows(self) -> str:
        """`%w{step}_{i}`: A as operands in registers, from the array `words`."""
        lines = []
        for step in range(4):
            for i in range(4):
                number = 4 * step + i
                lines += [
                    f"  %p{number}i = add i32 %lane, {128 * number}",
                    f"  %p{number} = getelementptr i32, {GLOBAL} %words, i32 %p{number}i",
                    f"  %w{step}_{i} = load i32, {GLOBAL} %p{number}, align 4",
                ]
        return "\n".join(lines)

    def steps(self) -> str:
        """All four."""
        before = ["", "%s0_", "%s1_", "%s2_"]
        return "\n".join(self.product(step, before[step]) for step in range(4))

    def run(
        self, body: str, a: Words, b: Words, words: NDArray[np.uint32], *, seed: int = 0
    ) -> tuple[Report, NDArray[np.float32]]:
        """Run a body; gives the sums, (128 threads, n / 2)."""
        result = np.full((128, self.n // 2), np.nan, np.float32)
        tensor_map = "ptr byval([128 x i8]) align 64"
        parameters = f"{tensor_map} %a, {tensor_map} %b, {GLOBAL} %words, {GLOBAL} %out"
        box = (64, 64) if self.by_k else (self.n, 64)
        params: list[Parameter] = [
            TensorMap(Buffer(a, "a"), (64, 64)),
            TensorMap(Buffer(b, "b"), box),
            Buffer(words, "words"),
            Buffer(result, "out", writable=True),
        ]
        text = kernel_text(parameters, body + "\n  ret void")
        report = run_text(text, params, threads=128, shared=1 << 16, seed=seed)
        return report, result
