"""For every kind of finding a small kernel that has the bug, and its twin that has not."""

import numpy as np
import pytest

from diagc.simulator import Buffer, Report
from diagc.testing.lane_kernel import kernel_text, run_text

SEEDS = (0, 1, 2)
GLOBAL, SHARED = "ptr addrspace(1)", "ptr addrspace(3)"
IN_OUT = f"{GLOBAL} %in, {GLOBAL} %out"
BARRIER = "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)"
COMMIT = "  call void @llvm.nvvm.cp.async.commit.group()"


def wait(groups: int) -> str:
    return f"  call void @llvm.nvvm.cp.async.wait.group(i32 {groups})"


def words(name: str, base: str, index: str) -> str:
    """The address of a 32-bit word in global (%in, %out) or shared memory."""
    space = SHARED if base == "@shared" else GLOBAL
    return f"  {name} = getelementptr i32, {space} {base}, i32 {index}"


def neighbour(name: str = "%there") -> str:
    """The lane 32 further on, in a block of 64: always in the other warp."""
    return f"  {name} = xor i32 %lane, 32"


def run(
    body: str,
    *,
    threads: int = 64,
    grid: int = 1,
    shared: int = 4096,
    size: int = 64,
    out: int = 64,
    seed: int = 0,
) -> tuple[Report, np.ndarray, np.ndarray]:
    """A kernel of words `in` and `out` that ends with the body."""
    source = np.arange(1, size + 1, dtype=np.uint32)
    result = np.full(out, 0xDEADBEEF, np.uint32)
    text = kernel_text(IN_OUT, body + "\n  ret void")
    buffers = [Buffer(source, "in"), Buffer(result, "out", writable=True)]
    report = run_text(text, buffers, grid=(grid,), threads=threads, shared=shared, seed=seed)
    return report, source, result


def kinds(report: Report) -> set[str]:
    return {finding.kind for finding in report.findings}


def only(report: Report) -> tuple[str, str, str]:
    """Kind, operation and other operation of the one finding."""
    assert len(report.findings) == 1, report
    finding = report.findings[0]
    assert finding.site is not None
    return finding.kind, finding.site.op, "" if finding.other is None else finding.other.op


def ops(report: Report) -> set[tuple[str, str, str]]:
    """Kind, operation and other operation of every finding."""
    return {
        (f.kind, f.site.op if f.site else "", f.other.op if f.other else "")
        for f in report.findings
    }


# --- asynchronous copies


def copied(waits: str, stage: str = "@shared") -> str:
    """Each thread copies a word to shared memory and reads it back, or its neighbour's."""
    return "\n".join(
        [
            words("%from", "%in", "%lane"),
            words("%to", stage, "%lane"),
            f"  call void @llvm.nvvm.cp.async.ca.shared.global.4({SHARED} %to, {GLOBAL} %from)",
            COMMIT,
            waits,
            neighbour(),
            words("%place", "@shared", "%there"),
            f"  %v = load i32, {SHARED} %place, align 4",
            words("%result", "%out", "%lane"),
            f"  store i32 %v, {GLOBAL} %result, align 4",
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_copy_that_is_waited_for_is_clean(seed: int) -> None:
    report, source, result = run(copied(f"{wait(0)}\n{BARRIER}"), seed=seed)
    assert report.clean, report
    np.testing.assert_array_equal(result, source[np.arange(64) ^ 32])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("waits", [BARRIER, f"{wait(1)}\n{BARRIER}"])
def test_missing_or_weak_wait_is_found(waits: str, seed: int) -> None:
    report, source, result = run(copied(waits), seed=seed)
    assert only(report) == ("in-flight", "load", "cp.async.ca.shared.global.4")
    assert report.findings[0].count == 64
    assert (result != source[np.arange(64) ^ 32]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_wait_without_barrier_is_a_race(seed: int) -> None:
    report, *_ = run(copied(wait(0)), seed=seed)
    assert kinds(report) <= {"race", "in-flight", "unwritten-read"}
    assert report.findings


def pipelined(between: str) -> str:
    """One stage is read by the other warp, then copied to again."""
    copy = f"  call void @llvm.nvvm.cp.async.ca.shared.global.4({SHARED} %to, {GLOBAL} %"
    return "\n".join(
        [
            copied(f"{wait(0)}\n{BARRIER}"),
            between,
            words("%from2", "%in", "%there"),
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
    clean, source, result = run(pipelined(BARRIER), seed=seed)
    assert clean.clean, clean
    np.testing.assert_array_equal(result, source[np.arange(64) ^ 32] + 1000 * source)
    broken, *_ = run(pipelined(""), seed=seed)
    copy = "cp.async.ca.shared.global.4"
    assert ops(broken) & {("race", copy, "load"), ("race", "load", copy)}
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
    report, *_ = run(body)
    assert only(report) == ("in-flight", "load", "cp.async.ca.shared.global.4")


def test_zero_fill_reads_no_source() -> None:
    body = "\n".join(
        [
            words("%from", "%in", "%lane"),
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
    report, source, result = run(body, threads=32, size=8, out=128)
    assert report.clean, report
    wanted = np.zeros((32, 4), np.uint32)
    wanted[:2, :3] = source.reshape(2, 4)[:, :3]
    np.testing.assert_array_equal(result.reshape(32, 4), wanted)
    assert report.counters.global_read_bytes == 24


def test_source_that_is_overwritten_under_way() -> None:
    body = "\n".join(
        [
            words("%from", "%out", "%lane"),
            words("%to", "@shared", "%lane"),
            f"  store i32 7, {GLOBAL} %from, align 4",
            f"  call void @llvm.nvvm.cp.async.ca.shared.global.4({SHARED} %to, {GLOBAL} %from)",
            COMMIT,
            "{early}",
            wait(0),
            "{late}",
        ]
    )
    store = f"  store i32 8, {GLOBAL} %from, align 4"
    broken, *_ = run(body.format(early=store, late=""))
    assert only(broken) == ("source-overwritten", "store", "cp.async.ca.shared.global.4")
    clean, *_ = run(body.format(early="", late=store))
    assert clean.clean, clean


# --- races


def exchanged(between: str) -> str:
    """Each thread stores a word, then loads that of the other warp."""
    return "\n".join(
        [
            words("%to", "@shared", "%lane"),
            f"  store i32 %lane, {SHARED} %to, align 4",
            between,
            neighbour(),
            words("%place", "@shared", "%there"),
            f"  %v = load i32, {SHARED} %place, align 4",
            words("%result", "%out", "%lane"),
            f"  store i32 %v, {GLOBAL} %result, align 4",
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_missing_barrier_is_a_race(seed: int) -> None:
    clean, _, result = run(exchanged(BARRIER), seed=seed)
    assert clean.clean, clean
    np.testing.assert_array_equal(result, np.arange(64) ^ 32)
    broken, *_ = run(exchanged(""), seed=seed)
    found = {(f.kind, f.site.op) for f in broken.findings if f.site}
    assert ("race", "load") in found or ("race", "store") in found


def test_lanes_need_a_warp_barrier_too() -> None:
    def body(between: str) -> str:
        return exchanged(between).replace("xor i32 %lane, 32", "xor i32 %lane, 1")

    clean, *_ = run(body("  call void @llvm.nvvm.bar.warp.sync(i32 -1)"))
    assert clean.clean, clean
    broken, *_ = run(body(""))
    assert kinds(broken) <= {"race", "unwritten-read"}
    assert "race" in kinds(broken)


@pytest.mark.parametrize("seed", SEEDS)
def test_named_barriers_order_those_who_take_part(seed: int) -> None:
    arrive = "  call void @llvm.nvvm.barrier.cta.arrive.aligned.count(i32 1, i32 64)"
    sync = "  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 1, i32 64)"

    def body(producer: str, consumer: str) -> str:
        return f"""  %first = icmp ult i32 %lane, 32
  %low = and i32 %lane, 31
{words("%place", "@shared", "%low")}
  br i1 %first, label %produce, label %consume
produce:
  store i32 %lane, {SHARED} %place, align 4
{producer}
  br label %end
consume:
{consumer}
  %v = load i32, {SHARED} %place, align 4
{words("%result", "%out", "%low")}
  store i32 %v, {GLOBAL} %result, align 4
  br label %end
end:"""

    clean, *_ = run(body(arrive, sync), seed=seed)
    assert clean.clean, clean
    other = sync.replace("i32 1, i32 64", "i32 2, i32 32")
    broken, *_ = run(body(arrive.replace("i32 64", "i32 32"), other), seed=seed)
    assert kinds(broken) <= {"race", "unwritten-read"}
    assert broken.findings


def test_blocks_are_not_ordered() -> None:
    def body(index: str, op: str) -> str:
        first = f"  %i = {index}"
        return f"{first}\n{words('%result', '%out', '%i')}\n{op}"

    store = f"  store i32 %lane, {GLOBAL} %result, align 4"
    apart = "mul i32 %block, 32\n  %k = add i32 %i, %lane"
    clean, *_ = run(
        body(apart, store).replace("i32 %i\n  store", "i32 %k\n  store"), grid=2, threads=32
    )
    assert clean.clean, clean
    broken, *_ = run(body("add i32 %lane, 0", store), grid=2, threads=32)
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


# --- addresses


@pytest.mark.parametrize("access", ["load", "store"])
def test_out_of_bounds_of_a_buffer(access: str) -> None:
    op = {
        "load": f"  %v = load i32, {GLOBAL} %p, align 4",
        "store": f"  store i32 1, {GLOBAL} %p, align 4",
    }[access]
    base = {"load": "%in", "store": "%out"}[access]
    body = f"  %i = add i32 %lane, %block\n{words('%p', base, '%i')}\n{op}"
    clean, *_ = run(body)
    assert clean.clean, clean
    broken, *_ = run(body.replace("%lane, %block", "%lane, 1"))
    kind, found, _ = only(broken)
    assert (kind, found) == ("out-of-bounds", access)
    assert broken.findings[0].thread == 63
    assert f"'{base[1:]}' (256 bytes) at byte 256" in broken.findings[0].message


def test_out_of_bounds_before_a_buffer_and_of_shared_memory() -> None:
    before, *_ = run(f"{words('%p', '%in', '-1')}\n  %v = load i32, {GLOBAL} %p, align 4")
    assert "'in' (256 bytes) at byte -4" in before.findings[0].message
    body = f"{words('%p', '@shared', '%lane')}\n  store i32 1, {SHARED} %p, align 4"
    assert run(body, shared=256)[0].clean
    broken, *_ = run(body, shared=252)
    assert only(broken) == ("out-of-bounds", "store", "")
    assert "shared memory at byte 252" in broken.findings[0].message


def test_wild_address() -> None:
    report, *_ = run(f"  %v = load i32, {GLOBAL} null, align 4")
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
    row = f"""{words("%p", "@shared", "1")}
  %d = call i32 @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x1.b16.p3({SHARED} %p)"""
    report, *_ = run(row, threads=32)
    assert only(report)[:2] == ("misaligned", "ldmatrix.sync.aligned.m8n8.x1.b16.p3")
    copy = f"""{words("%p", "@shared", "1")}
  call void @llvm.nvvm.cp.async.cg.shared.global.16({SHARED} %p, {GLOBAL} %in)"""
    report, *_ = run(copy, threads=1)
    assert only(report)[:2] == ("misaligned", "cp.async.cg.shared.global.16")


def test_read_only_buffer() -> None:
    report, source, _ = run(f"  store i32 9, {GLOBAL} %in, align 4", threads=1)
    assert only(report) == ("read-only", "store", "")
    assert source[0] == 1


# --- unwritten memory


def test_unwritten_shared_memory() -> None:
    def body(limit: int) -> str:
        return f"""  %some = icmp ult i32 %lane, {limit}
{words("%p", "@shared", "%lane")}
  br i1 %some, label %write, label %join
write:
  store i32 5, {SHARED} %p, align 4
  br label %join
join:
  %v = load i32, {SHARED} %p, align 4"""

    clean, *_ = run(body(64))
    assert clean.clean, clean
    broken, *_ = run(body(63))
    assert only(broken) == ("unwritten-read", "load", "")
    assert broken.findings[0].thread == 63


def test_unwritten_result() -> None:
    def body(first: str) -> str:
        return f"{words('%p', '%out', '%lane')}\n{first}\n  %v = load i32, {GLOBAL} %p, align 4"

    assert run(body(f"  store i32 5, {GLOBAL} %p, align 4"))[0].clean
    assert only(run(body(""))[0]) == ("unwritten-read", "load", "")


def test_what_a_block_leaves_in_shared_memory_is_nothing_to_the_next() -> None:
    body = f"""  %first = icmp eq i32 %block, 0
{words("%p", "@shared", "%lane")}
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


# --- control


def guarded(limit: int, body: str) -> str:
    return f"""  %some = icmp ult i32 %lane, {limit}
  br i1 %some, label %then, label %join
then:
{body}
  br label %join
join:"""


def test_divergent_barrier() -> None:
    assert run(guarded(64, BARRIER))[0].clean
    broken, *_ = run(guarded(16, BARRIER))
    assert kinds(broken) == {"divergent"}
    finding = broken.findings[0]
    assert finding.site is not None
    assert finding.site.op == "barrier.cta.sync.aligned.all"
    assert "waits for thread 16, which has returned" in finding.message


def test_barrier_that_a_whole_warp_misses() -> None:
    broken, *_ = run(guarded(32, BARRIER))
    assert only(broken)[:2] == ("divergent", "barrier.cta.sync.aligned.all")


def test_divergent_shuffle() -> None:
    shuffle = "  %s = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 -1, i32 %lane, i32 1, i32 31)"
    assert run(guarded(64, shuffle))[0].clean
    broken, *_ = run(guarded(40, shuffle) + f"\n{BARRIER}")
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

    assert run(body(1, 2))[0].clean
    broken, *_ = run(body(2, 1))
    assert kinds(broken) == {"deadlock"}
    assert len(broken.findings) == 2


def test_barrier_with_two_counts() -> None:
    body = """  %some = icmp ult i32 %lane, 32
  %count = select i1 %some, i32 64, i32 96
  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 1, i32 %count)"""
    assert only(run(body)[0])[0] == "barrier-count"
    assert run(body.replace("96", "64"))[0].clean


def test_endless_loop() -> None:
    body = "  br label %again\nagain:\n  br label %again\nend:"
    text = kernel_text(IN_OUT, body + "\n  ret void")
    buffers = [Buffer(np.zeros(1, np.uint32), "in"), Buffer(np.zeros(1, np.uint32), "out")]
    assert only(run_text(text, buffers, step_limit=1000))[0] == "endless"


def test_shuffle_from_a_lane_that_takes_no_part() -> None:
    body = guarded(
        16, "  %s = call i32 @llvm.nvvm.shfl.sync.idx.i32(i32 {}, i32 1, i32 {}, i32 31)"
    )
    assert run(body.format(0xFFFF, 15), threads=32)[0].clean
    assert only(run(body.format(0xFFFF, 16), threads=32)[0])[0] == "inactive-lane"
    assert only(run(body.format(0xFF, 1), threads=32)[0])[0] == "inactive-lane"


@pytest.mark.parametrize("op", ["udiv", "sdiv", "urem", "srem"])
@pytest.mark.parametrize("kind", ["i32", "i64"])
def test_division_by_zero(op: str, kind: str) -> None:
    def body(least: int) -> str:
        return f"""  %d = add i32 %lane, {least}
  %w = {"add i32" if kind == "i32" else "zext i32"} %d{", 0" if kind == "i32" else " to i64"}
  %q = {op} {kind} -100, %w
  %n = {"add i32 %q, 0" if kind == "i32" else "trunc i64 %q to i32"}
{words("%result", "%out", "%lane")}
  store i32 %n, {GLOBAL} %result, align 4"""

    broken, *_ = run(body(0))
    assert only(broken)[:2] == ("division-by-zero", op)
    clean, _, result = run(body(1))
    assert clean.clean, clean
    bits = int(kind[1:])
    dividend = -100 if op[0] == "s" else 2**bits - 100
    divided = [abs(dividend) // d if op[1:] == "div" else abs(dividend) % d for d in range(1, 65)]
    wanted = [(-v if dividend < 0 else v) % 2**32 for v in divided]
    np.testing.assert_array_equal(result, np.array(wanted, np.uint64).astype(np.uint32))


# --- wrong numbers


def test_wrong_swizzle_gives_wrong_numbers() -> None:
    def body(read: str) -> str:
        lines = []
        for name, mix in (("w", "%lane"), ("r", read)):
            lines += [
                f"  %{name}row = lshr i32 {mix}, 3",
                f"  %{name}x = xor i32 {mix}, %{name}row",
                words(f"%{name}p", "@shared", f"%{name}x"),
            ]
        return "\n".join(
            [
                *lines[:3],
                f"  store i32 %lane, {SHARED} %wp, align 4",
                BARRIER,
                neighbour("%reader"),
                *lines[3:],
                f"  %v = load i32, {SHARED} %rp, align 4",
                words("%result", "%out", "%lane"),
                f"  store i32 %v, {GLOBAL} %result, align 4",
            ]
        )

    clean, _, result = run(body("%reader"))
    assert clean.clean, clean
    np.testing.assert_array_equal(result, np.arange(64) ^ 32)
    _, _, wrong = run(body("%reader").replace("lshr i32 %reader, 3", "lshr i32 %reader, 2"))
    assert (wrong != np.arange(64) ^ 32).any()


def test_report_reads_well() -> None:
    report, *_ = run(copied(BARRIER))
    lines = str(report).splitlines()
    assert lines[0].startswith("simulated kernel (checked, ")
    assert lines[0].endswith("1 finding")
    assert lines[1].startswith("in-flight: read of shared memory at byte 124 while an asynchronous")
    assert lines[1].endswith("[kernel kernel, block (0, 0, 0), thread 63, 64 times]")
    assert lines[2].startswith("  by load at line ")
    assert lines[3].strip() == "%v = load i32, ptr addrspace(3) %place, align 4"
    assert lines[4].startswith("  with cp.async.ca.shared.global.4 at line ")
