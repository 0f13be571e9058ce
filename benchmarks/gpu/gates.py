"""What ptxas and the machine code say of every kernel in a folder of packages; needs no GPU.

    PYTHONPATH=python:benchmarks python -m gpu.gates packages --out gpu_gates.json

Registers and spills are ptxas', counts are of the instructions in the machine code: products of
warpgroups (HGMMA) and of warps (HMMA), copies by tensor maps (UTMALDG), registers that change hands
(USETMAXREG), asynchronous copies (LDGSTS), exponentials (MUFU.EX2). Gives 1 when a kernel spills,
one with tensor maps lacks what warpgroups are made of, or asks for more registers than its block
has, or touches those of products under way.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tables import markdown

from diagc.runtime.gpu_kernel import GpuKernel, GpuLaunch
from diagc.runtime.package.kernels import gpu_kernel
from diagc.runtime.package.manifest import read_package
from diagc.targets.nvptx.ptxas import assemble, disassemble, find_tool
from diagc.testing.wgmma_registers import lacking_registers, misuses

__all__ = ["COUNTED", "Gated", "main"]

COUNTED = ("HGMMA", "HMMA", "UTMALDG", "USETMAXREG", "LDGSTS", "MUFU.EX2")
_REGISTERS = 65536  # of a multiprocessor
_FUNCTION = re.compile(r"^\s*(?:Function : |\.section\s+\.text\.|//-+ \.text\.)(\w+)", re.MULTILINE)
_INSTRUCTION = re.compile(
    r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T0-9]+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE
)


@dataclass(frozen=True)
class Gated:
    """One function of a package.

    Args:
        package: name.
        variants: of the package that use it, in words.
        function: symbol.
        arch: that it is for.
        threads: of a block.
        shared_bytes: dynamic shared memory of a block.
        registers: of a thread.
        allowed: registers at most, for the blocks that the schedule wants at a time.
        spills: bytes, stores and loads.
        counts: instructions in the machine code; None where there is no disassembler.
        problem: what is wrong, or None.
    """

    package: str
    variants: tuple[str, ...]
    function: str
    arch: str
    threads: int
    shared_bytes: int
    registers: int
    allowed: int
    spills: int
    counts: dict[str, int] | None
    problem: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; gives 1 when a kernel misses a gate, 2 when there is no ptxas."""
    parser = argparse.ArgumentParser(description="registers, spills, instructions of packages")
    parser.add_argument("folder", type=Path, help="with FILE.diagpkg")
    parser.add_argument("--out", type=Path, help="JSON; a table in Markdown stands beside it")
    args = parser.parse_args(arguments)
    if find_tool() is None:
        print("there is no ptxas here", file=sys.stderr)
        return 2
    found = [gated for path in sorted(args.folder.glob("*.diagpkg")) for gated in _package(path)]
    text = markdown(*_as_table(found))
    print(text)
    if args.out is not None:
        entries = {"entries": [asdict(gated) for gated in found]}
        args.out.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        args.out.with_suffix(".md").write_text(text, encoding="utf-8")
    return 1 if any(gated.problem for gated in found) else 0


def _package(path: Path) -> Iterator[Gated]:
    manifest, members = read_package(path)
    entries = manifest.variants.entries if manifest.variants else ()
    for number, entry in enumerate(manifest.kernels):
        if entry["kind"] == "gpu":
            names = tuple(each.name for each in entries if number in each.kernels)
            yield from _kernel(path.stem, names, gpu_kernel(entry, members))


def _kernel(package: str, variants: tuple[str, ...], kernel: GpuKernel) -> Iterator[Gated]:
    made = assemble(kernel.ptx, kernel.arch)
    assert made is not None
    sass = disassemble(made.cubin)
    counts = None if sass is None else _counts(sass)
    bulk = {launch.symbol for launch in kernel.bulk_launches[:1]}
    launches = {launch.symbol: launch for launch in kernel.all_launches}
    broken = {sentence.partition(":")[0]: sentence for sentence in misuses(kernel.ptx)}
    for symbol, launch in launches.items():
        used = made.resources[symbol]
        mine = None if counts is None else {x: _number(counts[symbol], x) for x in COUNTED}
        allowed = min(255, _REGISTERS // (launch.threads * launch.blocks_per_sm))
        problem = _problem(launch, used.registers, allowed, used.spills, mine, symbol in bulk)
        lacking = lacking_registers(kernel.ptx, symbol, launch.threads, used.registers)
        problem = problem or (f"a block lacks {lacking} registers" if lacking else None)
        yield Gated(
            *(package, variants, symbol, kernel.arch, launch.threads, launch.shared_bytes),
            *(used.registers, allowed, used.spills, mine),
            problem or broken.get(symbol),
        )


def _problem(
    launch: GpuLaunch,
    registers: int,
    allowed: int,
    spills: int,
    counts: dict[str, int] | None,
    bulk: bool,
) -> str | None:
    if spills:
        return f"{spills} bytes of registers spill"
    if registers > allowed:
        return f"{registers} registers do not leave room for {launch.blocks_per_sm} blocks"
    lacking = [x for x in ("HGMMA", "UTMALDG", "USETMAXREG") if bulk and counts and not counts[x]]
    return f"no {', '.join(lacking)}" if lacking else None


def _counts(sass: str) -> dict[str, Counter[str]]:
    """Instructions of each function."""
    _, *parts = _FUNCTION.split(sass)
    found: dict[str, Counter[str]] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        found.setdefault(name, Counter()).update(_INSTRUCTION.findall(body))
    return found


def _number(counts: Counter[str], name: str) -> int:
    return sum(n for op, n in counts.items() if op == name or op.startswith(f"{name}."))


def _as_table(found: Sequence[Gated]) -> tuple[list[str], list[str], list[list[str]]]:
    bad = sum(gated.problem is not None for gated in found)
    text = [
        "Static gates of GPU kernels",
        f"{len(found)} functions, {bad} that miss a gate. Written by `python -m gpu.gates`.",
    ]
    columns = ["package", "function", "arch", "threads", "shared", "registers", "spills", *COUNTED]
    rows = [
        [
            *(gated.package, f"`{gated.function}`", gated.arch, str(gated.threads)),
            *(str(gated.shared_bytes), f"{gated.registers} of {gated.allowed}"),
            str(gated.spills) if gated.problem is None else f"{gated.spills}: {gated.problem}",
            *(("?" if gated.counts is None else str(gated.counts[x])) for x in COUNTED),
        ]
        for gated in found
    ]
    return text, [*columns], rows


if __name__ == "__main__":
    sys.exit(main())
