"""Instructions of a basic block, by the pipe of the GPU that would run them."""

import re
from collections import Counter
from functools import cache

from diagc.errors import UnsupportedError
from diagc.simulator.types import lane_count, take_type

__all__ = ["PIPES", "tally"]

PIPES = ("tensor", "fma", "alu", "mufu", "convert", "lsu", "warp", "barrier")
"""Tensor cores; f32 arithmetic; integers, compares, selects; special functions; conversions; memory
and matrix loads; shuffles and votes; barriers, waits and fences."""

_BY_OPCODE = {
    **dict.fromkeys(("fadd", "fsub", "fmul", "fneg"), "fma"),
    **dict.fromkeys(("fdiv", "frem"), "mufu"),
    **dict.fromkeys(("fptrunc", "fpext", "fptosi", "fptoui", "sitofp", "uitofp"), "convert"),
    **dict.fromkeys(("load", "store", "atomicrmw", "cmpxchg"), "lsu"),
    **dict.fromkeys(
        ("add", "sub", "mul", "udiv", "sdiv", "urem", "srem", "shl", "lshr", "ashr", "and"), "alu"
    ),
    **dict.fromkeys(
        ("or", "xor", "icmp", "fcmp", "select", "getelementptr", "trunc", "zext", "sext"), "alu"
    ),
}
_BY_INTRINSIC = (
    (r"nvvm\.mma\b.*", "tensor"),
    (r"nvvm\.(?:ldmatrix|stmatrix|cp\.async\.c|cp\.async\.bulk\.tensor).*", "lsu"),
    (r"nvvm\.(?:cp\.async|bar|membar|mbarrier|fence|wgmma|setmaxnreg).*", "barrier"),
    (r"nvvm\.(?:shfl|vote|match|redux|elect).*", "warp"),
    (r"nvvm\.\w+\.approx.*|(?:exp2?|log2?|sqrt|sin|cos|tanh)\..*", "mufu"),
    (r"nvvm\.(?:ff2|f2).*", "convert"),
    (r"fma\..*|fmuladd\..*", "fma"),
    (r"(?:max|min|u|s|abs|ctpop|fsh|bit|fabs).*", "alu"),
)
_INTRINSICS = tuple((re.compile(pattern), pipe) for pattern, pipe in _BY_INTRINSIC)


@cache
def _pipe_of(name: str) -> str | None:
    return next((pipe for pattern, pipe in _INTRINSICS if pattern.fullmatch(name)), None)


_CALLED = re.compile(r"@([\w.$]+)\(")
_NAMED = re.compile(r"\b(?:wgmma|mbarrier)\.[\w.]+")  # behind declarations of registers and labels
_ASM = re.compile(r' asm [^"]*"([^" ;\\]*)')


def tally(counts: Counter[str], body: str) -> str:
    """Add an instruction to the counts of its block; gives its name for reports."""
    word = body.split(" ", 1)[0]
    if word in ("call", "tail", "musttail", "notail"):
        return _tally_call(counts, body)
    pipe = _BY_OPCODE.get(word)
    if pipe is not None:
        counts[pipe] += 1 if pipe == "lsu" else _lanes(body)
    return word


def _lanes(body: str) -> int:
    """How many scalar instructions a vector instruction is."""
    start = body.find("<")
    if start < 0:
        return 1
    try:
        return lane_count(take_type(body[start:])[0])
    except (UnsupportedError, ValueError):
        return 1


def _tally_call(counts: Counter[str], body: str) -> str:
    asm = _ASM.search(body)
    if asm is not None:
        named = _NAMED.search(body)
        counts["tensor"] += named is not None and named[0].startswith("wgmma.mma")
        return asm[1] if named is None else named[0]
    called = _CALLED.search(body)
    if called is None:
        return "call"
    name = called[1].removeprefix("llvm.")
    pipe = _pipe_of(name)
    if pipe is not None and called[1].startswith("llvm."):
        counts[pipe] += 1 if pipe in ("tensor", "lsu") else _lanes(body)
    return name.removeprefix("nvvm.")
