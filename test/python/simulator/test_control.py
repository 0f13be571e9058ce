"""Divergence, deadlock, endless loops and bad collectives; swizzles that do not fit."""

import numpy as np
import pytest

from diagc.simulator import Buffer
from diagc.testing.lane_kernel import kernel_text, run_text
from diagc.testing.word_kernel import (
    BARRIER,
    GLOBAL,
    IN_OUT,
    SHARED,
    kinds,
    neighbour,
    only,
    run_words,
    word,
)


def guarded(limit: int, body: str) -> str:
    return f"""  %some = icmp ult i32 %lane, {limit}
  br i1 %some, label %then, label %join
then:
{body}
  br label %join
join:"""


def test_divergent_barrier() -> None:
    assert run_words(guarded(64, BARRIER))[0].clean
    broken, *_ = run_words(guarded(16, BARRIER))
    assert kinds(broken) == {"divergent"}
    finding = broken.findings[0]
    assert finding.site is not None
    assert finding.site.op == "barrier.cta.sync.aligned.all"
    assert "waits for thread 16, which has returned" in finding.message


def test_barrier_that_a_whole_warp_misses() -> None:
    broken, *_ = run_words(guarded(32, BARRIER))
    assert only(broken)[:2] == ("divergent", "barrier.cta.sync.aligned.all")


def test_divergent_shuffle() -> None:
    shuffle = "  %s = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 -1, i32 %lane, i32 1, i32 31)"
    assert run_words(guarded(64, shuffle))[0].clean
    broken, *_ = run_words(guarded(40, shuffle) + f"\n{BARRIER}")
    assert {(f.kind, f.site.op) for f in broken.findings if f.site} == {
        ("divergent", "shfl.sync.bfly.i32"),
        ("divergent", "barrier.cta.sync.aligned.all"),
    }


def test_deadlock_of_named_barriers() -> None:
    def body(first: int, second: int) -> str:
        sync = "  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 {}, i32 64)"
        return f"""  %some = icmp ult i32 %lane, 32
  br i1 %some, label %then, label %else
then:
{sync.format(first)}
{sync.format(second)}
  br label %join
else:
{sync.format(1)}
{sync.format(2)}
  br label %join
join:"""

    assert run_words(body(1, 2))[0].clean
    broken, *_ = run_words(body(2, 1))
    assert kinds(broken) == {"deadlock"}
    assert len(broken.findings) == 2


def test_barrier_with_two_counts() -> None:
    body = """  %some = icmp ult i32 %lane, 32
  %count = select i1 %some, i32 64, i32 96
  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 1, i32 %count)"""
    assert only(run_words(body)[0])[0] == "barrier-count"
    assert run_words(body.replace("96", "64"))[0].clean


def test_endless_loop() -> None:
    body = "  br label %again\nagain:\n  br label %again\nend:"
    text = kernel_text(IN_OUT, body + "\n  ret void")
    buffers = [Buffer(np.zeros(1, np.uint32), "in"), Buffer(np.zeros(1, np.uint32), "out")]
    assert only(run_text(text, buffers, step_limit=1000))[0] == "endless"


def test_shuffle_from_a_lane_that_takes_no_part() -> None:
    body = guarded(
        16, "  %s = call i32 @llvm.nvvm.shfl.sync.idx.i32(i32 {}, i32 1, i32 {}, i32 31)"
    )
    assert run_words(body.format(0xFFFF, 15), threads=32)[0].clean
    assert only(run_words(body.format(0xFFFF, 16), threads=32)[0])[0] == "inactive-lane"
    assert only(run_words(body.format(0xFF, 1), threads=32)[0])[0] == "inactive-lane"


@pytest.mark.parametrize("op", ["udiv", "sdiv", "urem", "srem"])
@pytest.mark.parametrize("kind", ["i32", "i64"])
def test_division_by_zero(op: str, kind: str) -> None:
    def body(least: int) -> str:
        return f"""  %d = add i32 %lane, {least}
  %w = {"add i32" if kind == "i32" else "zext i32"} %d{", 0" if kind == "i32" else " to i64"}
  %q = {op} {kind} -100, %w
  %n = {"add i32 %q, 0" if kind == "i32" else "trunc i64 %q to i32"}
{word("%result", "%out", "%lane")}
  store i32 %n, {GLOBAL} %result, align 4"""

    broken, *_ = run_words(body(0))
    assert only(broken)[:2] == ("division-by-zero", op)
    clean, _, result = run_words(body(1))
    assert clean.clean, clean
    bits = int(kind[1:])
    dividend = -100 if op[0] == "s" else 2**bits - 100
    divided = [abs(dividend) // d if op[1:] == "div" else abs(dividend) % d for d in range(1, 65)]
    wanted = [(-v if dividend < 0 else v) % 2**32 for v in divided]
    np.testing.assert_array_equal(result, np.array(wanted, np.uint64).astype(np.uint32))


def test_wrong_swizzle_gives_wrong_numbers() -> None:
    def body(read: str) -> str:
        lines = []
        for name, mix in (("w", "%lane"), ("r", read)):
            lines += [
                f"  %{name}row = lshr i32 {mix}, 3",
                f"  %{name}x = xor i32 {mix}, %{name}row",
                word(f"%{name}p", "@shared", f"%{name}x"),
            ]
        return "\n".join(
            [
                *lines[:3],
                f"  store i32 %lane, {SHARED} %wp, align 4",
                BARRIER,
                neighbour("%reader"),
                *lines[3:],
                f"  %v = load i32, {SHARED} %rp, align 4",
                word("%result", "%out", "%lane"),
                f"  store i32 %v, {GLOBAL} %result, align 4",
            ]
        )

    clean, _, result = run_words(body("%reader"))
    assert clean.clean, clean
    np.testing.assert_array_equal(result, np.arange(64) ^ 32)
    _, _, wrong = run_words(body("%reader").replace("lshr i32 %reader, 3", "lshr i32 %reader, 2"))
    assert (wrong != np.arange(64) ^ 32).any()
