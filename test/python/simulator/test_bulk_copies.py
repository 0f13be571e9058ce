"""mbarriers and copies by tensor maps: right ones, and each way to get them wrong."""

import numpy as np
import pytest

from diagc.testing.warpgroup_kernel import (
    MBARRIER_FENCE,
    PROXY_FENCE,
    arrive,
    expect,
    init,
    leader,
    load,
    place,
    run_copies,
    wait,
)
from diagc.testing.word_kernel import (
    BARRIER,
    GLOBAL,
    SHARED,
    kinds,
    only,
    read_neighbour,
    run_words,
    word,
)

SEEDS = (0, 1, 2)
SYNC_WARP = "  call void @llvm.nvvm.bar.warp.sync(i32 -1)"
LOAD = "cp.async.bulk.tensor.g2s.cta.tile.2d"


def handed_over(start: str, wait_for: str) -> str:
    """Each thread writes a word behind the mbarrier, and reads that of its neighbour."""
    return "\n".join(
        [
            leader(start) if start else "",
            BARRIER,
            "  %word = add i32 %lane, 64",
            word("%to", "@shared", "%word"),
            f"  store i32 %lane, {SHARED} %to, align 4",
            arrive("%token"),
            wait_for,
            read_neighbour(64),
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_mbarrier_orders_memory(seed: int) -> None:
    report, _, result = run_words(handed_over(init(64), wait(0)), seed=seed)
    assert report.clean, report
    np.testing.assert_array_equal(result, np.arange(64) ^ 32)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("wait_for", ["", wait(1)], ids=["none", "wrong phase"])
def test_missing_wait_and_wrong_phase(wait_for: str, seed: int) -> None:
    report, *_ = run_words(handed_over(init(64), wait_for), seed=seed)
    assert "race" in kinds(report), report
    # who comes late waits for a phase that never ends
    assert kinds(report) <= {"race", "unwritten-read", "deadlock"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("meet", [SYNC_WARP, ""], ids=["the warp meets", "it does not"])
def test_a_lane_that_arrives_for_its_warp(meet: str, seed: int) -> None:
    """An arrival orders what its lane knows; what the others did, where the warp has met."""
    one = "  %number = and i32 %lane, 31\n  %is_one = icmp eq i32 %number, 0\n"
    one += f"  br i1 %is_one, label %one, label %all\none:\n{arrive('%token')}\n"
    body = handed_over(init(2), wait(0)).replace(
        arrive("%token"), f"{meet}\n{one}  br label %all\nall:"
    )
    report, *_ = run_words(body, seed=seed)
    assert kinds(report) == (set() if meet else {"race"}), report


def test_arrivals_that_never_come() -> None:
    report, *_ = run_words(handed_over(init(66), wait(0)))
    assert kinds(report) == {"deadlock"}
    assert "lacks 2 arrivals and 0 bytes" in report.findings[0].message


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("", "is none that was initialised"),
        (init(0), "for no arrivals"),
    ],
)
def test_misuse(start: str, message: str) -> None:
    report, *_ = run_words(handed_over(start, wait(1)))
    assert any(f.kind == "mbarrier" and message in f.message for f in report.findings), report


def test_more_arrivals_than_a_phase_expects() -> None:
    body = "\n".join([leader(init(1)), BARRIER, expect("%token", 128)])
    report, *_ = run_words(body)
    assert kinds(report) == {"mbarrier"}
    assert "more arrivals than its phase expects" in report.findings[0].message
    assert report.findings[0].count == 63


def test_initialisation_that_nothing_orders() -> None:
    body = handed_over(init(64), wait(0)).replace(BARRIER, "")
    report, *_ = run_words(body)
    assert kinds(report) & {"race", "mbarrier"}, report


def test_a_phase_after_the_other() -> None:
    rest = f"{wait(0)}\n{arrive('%second')}\n{wait(1)}"
    report, _, result = run_words(handed_over(init(64), rest))
    assert report.clean, report
    np.testing.assert_array_equal(result, np.arange(64) ^ 32)


# ---- copies by tensor maps -----------------------------------------------------------------------

ROWS, BOX = 20, 16
SIZE = BOX * 128


def copied(
    *,
    fence: str = MBARRIER_FENCE,
    size: int = SIZE,
    to: int = 1024,
    row: int = 8,
    after: str = wait(0),
) -> str:
    """16 lines of 64 elements from line 8 on; thread t hands on 16 elements as they lie there."""
    start = f"{expect('%token', size)}\n{load('%map', to, (0, row))}"
    lines = [leader(f"{init(1)}\n{fence}"), BARRIER, leader(start, "copier"), after]
    lines.append("  %byte = mul i32 %lane, 32")
    for i in (0, 1):
        lines += [
            f"  %at{i} = add i32 %byte, {16 * i}",
            f"  %from{i} = getelementptr i8, {SHARED} {place(1024)}, i32 %at{i}",
            f"  %v{i} = load <4 x i32>, {SHARED} %from{i}, align 16",
            f"  %to{i} = getelementptr i8, {GLOBAL} %out, i32 %at{i}",
            f"  store <4 x i32> %v{i}, {GLOBAL} %to{i}, align 16",
        ]
    return "\n".join(lines)


def source() -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    return np.arange(1, ROWS * 64 + 1, dtype=np.uint16).reshape(ROWS, 64)


def swizzled(lines: np.ndarray[tuple[int, int], np.dtype[np.uint16]]) -> list[int]:
    """Chunk c of line y stands at place c ^ (y % 8)."""
    chunks = lines.reshape(BOX, 8, 8)
    return [int(x) for y in range(BOX) for c in range(8) for x in chunks[y, c ^ (y % 8)]]


@pytest.mark.parametrize("seed", SEEDS)
def test_copy_is_swizzled_and_filled_with_zeros(seed: int) -> None:
    report, result = run_copies(copied(), source(), (BOX, 64), out=BOX * 64, seed=seed)
    assert report.clean, report
    wanted = np.zeros((BOX, 64), np.uint16)
    wanted[:12] = source()[8:]
    assert result.tolist() == swizzled(wanted)
    assert report.counters.global_read_bytes == 12 * 128


@pytest.mark.parametrize("seed", SEEDS)
def test_copy_that_is_not_waited_for(seed: int) -> None:
    report, _ = run_copies(copied(after=""), source(), (BOX, 64), out=BOX * 64, seed=seed)
    assert kinds(report) & {"in-flight", "race", "unwritten-read"}, report
    if seed == 0:
        assert ("in-flight", "load") in {(f.kind, f.site and f.site.op) for f in report.findings}


def test_block_that_ends_before_its_copies() -> None:
    start = f"{init(1)}\n{MBARRIER_FENCE}\n{expect('%token', SIZE)}\n{load('%map', 1024, (0, 0))}"
    report, _ = run_copies(leader(start), source(), (BOX, 64), out=1)
    assert kinds(report) == {"in-flight"}


@pytest.mark.parametrize("size", [SIZE - 2, SIZE + 128])
def test_bytes_that_are_expected_wrongly(size: int) -> None:
    report, _ = run_copies(copied(size=size), source(), (BOX, 64), out=BOX * 64)
    assert kinds(report) == {"deadlock"}, report


def test_copy_without_the_fence_of_the_mbarrier() -> None:
    report, _ = run_copies(copied(fence=""), source(), (BOX, 64), out=BOX * 64)
    assert only(report) == ("fence", LOAD, "mbarrier.init.shared")


@pytest.mark.parametrize(
    ("to", "kind"), [(1024 + 64, "misaligned"), ((1 << 16) - 128, "out-of-bounds")]
)
def test_bad_destination(to: int, kind: str) -> None:
    report, _ = run_copies(copied(to=to), source(), (BOX, 64), out=BOX * 64)
    assert (kind, LOAD) in {(f.kind, f.site and f.site.op) for f in report.findings}


def test_wrong_rank() -> None:
    body = copied().replace("tile.2d", "tile.1d").replace("i32 0, i32 8, i64", "i32 0, i64")
    report, _ = run_copies(body, source(), (BOX, 64), out=BOX * 64)
    assert "descriptor" in kinds(report)


@pytest.mark.parametrize("fence", [PROXY_FENCE, ""], ids=["fence", "none"])
def test_copy_over_what_threads_wrote(fence: str) -> None:
    body = f"  store i32 7, {SHARED} {place(1024)}, align 4\n{fence}"
    body = f"{leader(body, 'writer')}\n{copied()}"
    report, _ = run_copies(body, source(), (BOX, 64), out=BOX * 64)
    assert kinds(report) == (set() if fence else {"fence"}), report


@pytest.mark.parametrize("seed", SEEDS)
def test_stage_that_is_overwritten(seed: int) -> None:
    """The second copy goes where other warps still read."""
    again = f"{expect('%more', SIZE)}\n{load('%map', 1024, (0, 0))}"
    second = f"{leader(again, 'again')}\n{wait(1)}"
    good = f"{copied()}\n{PROXY_FENCE}\n{BARRIER}\n{second}"
    report, _ = run_copies(good, source(), (BOX, 64), out=BOX * 64, seed=seed)
    assert report.clean, report
    unfenced = f"{copied()}\n{BARRIER}\n{second}"
    report, _ = run_copies(unfenced, source(), (BOX, 64), out=BOX * 64, seed=seed)
    assert kinds(report) == {"fence"}, report
    broken = f"{copied()}\n{second}"
    report, _ = run_copies(broken, source(), (BOX, 64), out=BOX * 64, seed=seed)
    assert kinds(report) & {"race", "in-flight"}, report
