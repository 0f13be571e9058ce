"""Stores by tensor maps: right ones, and each way to get them wrong."""

import numpy as np
import pytest

from diagc.testing.warpgroup_kernel import (
    COMMIT_STORES,
    PROXY_FENCE,
    leader,
    place,
    run_stores,
    store,
    wait_stores,
)
from diagc.testing.word_kernel import BARRIER, SHARED, kinds, only

SEEDS = (0, 1, 2)
SYNC_WARP = "  call void @llvm.nvvm.bar.warp.sync(i32 -1)"
STORE = "cp.async.bulk.tensor.s2g.tile.2d"
LINES, START = 16, 1024


def written(name: str = "a", add: int = 0) -> str:
    """Thread t writes the words 8 t and on of a tile of 16 lines of 128 bytes."""
    lines = [f"  %byte{name} = mul i32 %lane, 32", f"  %word{name} = mul i32 %lane, 16"]
    for i in range(16):
        n = f"{name}{i}"
        lines += [
            f"  %at{n} = add i32 %byte{name}, {2 * i}",
            f"  %to{n} = getelementptr i8, {SHARED} {place(START)}, i32 %at{n}",
            f"  %v{n} = add i32 %word{name}, {i + add}",
            f"  %h{n} = trunc i32 %v{n} to i16",
            f"  store i16 %h{n}, {SHARED} %to{n}, align 2",
        ]
    return "\n".join(lines)


def stored(
    *,
    fence: str = PROXY_FENCE,
    order: str = BARRIER,
    row: int = 0,
    start: int = START,
    commit: str = COMMIT_STORES,
    wait: str | None = None,
    after: str = "",
) -> str:
    """What all threads have written leaves by one store of the first."""
    last = wait_stores() if wait is None else wait
    leave = "\n".join([store("%map", start, (0, row)), commit, last])
    return "\n".join([written(), fence, order, leader(leave), after])


def swizzled() -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    """Chunk c of line y stands at place c ^ (y % 8)."""
    lines = np.arange(LINES * 64, dtype=np.uint16).reshape(LINES, 8, 8)
    return np.stack([lines[y, [c ^ (y % 8) for c in range(8)]].ravel() for y in range(LINES)])


@pytest.mark.parametrize("seed", SEEDS)
def test_store_takes_the_swizzle_off(seed: int) -> None:
    report, result = run_stores(stored(), (20, 64), (LINES, 64), seed=seed)
    assert report.clean, report
    np.testing.assert_array_equal(result[:LINES], swizzled())
    assert (result[LINES:] == 0xDEAD).all()
    assert report.counters.global_write_bytes == LINES * 128


@pytest.mark.parametrize("seed", SEEDS)
def test_positions_beyond_the_end_are_left_out(seed: int) -> None:
    report, result = run_stores(stored(row=8), (20, 60), (LINES, 64), seed=seed)
    # lines of 60 elements are no multiple of 16 bytes, which the driver would refuse, not this
    assert report.clean, report
    np.testing.assert_array_equal(result[8:], swizzled()[:12, :60])
    assert (result[:8] == 0xDEAD).all()
    assert report.counters.global_write_bytes == 12 * 120


@pytest.mark.parametrize("row", [-16, 20, 1000])
def test_nothing_is_inside(row: int) -> None:
    report, result = run_stores(stored(row=row), (20, 64), (LINES, 64))
    assert report.clean, report
    assert (result == 0xDEAD).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_store_without_the_fence_of_the_proxy(seed: int) -> None:
    report, _ = run_stores(stored(fence=""), (20, 64), (LINES, 64), seed=seed)
    assert only(report) == ("fence", STORE, "store")


@pytest.mark.parametrize("seed", SEEDS)
def test_fence_before_the_writes(seed: int) -> None:
    body = f"{PROXY_FENCE}\n{stored(fence='')}"
    report, _ = run_stores(body, (20, 64), (LINES, 64), seed=seed)
    assert "fence" in kinds(report), report


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("meet", [SYNC_WARP, ""], ids=["the warp meets", "it does not"])
def test_a_lane_that_fences_for_its_warp(meet: str, seed: int) -> None:
    one = "  %number = and i32 %lane, 31\n  %is_one = icmp eq i32 %number, 0\n"
    one += f"  br i1 %is_one, label %one, label %all\none:\n{PROXY_FENCE}\n  br label %all\nall:"
    report, _ = run_stores(stored(fence=f"{meet}\n{one}"), (20, 64), (LINES, 64), seed=seed)
    assert kinds(report) == (set() if meet else {"fence"}), report


@pytest.mark.parametrize("seed", SEEDS)
def test_store_of_what_other_warps_still_write(seed: int) -> None:
    report, _ = run_stores(stored(order=""), (20, 64), (LINES, 64), seed=seed)
    assert kinds(report) & {"race", "unwritten-read"}, report


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("commit", "wait"), [(COMMIT_STORES, ""), ("", wait_stores()), (COMMIT_STORES, wait_stores(1))]
)
def test_block_that_ends_before_its_stores(commit: str, wait: str, seed: int) -> None:
    """No wait, a wait for no group, a wait for all groups but the one."""
    report, _ = run_stores(stored(commit=commit, wait=wait), (20, 64), (LINES, 64), seed=seed)
    assert kinds(report) == {"in-flight"}
    assert "the block ends while a copy in bulk" in report.findings[0].message


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("wait", [None, ""])
def test_tile_that_is_written_again(wait: str | None, seed: int) -> None:
    """Right with a wait and a barrier behind it; without the wait the store may see either."""
    again = "\n".join([BARRIER, written("b", 5), PROXY_FENCE, BARRIER])
    second = leader(
        "\n".join([store("%map", START, (0, 0)), COMMIT_STORES, wait_stores()]), "second"
    )
    body = stored(wait=wait, after=f"{again}\n{second}")
    report, result = run_stores(body, (LINES, 64), (LINES, 64), seed=seed)
    if wait is None:
        assert report.clean, report
        np.testing.assert_array_equal(result, swizzled() + 5)
    else:
        assert ("source-overwritten", "store") in {
            (f.kind, f.site and f.site.op) for f in report.findings
        }


@pytest.mark.parametrize("seed", SEEDS)
def test_tile_that_is_written_again_without_a_barrier(seed: int) -> None:
    """The first thread has waited for its store, and nobody for the first thread."""
    report, _ = run_stores(stored(after=written("b", 5)), (20, 64), (LINES, 64), seed=seed)
    assert kinds(report) & {"source-overwritten", "race"}, report


@pytest.mark.parametrize(
    ("start", "kind"), [(START + 64, "misaligned"), ((1 << 16) - 128, "out-of-bounds")]
)
def test_bad_source(start: int, kind: str) -> None:
    report, _ = run_stores(stored(start=start), (20, 64), (LINES, 64))
    assert (kind, STORE) in {(f.kind, f.site and f.site.op) for f in report.findings}


def test_array_that_may_only_be_read() -> None:
    report, result = run_stores(stored(), (20, 64), (LINES, 64), writable=False)
    assert kinds(report) == {"read-only"}
    assert (result == 0xDEAD).all()
