"""Addresses out of bounds and misaligned, memory that nothing has written."""

import numpy as np
import pytest

from diagc.simulator import Buffer
from diagc.testing.lane_kernel import kernel_text, run_text
from diagc.testing.word_kernel import (
    GLOBAL,
    IN_OUT,
    SHARED,
    kinds,
    only,
    run_words,
    word,
)


@pytest.mark.parametrize("access", ["load", "store"])
def test_out_of_bounds_of_a_buffer(access: str) -> None:
    op = {
        "load": f"  %v = load i32, {GLOBAL} %p, align 4",
        "store": f"  store i32 1, {GLOBAL} %p, align 4",
    }[access]
    base = {"load": "%in", "store": "%out"}[access]
    body = f"  %i = add i32 %lane, %block\n{word('%p', base, '%i')}\n{op}"
    clean, *_ = run_words(body)
    assert clean.clean, clean
    broken, *_ = run_words(body.replace("%lane, %block", "%lane, 1"))
    kind, found, _ = only(broken)
    assert (kind, found) == ("out-of-bounds", access)
    assert broken.findings[0].thread == 63
    assert f"'{base[1:]}' (256 bytes) at byte 256" in broken.findings[0].message


def test_out_of_bounds_before_a_buffer_and_of_shared_memory() -> None:
    before, *_ = run_words(f"{word('%p', '%in', '-1')}\n  %v = load i32, {GLOBAL} %p, align 4")
    assert "'in' (256 bytes) at byte -4" in before.findings[0].message
    body = f"{word('%p', '@shared', '%lane')}\n  store i32 1, {SHARED} %p, align 4"
    assert run_words(body, shared=256)[0].clean
    broken, *_ = run_words(body, shared=252)
    assert only(broken) == ("out-of-bounds", "store", "")
    assert "shared memory at byte 252" in broken.findings[0].message


def test_wild_address() -> None:
    report, *_ = run_words(f"  %v = load i32, {GLOBAL} null, align 4")
    assert only(report) == ("out-of-bounds", "load", "")
    assert "in no buffer" in report.findings[0].message


def test_misaligned_vector_access() -> None:
    body = f"  %v = load <4 x i32>, {GLOBAL} %in, align 16\n  ret void"
    text = kernel_text(IN_OUT, body)
    source = np.arange(64, dtype=np.uint32)
    start = -source.ctypes.data // 4 % 4
    for shift, wanted in ((start, set()), (start + 1, {"misaligned"})):
        part = source[shift : shift + 8]
        buffers = [Buffer(part, "in"), Buffer(source.copy(), "out", writable=True)]
        assert kinds(run_text(text, buffers)) == wanted


def test_misaligned_matrix_row_and_copy() -> None:
    row = f"""{word("%p", "@shared", "1")}
  %d = call i32 @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x1.b16.p3({SHARED} %p)"""
    report, *_ = run_words(row, threads=32)
    assert only(report)[:2] == ("misaligned", "ldmatrix.sync.aligned.m8n8.x1.b16.p3")
    copy = f"""{word("%p", "@shared", "1")}
  call void @llvm.nvvm.cp.async.cg.shared.global.16({SHARED} %p, {GLOBAL} %in)"""
    report, *_ = run_words(copy, threads=1)
    assert only(report)[:2] == ("misaligned", "cp.async.cg.shared.global.16")


def test_read_only_buffer() -> None:
    report, source, _ = run_words(f"  store i32 9, {GLOBAL} %in, align 4", threads=1)
    assert only(report) == ("read-only", "store", "")
    assert source[0] == 1


def test_unwritten_shared_memory() -> None:
    def body(limit: int) -> str:
        return f"""  %some = icmp ult i32 %lane, {limit}
{word("%p", "@shared", "%lane")}
  br i1 %some, label %write, label %join
write:
  store i32 5, {SHARED} %p, align 4
  br label %join
join:
  %v = load i32, {SHARED} %p, align 4"""

    clean, *_ = run_words(body(64))
    assert clean.clean, clean
    broken, *_ = run_words(body(63))
    assert only(broken) == ("unwritten-read", "load", "")
    assert broken.findings[0].thread == 63


def test_unwritten_result() -> None:
    def body(first: str) -> str:
        return f"{word('%p', '%out', '%lane')}\n{first}\n  %v = load i32, {GLOBAL} %p, align 4"

    assert run_words(body(f"  store i32 5, {GLOBAL} %p, align 4"))[0].clean
    assert only(run_words(body(""))[0]) == ("unwritten-read", "load", "")


def test_what_a_block_leaves_in_shared_memory_is_nothing_to_the_next() -> None:
    body = f"""  %first = icmp eq i32 %block, 0
{word("%p", "@shared", "%lane")}
  br i1 %first, label %write, label %read
write:
  store i32 5, {SHARED} %p, align 4
  ret void
read:
  %v = load i32, {SHARED} %p, align 4"""
    text = kernel_text(IN_OUT, body + "\n  ret void")
    buffers = [Buffer(np.zeros(1, np.uint32), "in"), Buffer(np.zeros(1, np.uint32), "out")]
    report = run_text(text, buffers, grid=(2,), shared=256, workers=1)
    assert only(report) == ("unwritten-read", "load", "")
    assert report.findings[0].block == (1, 0, 0)
