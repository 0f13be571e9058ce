"""wgmma: layouts against numpy, and what is said of waits and fences that are missing."""

import numpy as np
import pytest
from numpy.typing import NDArray

from diagc.testing.tile_kernels import loaded, stored
from diagc.testing.warpgroup_kernel import (
    MBARRIER_FENCE,
    PROXY_FENCE,
    Products,
    arrive,
    expect,
    init,
    leader,
    load,
    place,
    wait,
)
from diagc.testing.word_kernel import BARRIER, SHARED, kinds

FENCE = "  call void @llvm.nvvm.wgmma.fence.sync.aligned()"
COMMIT = "  call void @llvm.nvvm.wgmma.commit_group.sync.aligned()"
Numbers = NDArray[np.float64]


def random(rng: np.random.Generator, kernel: Products) -> tuple[Numbers, Numbers]:
    """A (64, 64) and B (64, n)."""
    a, b = rng.standard_normal((64, 64)), rng.standard_normal((64, kernel.n))
    return tuple(loaded(stored(x, kernel.dtype), kernel.dtype) for x in (a, b))  # type: ignore[return-value]


def register_words(a: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """(4 steps x 4 words, 128 threads), as the PTX ISA draws the A fragment."""
    thread = np.arange(128)
    row, position = 16 * (thread // 32) + thread % 32 // 4, thread % 4
    words = []
    for step in range(4):
        for i in range(4):
            line, column = row + 8 * (i % 2), 16 * step + 2 * position + 8 * (i // 2)
            words.append(
                a[line, column].astype(np.uint32) | a[line, column + 1].astype(np.uint32) << 16
            )
    return np.stack(words)


def sums_of(result: NDArray[np.float32], n: int) -> Numbers:
    """The matrix that threads hold."""
    found = np.zeros((64, n))
    for thread in range(128):
        row, position = 16 * (thread // 32) + thread % 32 // 4, thread % 4
        for i in range(n // 2):
            found[row + 8 * (i >> 1 & 1), 8 * (i >> 2) + 2 * position + (i & 1)] = result[thread, i]
    return found


def run(
    kernel: Products, body: str, rng: np.random.Generator, seed: int = 0
) -> tuple[set[str], float, str]:
    """Kinds of findings, the largest error, the report."""
    a, b = random(rng, kernel)
    a_bits = stored(a, kernel.dtype).view(np.uint16)
    b_bits = np.ascontiguousarray(stored(b if kernel.by_k else b.T, kernel.dtype)).view(np.uint16)
    report, result = kernel.run(body, a_bits, b_bits, register_words(a_bits), seed=seed)
    error = np.abs(sums_of(result, kernel.n) - a @ b).max()
    return kinds(report), float(error), str(report)


def body(
    kernel: Products, *, fence: str = FENCE, commit: str = COMMIT, groups: int = 0, after: str = ""
) -> str:
    words = kernel.words_of_rows() if kernel.registers else ""
    parts = [kernel.copies(), words, fence, kernel.steps(), commit, after, kernel.waited(groups)]
    return "\n".join([*parts, kernel.stores()])


@pytest.mark.parametrize("registers", [False, True], ids=["shared", "registers"])
@pytest.mark.parametrize(
    ("n", "by_k"), [(8, False), (64, False), (128, False), (64, True), (128, True)]
)
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_layouts(n: int, by_k: bool, registers: bool, dtype: str, rng: np.random.Generator) -> None:
    kernel = Products(n, dtype, by_k, registers)
    found, error, report = run(kernel, body(kernel), rng)
    assert not found, report
    assert error < 1e-4


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_warps(seed: int, rng: np.random.Generator) -> None:
    found, error, report = run(Products(), body(Products()), rng, seed)
    assert not found, report
    assert error < 1e-4


@pytest.mark.parametrize(
    "kernel", [Products(stride=512), Products(n=128, by_k=True, leading=4096)], ids=str
)
def test_a_wrong_descriptor_gives_wrong_numbers(kernel: Products, rng: np.random.Generator) -> None:
    assert run(kernel, body(kernel), rng)[1] > 0.1


def test_other_swizzles_are_named() -> None:
    rng = np.random.default_rng(0)
    plain = body(Products()).replace("i64 46", "i64 0", 1)
    assert plain != body(Products())
    assert "descriptor" in run(Products(), plain, rng)[0]


@pytest.mark.parametrize(("lines", "found"), [(1, True), (7, True), (0, False)])
def test_a_start_inside_the_pattern_is_named(lines: int, found: bool) -> None:
    """Numbers may be right, as the pattern is that of addresses, but the PTX ISA asks for more."""
    kernel = Products()
    descriptor = kernel._descriptor(kernel.B, kernel.leading, kernel.stride)
    moved = body(kernel).replace(f"i64 {descriptor}", f"i64 {descriptor + 8 * lines}", 1)
    report = run(kernel, moved, np.random.default_rng(0))[2]
    assert ("begins inside of the pattern" in report) == found


def test_missing_fence(rng: np.random.Generator) -> None:
    found, _, report = run(Products(), body(Products(), fence=""), rng)
    assert found == {"fence"}, report
    assert "a product without a wgmma.fence" in report


@pytest.mark.parametrize("change", [{"groups": 1}, {"commit": ""}], ids=str)
def test_sums_that_are_used_too_early(change: dict[str, str], rng: np.random.Generator) -> None:
    found, error, report = run(Products(), body(Products(), **change), rng)  # type: ignore[arg-type]
    assert found == {"accumulator"}, report
    assert not error < 1e-4


def test_sums_that_are_not_taken_from_the_wait(rng: np.random.Generator) -> None:
    kernel = Products()
    text = body(kernel).replace(kernel.stores(), kernel.stores("%s3_"))
    found, error, report = run(kernel, text, rng)
    assert found == {"accumulator"}, report
    assert not error < 1e-4


def test_a_stage_that_is_overwritten_while_products_read(rng: np.random.Generator) -> None:
    kernel = Products()
    again = leader("\n".join([expect("%more", 8192), load("%a", kernel.A, (0, 0))]), "again")
    found, _, report = run(kernel, body(kernel, after=again), rng)
    assert "source-overwritten" in found, report
    assert "which an asynchronous product or store still reads" in report
    waited = "\n".join([kernel.waited(0), BARRIER, again, wait(1)])
    text = body(kernel).replace(kernel.waited(0), waited)
    found, error, report = run(kernel, text, rng)
    assert not found, report
    assert error < 1e-4


@pytest.mark.parametrize("arrives", [True, False], ids=["released", "not released"])
def test_a_lane_releases_what_products_of_its_warp_have_read(
    arrives: bool, rng: np.random.Generator
) -> None:
    """Other lanes have read other memory since the warp met: that is not released by this."""
    kernel = Products()
    read = [f"  %read = load volatile i32, {SHARED} {place(kernel.B)}, align 4"]
    one = ["  %number = and i32 %lane, 31", "  %is_one = icmp eq i32 %number, 0"]
    one += ["  br i1 %is_one, label %one, label %all", "one:", arrive("%done", 8)]
    one += ["  br label %all", "all:"]
    again = "\n".join(
        [wait(0, 8) if arrives else "", expect("%more", 8192), load("%a", kernel.A, (0, 0))]
    )
    rest = [kernel.waited(0), *read, *one, leader(again, "again"), wait(1)]
    start = f"{leader(init(4, 8), 'second')}\n{BARRIER}"
    text = f"{start}\n{body(kernel).replace(kernel.waited(0), chr(10).join(rest))}"
    found, error, report = run(kernel, text, rng)
    assert found <= {"race", "in-flight"}, report
    assert (not found) == arrives, report
    assert error < 1e-4 or not arrives


@pytest.mark.parametrize("fence", ["", PROXY_FENCE, "behind the barrier"])
def test_what_threads_write_needs_a_fence_of_the_proxy(
    fence: str, rng: np.random.Generator
) -> None:
    """A zero is written where A has one already, so numbers stay right."""
    kernel = Products()
    a, b = random(rng, kernel)
    a[0, 0] = 0
    store = f"  store i16 0, {SHARED} {place(kernel.A)}, align 2"
    order = [BARRIER, PROXY_FENCE] if fence == "behind the barrier" else [fence, BARRIER]
    text = body(kernel).replace(FENCE, "\n".join([leader(store, "writer"), *order, FENCE]))
    bits, lines = stored(a, "bf16"), stored(np.ascontiguousarray(b.T), "bf16")
    report, result = kernel.run(text, bits, lines, register_words(bits))
    assert kinds(report) == (set() if fence else {"fence"}), report
    assert np.abs(sums_of(result, kernel.n) - a @ b).max() < 1e-4


def test_counters_know_products(rng: np.random.Generator) -> None:
    kernel = Products()
    a, b = random(rng, kernel)
    bits, lines = stored(a, "bf16"), stored(np.ascontiguousarray(b.T), "bf16")
    report, _ = kernel.run(body(kernel), bits, lines, register_words(bits))
    assert report.counters.instructions["tensor"] == 4 * 4
    assert MBARRIER_FENCE in body(kernel)
