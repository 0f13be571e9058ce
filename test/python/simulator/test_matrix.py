"""Matrix instructions against numpy, with the fragment layouts written down a second time."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diagc.testing.lane_kernel import run_lanes

LANES = np.arange(32)
GROUP, POSITION = LANES // 4, LANES % 4
Words = NDArray[np.uint32]


def bf16_bits(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = x.view(np.uint32)
    rounded: Any = bits + 0x7FFF + (bits >> 16 & 1)
    return np.asarray(rounded >> 16, np.uint16)


def bf16_values(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def pack(low: NDArray[np.uint16], high: NDArray[np.uint16]) -> Words:
    return np.stack([low, high], -1).view(np.uint32)[..., 0]


def fragment_a(bits: NDArray[np.uint16]) -> Words:
    """PTX ISA: row g for a0, a1, a4, a5, else g + 8; columns 2t + (i & 1), 8 more from a4 on."""
    blocks = [(row, first) for first in range(0, bits.shape[1], 8) for row in (GROUP, GROUP + 8)]
    words = [
        pack(bits[row, first + 2 * POSITION], bits[row, first + 2 * POSITION + 1])
        for row, first in blocks
    ]
    return np.stack(words)


def fragment_b(bits: NDArray[np.uint16]) -> Words:
    """PTX ISA: rows 2t, 2t + 1 (b0, b1), 2t + 8, 2t + 9 (b2, b3); column g."""
    return np.stack(
        [
            pack(bits[first + 2 * POSITION, GROUP], bits[first + 2 * POSITION + 1, GROUP])
            for first in range(0, bits.shape[0], 8)
        ]
    )


def fragment_c(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows g, g, g + 8, g + 8; columns 2t, 2t + 1."""
    rows = (GROUP, GROUP, GROUP + 8, GROUP + 8)
    return np.stack([values[row, 2 * POSITION + i % 2] for i, row in enumerate(rows)])


def unpack_c(words: NDArray[np.float32]) -> NDArray[np.float32]:
    values = np.zeros((16, 8), np.float32)
    rows = (GROUP, GROUP, GROUP + 8, GROUP + 8)
    for i, row in enumerate(rows):
        values[row, 2 * POSITION + i % 2] = words[i]
    return values


def mma_body(name: str, kind: str, a: int, b: int) -> str:
    """Bitcasts, the instruction, and the four results as words."""
    lines = [f"  %v{i} = bitcast i32 %x{i} to {kind}" for i in range(a + b)]
    lines += [f"  %c{i} = bitcast i32 %x{a + b + i} to float" for i in range(4)]
    args = [f"{kind} %v{i}" for i in range(a + b)] + [f"float %c{i}" for i in range(4)]
    result = "{ float, float, float, float }"
    lines.append(f"  %d = call {result} @llvm.nvvm.mma.{name}({', '.join(args)})")
    for i in range(4):
        lines.append(f"  %e{i} = extractvalue {result} %d, {i}")
        lines.append(f"  %y{i} = bitcast float %e{i} to i32")
    return "\n".join(lines)


@pytest.mark.parametrize("k", [8, 16])
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_mma_of_16_bit_elements(dtype: str, k: int, rng: np.random.Generator) -> None:
    a, b, c = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((16, k), (k, 8), (16, 8))
    )
    if dtype == "f16":
        a_bits, b_bits = a.astype(np.float16).view(np.uint16), b.astype(np.float16).view(np.uint16)
        a_values, b_values = (x.view(np.float16).astype(np.float32) for x in (a_bits, b_bits))
        name, kind = f"m16n8k{k}.row.col.f32.f32", "<2 x half>"
    else:
        a_bits, b_bits = bf16_bits(a), bf16_bits(b)
        a_values, b_values = bf16_values(a_bits), bf16_values(b_bits)
        name, kind = f"m16n8k{k}.row.col.bf16", "i32"
    words = np.concatenate([fragment_a(a_bits), fragment_b(b_bits), fragment_c(c).view(np.uint32)])
    body = mma_body(name, kind, k // 4, k // 8)
    result, report = run_lanes(body, words, 4)
    wanted = a_values.astype(np.float64) @ b_values.astype(np.float64) + c
    assert report.clean, report
    np.testing.assert_allclose(unpack_c(result.view(np.float32)), wanted, rtol=1e-5, atol=1e-5)
    assert report.counters.instructions["tensor"] == 1


@pytest.mark.parametrize("k", [4, 8])
def test_mma_of_tf32_ignores_the_lower_bits(k: int, rng: np.random.Generator) -> None:
    a, b, c = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((16, k), (k, 8), (16, 8))
    )
    rows = (GROUP, GROUP + 8)
    a_words = np.stack([a[row, first + POSITION] for first in range(0, k, 4) for row in rows])
    b_words = np.stack([b[first + POSITION, GROUP] for first in range(0, k, 4)])
    words = np.concatenate([a_words, b_words, fragment_c(c)]).view(np.uint32)
    body = mma_body(f"m16n8k{k}.row.col.tf32", "i32", k // 2, k // 4)
    result, report = run_lanes(body, words, 4)
    cut = [(x.view(np.uint32) & 0xFFFFE000).view(np.float32).astype(np.float64) for x in (a, b)]
    assert report.clean, report
    np.testing.assert_allclose(
        unpack_c(result.view(np.float32)), cut[0] @ cut[1] + c, rtol=1e-5, atol=1e-5
    )


def test_mma_with_half_accumulators(rng: np.random.Generator) -> None:
    a, b, c = (rng.standard_normal(s).astype(np.float16) for s in ((16, 16), (16, 8), (16, 8)))
    c_bits = c.view(np.uint16)
    c_words = np.stack(
        [
            pack(c_bits[row, 2 * POSITION], c_bits[row, 2 * POSITION + 1])
            for row in (GROUP, GROUP + 8)
        ]
    )
    words = np.concatenate([fragment_a(a.view(np.uint16)), fragment_b(b.view(np.uint16)), c_words])
    pair = "<2 x half>"
    lines = [f"  %v{i} = bitcast i32 %x{i} to {pair}" for i in range(8)]
    args = ", ".join(f"{pair} %v{i}" for i in range(8))
    struct = "{ <2 x half>, <2 x half> }"
    lines.append(f"  %d = call {struct} @llvm.nvvm.mma.m16n8k16.row.col.f16.f16({args})")
    for i in range(2):
        lines += [
            f"  %e{i} = extractvalue {struct} %d, {i}",
            f"  %y{i} = bitcast {pair} %e{i} to i32",
        ]
    result, report = run_lanes("\n".join(lines), words, 2)
    wanted = a.astype(np.float64) @ b.astype(np.float64) + c
    assert report.clean, report
    for i, row in enumerate((GROUP, GROUP + 8)):
        halves = result[i].view(np.float16).reshape(32, 2)
        for h in range(2):
            np.testing.assert_allclose(
                halves[:, h], wanted[row, 2 * POSITION + h], rtol=2e-3, atol=4e-3
            )


SMEM = "ptr addrspace(3)"


def store_row(count: int) -> str:
    """Lane i keeps its four words as 16 bytes of shared memory, row i % 8 of matrix i / 8."""
    lines = [
        "  %offset = mul i32 %lane, 16",
        f"  %row = getelementptr i8, {SMEM} @shared, i32 %offset",
        "  %r0 = insertelement <4 x i32> poison, i32 %x0, i32 0",
        *(f"  %r{i} = insertelement <4 x i32> %r{i - 1}, i32 %x{i}, i32 {i}" for i in (1, 2, 3)),
        f"  store <4 x i32> %r3, {SMEM} %row, align 16",
        "  call void @llvm.nvvm.bar.warp.sync(i32 -1)",
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_ldmatrix_gives_each_lane_its_pair(
    count: int, transposed: bool, rng: np.random.Generator
) -> None:
    words = rng.integers(0, 2**32, (4, 32), np.uint32)
    struct = "i32" if count == 1 else "{ " + ", ".join(["i32"] * count) + " }"
    trans = ".trans" if transposed else ""
    name = f"llvm.nvvm.ldmatrix.sync.aligned.m8n8.x{count}{trans}.b16.p3"
    lines = [store_row(count), f"  %d = call {struct} @{name}({SMEM} %row)"]
    for i in range(count):
        take = "add i32 %d, 0" if count == 1 else f"extractvalue {struct} %d, {i}"
        lines.append(f"  %y{i} = {take}")
    result, report = run_lanes("\n".join(lines), words, count, shared=512)
    assert report.clean, report
    matrices = np.ascontiguousarray(words.T).view(np.uint16).reshape(4, 8, 8)
    for m in range(count):
        matrix = matrices[m].T if transposed else matrices[m]
        wanted = pack(matrix[GROUP, 2 * POSITION], matrix[GROUP, 2 * POSITION + 1])
        np.testing.assert_array_equal(result[m], wanted)
    assert report.counters.shared_read_bytes == 128 * count
    assert report.counters.bank_conflicts == 0


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix_is_the_inverse_of_ldmatrix(
    count: int, transposed: bool, rng: np.random.Generator
) -> None:
    words = rng.integers(0, 2**32, (4, 32), np.uint32)
    trans = ".trans" if transposed else ""
    struct = "i32" if count == 1 else "{ " + ", ".join(["i32"] * count) + " }"
    args = ", ".join(f"i32 %x{i}" for i in range(count))
    store = f"llvm.nvvm.stmatrix.sync.aligned.m8n8.x{count}{trans}.b16.p3"
    load = f"llvm.nvvm.ldmatrix.sync.aligned.m8n8.x{count}{trans}.b16.p3"
    lines = [
        "  %offset = mul i32 %lane, 16",
        f"  %row = getelementptr i8, {SMEM} @shared, i32 %offset",
        f"  call void @{store}({SMEM} %row, {args})",
        "  call void @llvm.nvvm.bar.warp.sync(i32 -1)",
        f"  %d = call {struct} @{load}({SMEM} %row)",
    ]
    for i in range(count):
        take = "add i32 %d, 0" if count == 1 else f"extractvalue {struct} %d, {i}"
        lines.append(f"  %y{i} = {take}")
    result, report = run_lanes("\n".join(lines), words, count, shared=512)
    assert report.clean, report
    np.testing.assert_array_equal(result, words[:count])


def test_movmatrix_transposes(rng: np.random.Generator) -> None:
    words = rng.integers(0, 2**32, (1, 32), np.uint32)
    asm = 'asm sideeffect "movmatrix.sync.aligned.m8n8.trans.b16 $0, $1;", "=r,r"'
    result, report = run_lanes(f"  %y0 = call i32 {asm}(i32 %x0)", words, 1)
    assert report.clean, report
    before, after = (
        np.ascontiguousarray(w[0]).view(np.uint16).reshape(8, 8) for w in (words, result)
    )
    np.testing.assert_array_equal(after, before.T)


def test_rows_of_128_bytes_without_swizzle_conflict(rng: np.random.Generator) -> None:
    words = rng.integers(0, 2**32, (1, 32), np.uint32)
    body = f"""  %offset = mul i32 %lane, 128
  %row = getelementptr i8, {SMEM} @shared, i32 %offset
  store <4 x i32> zeroinitializer, {SMEM} %row, align 16
  call void @llvm.nvvm.bar.warp.sync(i32 -1)
  %y0 = call i32 @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x1.b16.p3({SMEM} %row)"""
    _, report = run_lanes(body, words, 1, shared=4096)
    # eight rows at the same banks: 8 passes instead of 1 for the load, 4 times that for the stores
    assert report.counters.shared_wavefronts == 5 * 8
    assert report.counters.bank_conflicts == 5 * 7
