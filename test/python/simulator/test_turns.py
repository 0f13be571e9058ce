"""Warps that take turns by barriers of their own: right ones, and each way to get them wrong."""

import numpy as np
import pytest

from diagc.testing.word_kernel import GLOBAL, SHARED, kinds, only, run_words, word

SEEDS = (0, 1, 2)
WARPS = 2
SYNC = "barrier.cta.sync.aligned.count"
ARRIVE = "barrier.cta.arrive.aligned.count"


def at(how: str, warp: int) -> str:
    """Arrive at the barrier of a warp, and wait there or not."""
    return f"  call void @llvm.nvvm.{how}(i32 {2 + warp}, i32 64)"


def turn(warp: int, number: int) -> list[str]:
    """Take a turn, add 1 to what the warp before has left, give the turn away."""
    return [
        at(SYNC, warp),
        f"  %old{warp}{number} = load i32, {SHARED} %place, align 4",
        f"  %new{warp}{number} = add i32 %old{warp}{number}, 1",
        f"  store i32 %new{warp}{number}, {SHARED} %place, align 4",
        at(ARRIVE, (warp + 1) % WARPS),
    ]


def warps() -> list[list[str]]:
    """What each warp does: the last one gives the first turn, the first one takes the last."""
    first, last = ([line for n in range(3) for line in turn(w, n)] for w in range(WARPS))
    result = [
        at(SYNC, 0),
        f"  %sum = load i32, {SHARED} %place, align 4",
        word("%result", "%out", "%low"),
        f"  store i32 %sum, {GLOBAL} %result, align 4",
    ]
    start = [f"  store i32 0, {SHARED} %place, align 4", at(ARRIVE, 0)]
    return [[*first, *result], [*start, *last]]


def body(first: list[str], last: list[str]) -> str:
    lines = [
        "  %some = icmp ult i32 %lane, 32",
        "  %low = and i32 %lane, 31",
        word("%place", "@shared", "%low"),
        "  br i1 %some, label %first, label %last",
        *("first:", *first, "  br label %end"),
        *("last:", *last, "  br label %end"),
        "end:",
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("seed", SEEDS)
def test_turns_order_memory(seed: int) -> None:
    report, _, result = run_words(body(*warps()), out=32, seed=seed)
    assert report.clean, report
    np.testing.assert_array_equal(result, np.full(32, 6))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_turn_that_is_not_given(number: int, seed: int) -> None:
    first, last = warps()
    del first[5 * number + 4]
    report, *_ = run_words(body(first, last), out=32, seed=seed)
    assert kinds(report) == {"deadlock"}
    messages = {finding.message for finding in report.findings}
    assert any("waits at barrier 3, which 32 of 64 threads have reached" in m for m in messages)


@pytest.mark.parametrize("seed", SEEDS)
def test_turn_that_is_given_to_oneself(seed: int) -> None:
    """The warp goes on alone; the other waits for ever."""
    first, last = warps()
    first[4] = at(ARRIVE, 0)
    report, *_ = run_words(body(first, last), out=32, seed=seed)
    assert "barrier-count" in kinds(report) or "deadlock" in kinds(report), report


@pytest.mark.parametrize("seed", SEEDS)
def test_turn_that_is_not_waited_for_is_a_race(seed: int) -> None:
    first, last = warps()
    del last[2]
    report, *_ = run_words(body(first, last), out=32, seed=seed)
    assert kinds(report) & {"race", "barrier-count"}, report


@pytest.mark.parametrize("seed", SEEDS)
def test_last_turn_that_nobody_takes(seed: int) -> None:
    first, last = warps()
    report, *_ = run_words(body(first[:15], last), out=32, seed=seed)
    (finding,) = (f for f in report.findings if f.kind == "barrier-count")
    assert "ends when 32 of the 64 threads of a barrier have arrived there" in finding.message


def test_warp_that_arrives_twice() -> None:
    """The count is right, but of another warp's threads."""
    twice = [at(ARRIVE, 1), at(ARRIVE, 1)]
    report, *_ = run_words(body(twice, []), out=32)
    assert only(report) == ("barrier-count", ARRIVE, ARRIVE)
    assert "arrives twice" in report.findings[0].message
