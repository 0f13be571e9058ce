"""Kernels on words for tests of findings: `in` and `out`, shared memory, a body in LLVM IR."""

import numpy as np
from numpy.typing import NDArray

from diagc.simulator import Buffer, Report
from diagc.testing.lane_kernel import kernel_text, run_text

__all__ = [
    "BARRIER",
    "COMMIT",
    "GLOBAL",
    "IN_OUT",
    "SHARED",
    "kinds",
    "neighbour",
    "only",
    "read_neighbour",
    "run_words",
    "triples",
    "wait",
    "word",
]

GLOBAL, SHARED = "ptr addrspace(1)", "ptr addrspace(3)"
IN_OUT = f"{GLOBAL} %in, {GLOBAL} %out"
BARRIER = "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)"
COMMIT = "  call void @llvm.nvvm.cp.async.commit.group()"

Words = NDArray[np.uint32]


def wait(groups: int) -> str:
    """Wait for all but some groups of asynchronous copies."""
    return f"  call void @llvm.nvvm.cp.async.wait.group(i32 {groups})"


def word(name: str, base: str, index: str) -> str:
    """The address of a 32-bit word in global (%in, %out) or shared memory."""
    space = SHARED if base == "@shared" else GLOBAL
    return f"  {name} = getelementptr i32, {space} {base}, i32 {index}"


def neighbour(name: str = "%there") -> str:
    """The lane 32 further on, in a block of 64: always in the other warp."""
    return f"  {name} = xor i32 %lane, 32"


def read_neighbour(offset: int = 0) -> str:
    """Give `out` the shared word of the neighbour, `offset` words further on."""
    index = "%there" if offset == 0 else "%other"
    return "\n".join(
        [
            neighbour(),
            *([f"  %other = add i32 %there, {offset}"] if offset else []),
            word("%place", "@shared", index),
            f"  %v = load i32, {SHARED} %place, align 4",
            word("%result", "%out", "%lane"),
            f"  store i32 %v, {GLOBAL} %result, align 4",
        ]
    )


def run_words(
    body: str,
    *,
    threads: int = 64,
    grid: int = 1,
    shared: int = 4096,
    size: int = 64,
    out: int = 64,
    seed: int = 0,
) -> tuple[Report, Words, Words]:
    """Run a body; gives the report, `in` (1, 2, 3, ...) and `out`."""
    source = np.arange(1, size + 1, dtype=np.uint32)
    result = np.full(out, 0xDEADBEEF, np.uint32)
    text = kernel_text(IN_OUT, body + "\n  ret void")
    buffers = [Buffer(source, "in"), Buffer(result, "out", writable=True)]
    report = run_text(text, buffers, grid=(grid,), threads=threads, shared=shared, seed=seed)
    return report, source, result


def kinds(report: Report) -> set[str]:
    """Kinds of all findings."""
    return {finding.kind for finding in report.findings}


def triples(report: Report) -> set[tuple[str, str, str]]:
    """Kind, operation and other operation of every finding."""
    return {
        (f.kind, f.site.op if f.site else "", f.other.op if f.other else "")
        for f in report.findings
    }


def only(report: Report) -> tuple[str, str, str]:
    """Kind, operation and other operation of the one finding."""
    assert len(report.findings) == 1, str(report)
    return next(iter(triples(report)))
