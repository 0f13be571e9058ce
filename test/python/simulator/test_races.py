"""Accesses that nothing orders, between lanes, warps and blocks, and their ordered twins."""

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
    only,
    read_neighbour,
    run_words,
    word,
)

SEEDS = (0, 1, 2)


def exchanged(between: str) -> str:
    """Each thread stores a word, then loads that of the other warp."""
    return "\n".join(
        [
            word("%to", "@shared", "%lane"),
            f"  store i32 %lane, {SHARED} %to, align 4",
            between,
            read_neighbour(),
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_missing_barrier_is_a_race(seed: int) -> None:
    clean, _, result = run_words(exchanged(BARRIER), seed=seed)
    assert clean.clean, clean
    np.testing.assert_array_equal(result, np.arange(64) ^ 32)
    broken, *_ = run_words(exchanged(""), seed=seed)
    found = {(f.kind, f.site.op) for f in broken.findings if f.site}
    assert ("race", "load") in found or ("race", "store") in found


def test_lanes_need_a_warp_barrier_too() -> None:
    def body(between: str) -> str:
        return exchanged(between).replace("xor i32 %lane, 32", "xor i32 %lane, 1")

    clean, *_ = run_words(body("  call void @llvm.nvvm.bar.warp.sync(i32 -1)"))
    assert clean.clean, clean
    broken, *_ = run_words(body(""))
    assert kinds(broken) <= {"race", "unwritten-read"}
    assert "race" in kinds(broken)


@pytest.mark.parametrize("seed", SEEDS)
def test_named_barriers_order_those_who_take_part(seed: int) -> None:
    arrive = "  call void @llvm.nvvm.barrier.cta.arrive.aligned.count(i32 1, i32 64)"
    sync = "  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 1, i32 64)"

    def body(producer: str, consumer: str) -> str:
        return f"""  %first = icmp ult i32 %lane, 32
  %low = and i32 %lane, 31
{word("%place", "@shared", "%low")}
  br i1 %first, label %produce, label %consume
produce:
  store i32 %lane, {SHARED} %place, align 4
{producer}
  br label %end
consume:
{consumer}
  %v = load i32, {SHARED} %place, align 4
{word("%result", "%out", "%low")}
  store i32 %v, {GLOBAL} %result, align 4
  br label %end
end:"""

    clean, *_ = run_words(body(arrive, sync), seed=seed)
    assert clean.clean, clean
    other = sync.replace("i32 1, i32 64", "i32 2, i32 32")
    broken, *_ = run_words(body(arrive.replace("i32 64", "i32 32"), other), seed=seed)
    assert kinds(broken) <= {"race", "unwritten-read"}
    assert broken.findings


def test_blocks_are_not_ordered() -> None:
    def body(index: str, op: str) -> str:
        first = f"  %i = {index}"
        return f"{first}\n{word('%result', '%out', '%i')}\n{op}"

    store = f"  store i32 %lane, {GLOBAL} %result, align 4"
    apart = "mul i32 %block, 32\n  %k = add i32 %i, %lane"
    clean, *_ = run_words(
        body(apart, store).replace("i32 %i\n  store", "i32 %k\n  store"), grid=2, threads=32
    )
    assert clean.clean, clean
    broken, *_ = run_words(body("add i32 %lane, 0", store), grid=2, threads=32)
    assert only(broken) == ("race", "store", "store")
    assert "of block (" in broken.findings[0].message


def test_atomics_do_not_race_with_each_other() -> None:
    body = f"  %old = atomicrmw add {GLOBAL} %out, i32 1 monotonic, align 4"
    source = np.zeros(1, np.uint32)
    total = np.zeros(1, np.uint32)
    buffers = [Buffer(source, "in"), Buffer(total, "out", writable=True, initialised=True)]
    text = kernel_text(IN_OUT, body + "\n  ret void")
    report = run_text(text, buffers, grid=(5,), threads=64, workers=2)
    assert report.clean, report
    assert total[0] == 5 * 64
    mixed = kernel_text(IN_OUT, f"  store i32 1, {GLOBAL} %out, align 4\n{body}\n  ret void")
    assert "race" in kinds(run_text(mixed, buffers, grid=(2,), threads=64))


@pytest.mark.parametrize(
    ("between", "shift", "found"),
    [(BARRIER, 0, set()), (BARRIER, 1, {"race"}), ("", 0, {"race"})],
)
def test_bytes_of_a_word_are_told_apart(between: str, shift: int, found: set[str]) -> None:
    """Lane 0 stores 16 bytes at once, then 16 lanes one each, or two of them the same."""
    report, *_ = run_words(f"""  %first = icmp eq i32 %lane, 0
  br i1 %first, label %wide, label %wait
wide:
  store <4 x i32> zeroinitializer, {SHARED} @shared, align 16
  br label %wait
wait:
{between}
  %some = icmp ult i32 %lane, 16
  br i1 %some, label %narrow, label %end
narrow:
  %i = lshr i32 %lane, {shift}
  %place = getelementptr i8, {SHARED} @shared, i32 %i
  store i8 7, {SHARED} %place, align 1
  br label %end
end:""")
    assert kinds(report) == found, report
