"""Asynchronous copies: missing and weak waits, stages and sources that are overwritten."""

import numpy as np
import pytest

from diagc.testing.word_kernel import (
    BARRIER,
    COMMIT,
    GLOBAL,
    SHARED,
    kinds,
    only,
    read_neighbour,
    run_words,
    triples,
    wait,
    word,
)

SEEDS = (0, 1, 2)


def copied(waits: str, stage: str = "@shared") -> str:
    """Each thread copies a word to shared memory and reads it back, or its neighbour's."""
    return "\n".join(
        [
            word("%from", "%in", "%lane"),
            word("%to", stage, "%lane"),
            f"  call void @llvm.nvvm.cp.async.ca.shared.global.4({SHARED} %to, {GLOBAL} %from)",
            COMMIT,
            waits,
            read_neighbour(),
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_copy_that_is_waited_for_is_clean(seed: int) -> None:
    report, source, result = run_words(copied(f"{wait(0)}\n{BARRIER}"), seed=seed)
    assert report.clean, report
    np.testing.assert_array_equal(result, source[np.arange(64) ^ 32])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("waits", [BARRIER, f"{wait(1)}\n{BARRIER}"])
def test_missing_or_weak_wait_is_found(waits: str, seed: int) -> None:
    report, source, result = run_words(copied(waits), seed=seed)
    assert only(report) == ("in-flight", "load", "cp.async.ca.shared.global.4")
    assert report.findings[0].count == 64
    assert (result != source[np.arange(64) ^ 32]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_wait_without_barrier_is_a_race(seed: int) -> None:
    report, *_ = run_words(copied(wait(0)), seed=seed)
    assert kinds(report) <= {"race", "in-flight", "unwritten-read"}
    assert report.findings


def pipelined(between: str) -> str:
    """One stage is read by the other warp, then copied to again."""
    copy = f"  call void @llvm.nvvm.cp.async.ca.shared.global.4({SHARED} %to, {GLOBAL} %"
    return "\n".join(
        [
            copied(f"{wait(0)}\n{BARRIER}"),
            between,
            word("%from2", "%in", "%there"),
            copy + "from2)",
            COMMIT,
            wait(0),
            BARRIER,
            f"  %v2 = load i32, {SHARED} %place, align 4",
            "  %w = mul i32 %v2, 1000",
            "  %sum = add i32 %v, %w",
            f"  store i32 %sum, {GLOBAL} %result, align 4",
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_overwritten_stage_is_found(seed: int) -> None:
    clean, source, result = run_words(pipelined(BARRIER), seed=seed)
    assert clean.clean, clean
    np.testing.assert_array_equal(result, source[np.arange(64) ^ 32] + 1000 * source)
    broken, *_ = run_words(pipelined(""), seed=seed)
    copy = "cp.async.ca.shared.global.4"
    assert triples(broken) & {("race", copy, "load"), ("race", "load", copy)}
    assert kinds(broken) <= {"race", "in-flight"}


def test_stage_read_while_the_next_copy_is_under_way() -> None:
    body = "\n".join(
        [
            copied(f"{wait(0)}\n{BARRIER}"),
            BARRIER,
            f"  call void @llvm.nvvm.cp.async.ca.shared.global.4({SHARED} %to, {GLOBAL} %from)",
            COMMIT,
            BARRIER,
            f"  %v2 = load i32, {SHARED} %place, align 4",
            f"  store i32 %v2, {GLOBAL} %result, align 4",
        ]
    )
    report, *_ = run_words(body)
    assert only(report) == ("in-flight", "load", "cp.async.ca.shared.global.4")


def test_zero_fill_reads_no_source() -> None:
    body = "\n".join(
        [
            word("%from", "%in", "%lane"),
            "  %offset = mul i32 %lane, 16",
            f"  %to = getelementptr i8, {SHARED} @shared, i32 %offset",
            "  %far = getelementptr i8, ptr addrspace(1) %in, i32 %offset",
            "  %inside = icmp ult i32 %lane, 2",
            "  %bytes = select i1 %inside, i32 12, i32 0",
            "  call void @llvm.nvvm.cp.async.cg.shared.global.16.s"
            f"({SHARED} %to, {GLOBAL} %far, i32 %bytes)",
            COMMIT,
            wait(0),
            f"  %v = load <4 x i32>, {SHARED} %to, align 16",
            f"  %result = getelementptr i8, {GLOBAL} %out, i32 %offset",
            f"  store <4 x i32> %v, {GLOBAL} %result, align 16",
        ]
    )
    report, source, result = run_words(body, threads=32, size=8, out=128)
    assert report.clean, report
    wanted = np.zeros((32, 4), np.uint32)
    wanted[:2, :3] = source.reshape(2, 4)[:, :3]
    np.testing.assert_array_equal(result.reshape(32, 4), wanted)
    assert report.counters.global_read_bytes == 24


def test_copy_that_is_told_to_read_more_than_it_writes_is_found() -> None:
    body = "\n".join(
        [
            "  %offset = mul i32 %lane, 16",
            f"  %to = getelementptr i8, {SHARED} @shared, i32 %offset",
            "  %from = getelementptr i8, ptr addrspace(1) %in, i32 %offset",
            "  %more = icmp eq i32 %lane, 3",
            "  %bytes = select i1 %more, i32 20, i32 16",
            "  call void @llvm.nvvm.cp.async.cg.shared.global.16.s"
            f"({SHARED} %to, {GLOBAL} %from, i32 %bytes)",
            COMMIT,
            wait(0),
            f"  %v = load <4 x i32>, {SHARED} %to, align 16",
            f"  %result = getelementptr i8, {GLOBAL} %out, i32 %offset",
            f"  store <4 x i32> %v, {GLOBAL} %result, align 16",
        ]
    )
    report, *_ = run_words(body, threads=32, size=128, out=128)
    assert only(report)[0] == "copy-size", report
    assert "of 16 bytes is told to read 20" in str(report)
    assert report.findings[0].thread == 3


def test_source_that_is_overwritten_under_way() -> None:
    body = "\n".join(
        [
            word("%from", "%out", "%lane"),
            word("%to", "@shared", "%lane"),
            f"  store i32 7, {GLOBAL} %from, align 4",
            f"  call void @llvm.nvvm.cp.async.ca.shared.global.4({SHARED} %to, {GLOBAL} %from)",
            COMMIT,
            "{early}",
            wait(0),
            "{late}",
        ]
    )
    store = f"  store i32 8, {GLOBAL} %from, align 4"
    broken, *_ = run_words(body.format(early=store, late=""))
    assert only(broken) == ("source-overwritten", "store", "cp.async.ca.shared.global.4")
    clean, *_ = run_words(body.format(early="", late=store))
    assert clean.clean, clean


def test_report_reads_well() -> None:
    report, *_ = run_words(copied(BARRIER))
    lines = str(report).splitlines()
    assert lines[0].startswith("simulated kernel (checked, ")
    assert lines[0].endswith("1 finding")
    assert lines[1].startswith("in-flight: read of shared memory at byte 124 while an asynchronous")
    assert lines[1].endswith("[kernel kernel, block (0, 0, 0), thread 63, 64 times]")
    assert lines[2].startswith("  by load at line ")
    assert lines[3].strip() == "%v = load i32, ptr addrspace(3) %place, align 4"
    assert lines[4].startswith("  with cp.async.ca.shared.global.4 at line ")
