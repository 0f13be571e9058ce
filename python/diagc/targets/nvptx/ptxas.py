"""NVIDIA's assembler: PTX to a cubin, and what it says about registers, spills and stalls."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from diagc.errors import LoweringError

__all__ = [
    "Assembled",
    "Resources",
    "StallError",
    "assemble",
    "disassemble",
    "find_tool",
    "parse_report",
]

_SECONDS = 300
# of the PyPI packages nvidia-cuda-nvcc, -nvdisasm and -cuobjdump, and of those for CUDA 12
_WHEEL_FOLDERS = ("cu13/bin", "cuda_nvcc/bin", "cuda_nvdisasm/bin", "cuda_cuobjdump/bin")
_FUNCTION = re.compile(r"Compiling entry function '(?P<name>[^']+)'")
_SPILLS = re.compile(
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads"
)
_REGISTERS = re.compile(r"Used (?P<registers>\d+) registers")
_SHARED = re.compile(r"(?P<bytes>\d+) bytes smem")
# asynchronous products that are serialised, waits that are injected
_STALL = re.compile(r"\(C75\d\d\)")


class StallError(LoweringError):
    """ptxas would serialise asynchronous instructions: another form of the kernel may be better."""


@dataclass(frozen=True)
class Resources:
    """What one function uses, per thread but for `shared_bytes` (static, of a block)."""

    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    shared_bytes: int

    @property
    def spills(self) -> int:
        """Bytes of registers that went to memory, stores and loads."""
        return self.spill_store_bytes + self.spill_load_bytes


@dataclass(frozen=True)
class Assembled:
    """A cubin, with the resources of each function by name."""

    cubin: bytes
    resources: dict[str, Resources]


def find_tool(name: str = "ptxas") -> str | None:
    """Path of a tool of CUDA: on PATH, in CUDA_HOME, or in NVIDIA's PyPI packages."""
    return next((found for found in _candidates(name) if os.access(found, os.X_OK)), None)


def _candidates(name: str) -> Iterator[str]:
    found = shutil.which(name)
    if found:
        yield found
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        root = os.environ.get(variable)
        if root:
            yield str(Path(root, "bin", name))
    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        yield from (str(Path(root, folder, name)) for folder in _WHEEL_FOLDERS)


def assemble(ptx: str, arch: str) -> Assembled | None:
    """Assemble a module; None when there is no ptxas here.

    Raises:
        LoweringError: ptxas refuses it.
        StallError: it would serialise its asynchronous instructions.
    """
    tool = find_tool()
    if tool is None:
        return None
    with tempfile.TemporaryDirectory(prefix="diagc-") as directory:
        source, target = Path(directory, "kernel.ptx"), Path(directory, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        report = _run([tool, "-v", f"-arch={arch}", str(source), "-o", str(target)])
        cubin = target.read_bytes()
    stalls = [line for line in report.splitlines() if _STALL.search(line)]
    if stalls:
        raise StallError(f"ptxas spoils the kernel: {stalls[0].strip()}")
    return Assembled(cubin, parse_report(report))


def disassemble(cubin: bytes) -> str | None:
    """SASS of a cubin; None when there is neither nvdisasm nor cuobjdump here."""
    nvdisasm, cuobjdump = find_tool("nvdisasm"), find_tool("cuobjdump")
    if nvdisasm is None and cuobjdump is None:
        return None
    with tempfile.TemporaryDirectory(prefix="diagc-") as directory:
        path = Path(directory, "kernel.cubin")
        path.write_bytes(cubin)
        command = [nvdisasm, "-c"] if nvdisasm else [str(cuobjdump), "-sass"]
        done = subprocess.run(
            [*command, str(path)], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    return done.stdout if done.returncode == 0 else None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise LoweringError(f"ptxas took more than {_SECONDS} s for the kernel") from None
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).strip().splitlines()
        raise LoweringError(f"ptxas refuses the kernel: {lines[0] if lines else done.returncode}")
    return done.stderr + done.stdout


def parse_report(text: str) -> dict[str, Resources]:
    """Read what `ptxas -v` says: the resources of each entry function."""
    found: dict[str, Resources] = {}
    name, spills = "", (0, 0, 0)
    for line in text.splitlines():
        function, frame = _FUNCTION.search(line), _SPILLS.search(line)
        registers, shared = _REGISTERS.search(line), _SHARED.search(line)
        if function:
            name, spills = function["name"], (0, 0, 0)
        elif frame:
            spills = (int(frame["stack"]), int(frame["stores"]), int(frame["loads"]))
        elif registers:
            shared_bytes = int(shared["bytes"]) if shared else 0
            found[name] = Resources(int(registers["registers"]), *spills, shared_bytes)
    return found
