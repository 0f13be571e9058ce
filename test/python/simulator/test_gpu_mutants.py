"""Mutants of a pipelined matrix product: each wait, barrier, swizzle and bound is missed."""

from collections import Counter
from functools import cache

import numpy as np
import pytest

from diagc.simulator import Buffer, SimulatorOptions, simulate
from diagc.testing.gpu_mutants import (
    BOUND,
    FINDING_LIMIT,
    SWIZZLE,
    SYNC,
    Outcome,
    Verdict,
    hunt,
    table,
)
from diagc.testing.lane_kernel import kernel_text

ROWS, COLUMNS, TILE = 30, 8, 64  # 30 of 32 rows: the last two are a tail
STAGE, B_START = 5120, 4096
GLOBAL, SHARED = "ptr addrspace(1)", "ptr addrspace(3)"
ZERO_FILL = "llvm.nvvm.cp.async.cg.shared.global.16.s"
LDMATRIX = "llvm.nvvm.ldmatrix.sync.aligned.m8n8"


def copy_tile(tile: str, name: str) -> list[str]:
    """32 rows of a and 8 of b, 64 columns of f16, as 16-byte chunks that a swizzle spreads."""
    lines = [
        f"  %{name}odd = and i32 {tile}, 1",
        f"  %{name}stage = mul i32 %{name}odd, {STAGE}",
        f"  %{name}column = mul i32 {tile}, {TILE * 2}",
    ]
    for i in range(5):
        n = f"%{name}{i}"
        base, limit, start = ("%b", "8", B_START) if i == 4 else ("%a", "%rows", i * 1024)
        lines += [
            f"  {n}row = add i32 %crow, {0 if i == 4 else 8 * i}",
            f"  {n}in = icmp ult i32 {n}row, {limit}",
            f"  {n}bytes = select i1 {n}in, i32 16, i32 0",
            f"  {n}line = mul i32 {n}row, %pitch",
            f"  {n}from0 = add i32 {n}line, %{name}column",
            f"  {n}from1 = add i32 {n}from0, %cbyte",
            f"  {n}from = getelementptr i8, {GLOBAL} {base}, i32 {n}from1",
            f"  {n}to0 = add i32 %{name}stage, %cplace",
            f"  {n}to1 = add i32 {n}to0, {start}",
            f"  {n}to = getelementptr i8, {SHARED} @shared, i32 {n}to1",
            f"  call void @{ZERO_FILL}({SHARED} {n}to, {GLOBAL} {n}from, i32 {n}bytes)",
        ]
    return lines


def multiply_step(kk: int) -> list[str]:
    """16 columns: ldmatrix of both operands at their swizzled places, one mma."""
    pair, four, two = "<2 x half>", "{ i32, i32, i32, i32 }", "{ i32, i32 }"
    lines = []
    for name, shape, struct, count in (("a", "x4", four, 4), ("b", "x2", two, 2)):
        n = f"%{name}{kk}"
        lines += [
            f"  {n}chunk0 = add i32 %{name}half, {2 * kk}",
            f"  {n}chunk = xor i32 {n}chunk0, %{name}mix",
            f"  {n}byte = shl i32 {n}chunk, 4",
            f"  {n}place0 = add i32 {n}byte, %{name}line",
            f"  {n}place = add i32 {n}place0, %stage",
            f"  {n}p = getelementptr i8, {SHARED} @shared, i32 {n}place",
            f"  {n}d = call {struct} @{LDMATRIX}.{shape}.b16.p3({SHARED} {n}p)",
        ]
        for i in range(count):
            lines.append(f"  {n}e{i} = extractvalue {struct} {n}d, {i}")
            lines.append(f"  {n}v{i} = bitcast i32 {n}e{i} to {pair}")
    operands = [f"{pair} %a{kk}v{i}" for i in range(4)] + [f"{pair} %b{kk}v{i}" for i in range(2)]
    operands += [f"float {f'%c{i}' if kk == 0 else f'%s{kk - 1}c{i}'}" for i in range(4)]
    struct = "{ float, float, float, float }"
    lines.append(
        f"  %m{kk} = call {struct} @llvm.nvvm.mma.m16n8k16.row.col.f32.f32({', '.join(operands)})"
    )
    lines += [f"  %s{kk}c{i} = extractvalue {struct} %m{kk}, {i}" for i in range(4)]
    return lines


def store_rows() -> list[str]:
    lines = []
    for half in range(2):
        n = f"%o{half}"
        lines += [
            f"  {n}row0 = add i32 %wrow, {8 * half}",
            f"  {n}row = add i32 {n}row0, %group",
            f"  {n}in = icmp ult i32 {n}row, %rows",
            f"  br i1 {n}in, label %store{half}, label %stored{half}",
            f"store{half}:",
            f"  {n}start = mul i32 {n}row, {COLUMNS}",
            f"  {n}column = add i32 {n}start, %pair",
            f"  {n}p = getelementptr float, {GLOBAL} %c, i32 {n}column",
            f"  {n}v0 = insertelement <2 x float> poison, float %c{2 * half}, i32 0",
            f"  {n}v1 = insertelement <2 x float> {n}v0, float %c{2 * half + 1}, i32 1",
            f"  store <2 x float> {n}v1, {GLOBAL} {n}p, align 8",
            f"  br label %stored{half}",
            f"stored{half}:",
        ]
    return lines


COMMIT = "  call void @llvm.nvvm.cp.async.commit.group()"
BARRIER = "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)"


@cache
def product_text() -> str:
    """C = A B for a block of two warps; b is stored by columns; two stages."""
    positions = """  %crow = lshr i32 %lane, 3
  %cchunk = and i32 %lane, 7
  %cbyte = shl i32 %cchunk, 4
  %cmixed = xor i32 %cchunk, %crow
  %cspread = shl i32 %cmixed, 4
  %crowbyte = shl i32 %crow, 7
  %cplace = add i32 %cspread, %crowbyte
  %l = and i32 %lane, 31
  %warp = lshr i32 %lane, 5
  %wrow = shl i32 %warp, 4
  %group = lshr i32 %l, 2
  %quad = and i32 %l, 3
  %pair = shl i32 %quad, 1
  %a16 = and i32 %l, 15
  %ahalf = lshr i32 %l, 4
  %arow = add i32 %wrow, %a16
  %amix = and i32 %l, 7
  %aline = shl i32 %arow, 7
  %bmix = and i32 %l, 7
  %b8 = lshr i32 %l, 3
  %bhalf = and i32 %b8, 1
  %bline0 = shl i32 %bmix, 7
  %bline = add i32 %bline0, 4096"""
    sums = [f"  %c{i} = phi float [ 0.0, %0 ], [ %s3c{i}, %multiply ]" for i in range(4)]
    lines = [
        positions,
        *copy_tile("0", "f"),
        COMMIT,
        "  br label %loop",
        "loop:",
        "  %t = phi i32 [ 0, %0 ], [ %next, %multiply ]",
        *sums,
        "  %next = add i32 %t, 1",
        "  %inside = icmp ult i32 %t, %tiles",
        "  br i1 %inside, label %body, label %end",
        "body:",
        "  %more = icmp ult i32 %next, %tiles",
        "  br i1 %more, label %copy, label %copied",
        "copy:",
        *copy_tile("%next", "n"),
        "  br label %copied",
        "copied:",
        COMMIT,
        "  call void @llvm.nvvm.cp.async.wait.group(i32 1)",
        BARRIER,
        "  br label %multiply",
        "multiply:",
        "  %odd = and i32 %t, 1",
        f"  %stage = mul i32 %odd, {STAGE}",
        *(line for kk in range(4) for line in multiply_step(kk)),
        BARRIER,
        "  br label %loop",
        "end:",
        *store_rows(),
        "  ret void",
    ]
    parameters = f"{GLOBAL} %a, {GLOBAL} %b, {GLOBAL} %c, i32 %rows, i32 %pitch, i32 %tiles"
    return kernel_text(parameters, "\n".join(lines))


def run_product(text: str, number: int = 0, seed: int = 0) -> Outcome:
    tiles = 5
    rng = np.random.default_rng(1)
    a = rng.standard_normal((ROWS, tiles * TILE)).astype(np.float16)
    b = rng.standard_normal((COLUMNS, tiles * TILE)).astype(np.float16)
    c = np.full((ROWS, COLUMNS), np.nan, np.float32)
    params = [Buffer(a, "a"), Buffer(b, "b"), Buffer(c, "c", writable=True)]
    options = SimulatorOptions(
        seed=seed, step_limit=10000, finding_limit=FINDING_LIMIT, environment=number
    )
    numbers = (ROWS, a.strides[0], tiles)
    report = simulate(text, "kernel", [*params, *numbers], (1,), 64, 2 * STAGE, options=options)
    return Outcome([c], report)


@cache
def verdicts() -> list[Verdict]:
    return hunt(product_text(), [run_product], tolerance=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_kernel_itself_is_right_and_clean(seed: int) -> None:
    outcome = run_product(product_text(), seed=seed)
    assert outcome.report.clean, outcome.report
    rng = np.random.default_rng(1)
    a = rng.standard_normal((ROWS, 5 * TILE)).astype(np.float16).astype(np.float64)
    b = rng.standard_normal((COLUMNS, 5 * TILE)).astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(outcome.results[0], a @ b.T, rtol=1e-4, atol=1e-3)
    counters = outcome.report.counters
    assert counters.global_read_bytes == 5 * (ROWS + COLUMNS) * TILE * 2
    assert counters.global_write_bytes == ROWS * COLUMNS * 4
    assert counters.bank_conflicts == 0
    assert counters.instructions["tensor"] == 2 * 5 * 4


def test_every_wait_and_barrier_is_missed_with_its_place() -> None:
    some = [verdict for verdict in verdicts() if verdict.mutant.area == SYNC]
    changed = Counter(verdict.mutant.op.split("(")[0] for verdict in some)
    assert changed == {
        "cp.async.commit.group": 2,
        "cp.async.wait.group": 2,
        "barrier.cta.sync.aligned.all": 2,
    }
    assert all(verdict.caught and verdict.named for verdict in some), table(some)


def test_swizzles_and_bounds_are_missed() -> None:
    for area, least in ((SWIZZLE, 9), (BOUND, 13)):
        some = [verdict for verdict in verdicts() if verdict.mutant.area == area]
        assert len(some) >= least
        left = [v for v in some if not v.caught and not v.equivalent]
        assert not left, table(some)


def test_equivalent_bounds_are_told_from_survivors() -> None:
    """Rows of b are 0 to 7 in every thread, so `row < 8` and `row <= 8` are the same."""
    equal = [v.mutant.op for v in verdicts() if v.equivalent]
    assert equal
    assert all(op.endswith(", 8") for op in equal if "4row" in op)
