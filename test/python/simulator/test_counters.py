"""Traffic: what lanes ask for, sectors of global memory, wavefronts of shared memory."""

import numpy as np
import pytest

from diagc.simulator import Buffer, Counters
from diagc.testing.lane_kernel import kernel_text, run_text

GLOBAL, SHARED = "ptr addrspace(1)", "ptr addrspace(3)"
ROUNDS = 8


def looped(index: str, *, lanes: int = 32, seed: int = 0, blocks: int = 2) -> Counters:
    """Each lane loads a word in each of eight rounds of a loop that holds no collective."""
    body = f"""  br label %loop
loop:
  %i = phi i32 [ 0, %0 ], [ %next, %again ]
  %some = icmp ult i32 %lane, {lanes}
  br i1 %some, label %load, label %again
load:
{index}
  %p = getelementptr i32, {GLOBAL} %in, i32 %at
  %v = load i32, {GLOBAL} %p, align 4
  br label %again
again:
  %next = add i32 %i, 1
  %more = icmp ult i32 %next, {ROUNDS}
  br i1 %more, label %loop, label %end
end:
  ret void"""
    buffer = Buffer(np.zeros(4096, np.uint32), "in")
    text = kernel_text(f"{GLOBAL} %in", body)
    report = run_text(text, [buffer], threads=64, grid=(blocks,), seed=seed)
    assert report.clean, report
    return report.counters


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rounds_of_a_loop_are_counted_apart(seed: int) -> None:
    row = "  %row = mul i32 %i, 64\n  %at = add i32 %row, %lane"
    counters = looped(row, lanes=64, seed=seed)
    warps = 2 * 2
    assert counters.global_read_bytes == warps * ROUNDS * 128
    assert counters.global_read_sectors == warps * ROUNDS * 4
    assert counters.memory_instructions == warps * ROUNDS


def test_scattered_and_equal_addresses() -> None:
    scattered = looped("  %row = mul i32 %lane, 8\n  %at = add i32 %row, %i", lanes=64)
    assert scattered.global_read_sectors == 4 * ROUNDS * 32
    equal = looped("  %at = add i32 %i, 0", lanes=64)
    assert equal.global_read_sectors == 4 * ROUNDS
    assert equal.global_read_bytes == 4 * ROUNDS * 128


def test_some_lanes_only() -> None:
    row = "  %row = mul i32 %i, 64\n  %at = add i32 %row, %lane"
    counters = looped(row, lanes=40)
    assert counters.global_read_bytes == 2 * ROUNDS * 40 * 4
    assert counters.global_read_sectors == 2 * ROUNDS * 5
    assert counters.memory_instructions == 2 * ROUNDS * 2


@pytest.mark.parametrize(("stride", "passes"), [(1, 1), (2, 2), (4, 4), (8, 8), (32, 32), (33, 1)])
def test_bank_conflicts_of_strides(stride: int, passes: int) -> None:
    body = f"""  %at = mul i32 %lane, {stride}
  %p = getelementptr i32, {SHARED} @shared, i32 %at
  store i32 1, {SHARED} %p, align 4
  ret void"""
    report = run_text(kernel_text("", body), [], threads=32, shared=32 * 33 * 4)
    assert report.clean, report
    assert report.counters.shared_wavefronts == passes
    assert report.counters.bank_conflicts == passes - 1
    assert report.counters.shared_write_bytes == 128


def test_wide_accesses_take_a_pass_for_each_128_bytes() -> None:
    body = f"""  %at = mul i32 %lane, 16
  %p = getelementptr i8, {SHARED} @shared, i32 %at
  store <4 x i32> zeroinitializer, {SHARED} %p, align 16
  ret void"""
    report = run_text(kernel_text("", body), [], threads=32, shared=512)
    assert report.counters.shared_wavefronts == 4
    assert report.counters.bank_conflicts == 0


def test_grid_is_shared_by_workers() -> None:
    row = "  %at = add i32 %lane, %i"
    counters = looped(row, lanes=64, blocks=37)
    assert counters.global_read_bytes == 37 * 64 * 4 * ROUNDS
