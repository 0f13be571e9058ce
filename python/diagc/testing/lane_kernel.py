"""Small GPU kernels in LLVM IR text, for tests of the simulator: one instruction or bug each."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import binding
from numpy.typing import NDArray

from diagc.simulator import Buffer, Report, SimulatorOptions, simulate
from diagc.simulator.launch import Parameter
from diagc.simulator.types import operand, split

__all__ = ["kernel_text", "run_lanes", "run_text"]

_CALL = re.compile(r"call (?P<type>.+?) @(?P<name>llvm\.[\w.]+)\((?P<args>.*)\)\s*$", re.MULTILINE)
_HEAD = """@shared = external addrspace(3) global [0 x i8], align 1024

define ptx_kernel void @kernel({parameters}) {{
  %lane = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %block = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
{body}
}}
"""


def kernel_text(parameters: str, body: str) -> str:
    """A module with one kernel, `kernel`; `%lane` is the thread, `%block` the block.

    The body ends with a `ret` or another terminator. LLVM itself checks the text, so that a test
    cannot use an intrinsic that does not exist.
    """
    text = _HEAD.format(parameters=parameters, body=body)
    declared = {}
    for match in _CALL.finditer(text):
        types = ", ".join(operand(part).type for part in split(match["args"]))
        declared[match["name"]] = f"declare {match['type']} @{match['name']}({types})"
    text += "\n".join(declared.values()) + "\n"
    _check(text)
    return text


@lru_cache(256)
def _check(text: str) -> None:
    module = binding.parse_assembly(text)
    module.verify()
    unknown = [f.name for f in module.functions if f.is_declaration and "#" not in str(f)]
    assert not unknown, f"LLVM does not know {unknown}"


def run_text(
    text: str,
    params: Sequence[Parameter],
    *,
    grid: Sequence[int] = (1,),
    threads: int = 32,
    shared: int = 0,
    **options: Any,
) -> Report:
    """Simulate `kernel` of a text."""
    how = SimulatorOptions(**options)
    return simulate(text, "kernel", params, grid, threads, shared, options=how)


def run_lanes(
    body: str,
    inputs: NDArray[np.uint32],
    outputs: int,
    *,
    threads: int = 32,
    shared: int = 0,
) -> tuple[NDArray[np.uint32], Report]:
    """Run a straight piece of code on 32-bit words of each lane.

    Args:
        body: it reads `%x0`, `%x1`, ..., (i32) and defines `%y0`, `%y1`, ... (i32).
        inputs: words, (number of x, threads).
        outputs: number of y.
        threads: of the one block.
        shared: bytes of shared memory.

    Returns:
        the words of y, (outputs, threads), and the report.
    """
    lines = []
    for i in range(len(inputs)):
        lines += _place(f"%in{i}", "%in", i, threads)
        lines.append(f"  %x{i} = load i32, ptr addrspace(1) %in{i}, align 4")
    lines.append(body)
    for i in range(outputs):
        lines += _place(f"%out{i}", "%out", i, threads)
        lines.append(f"  store i32 %y{i}, ptr addrspace(1) %out{i}, align 4")
    text = kernel_text(
        "ptr addrspace(1) %in, ptr addrspace(1) %out", "\n".join([*lines, "  ret void"])
    )
    result = np.full((outputs, threads), 0xDEADBEEF, np.uint32)
    buffers = [Buffer(inputs, "in"), Buffer(result, "out", writable=True)]
    return result, run_text(text, buffers, threads=threads, shared=shared)


def _place(name: str, base: str, row: int, threads: int) -> list[str]:
    return [
        f"  {name}i = add i32 %lane, {row * threads}",
        f"  {name} = getelementptr i32, ptr addrspace(1) {base}, i32 {name}i",
    ]
