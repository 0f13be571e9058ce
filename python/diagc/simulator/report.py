"""What a simulated launch gives besides its results: findings and counters."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from diagc.cost import Traffic
from diagc.simulator.findings import Finding
from diagc.simulator.tally import PIPES

__all__ = ["Counters", "Report"]

_WARP = 32
_SECTOR_BYTES = 32


@dataclass(frozen=True)
class Counters:
    """What a launch did, all blocks together; traffic is counted in checking mode only.

    Bytes are those that lanes ask for. A sector is 32 bytes: `global_read_sectors` counts the
    distinct ones of each warp's access, which is what moves when no cache helps. A wavefront is one
    pass over the 32 banks of shared memory; `bank_conflicts` are those that conflicts add.
    `instructions` are of warps, by pipe (`tally.PIPES`), as LLVM IR has them.
    """

    global_read_bytes: int = 0
    global_write_bytes: int = 0
    global_read_sectors: int = 0
    global_write_sectors: int = 0
    shared_read_bytes: int = 0
    shared_write_bytes: int = 0
    shared_wavefronts: int = 0
    bank_conflicts: int = 0
    atomic_bytes: int = 0
    memory_instructions: int = 0
    instructions: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: "Counters") -> "Counters":
        """Both together."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "instructions"}
        total = {name: value + getattr(other, name) for name, value in numbers.items()}
        return Counters(
            **total, instructions=Counter(self.instructions) + Counter(other.instructions)
        )

    def __str__(self) -> str:
        """A table."""
        rows = [
            ("global read", _bytes(self.global_read_bytes, self.global_read_sectors)),
            ("global written", _bytes(self.global_write_bytes, self.global_write_sectors)),
            ("shared read", f"{self.shared_read_bytes} B"),
            ("shared written", f"{self.shared_write_bytes} B"),
            ("atomics", f"{self.atomic_bytes} B"),
            ("bank conflicts", f"{self.bank_conflicts} of {self.shared_wavefronts} wavefronts"),
        ]
        pipes = [(pipe, f"{self.instructions.get(pipe, 0):.0f} instructions") for pipe in PIPES]
        return "\n".join(f"  {name:15} {text}" for name, text in rows + pipes)


def _bytes(asked: int, sectors: int) -> str:
    return f"{asked} B, {sectors * _SECTOR_BYTES} B in sectors"


@dataclass(frozen=True)
class Report:
    """Findings and counters of one or several launches.

    Args:
        kernels: functions that were launched, in order.
        findings: what is wrong; empty for a good kernel.
        counters: of all launches together.
        checking: whether shadow memory was on; without it only bounds, alignment, divergence,
            deadlock and endless loops are found.
        seconds: time of the simulation, without compilation.
        reached: lines of the LLVM IR at which basic blocks begin that some thread has entered.
        predicted: global traffic as the compiler predicts it; None where it does not.
    """

    kernels: tuple[str, ...]
    findings: tuple[Finding, ...]
    counters: Counters
    checking: bool
    seconds: float
    reached: frozenset[int] = frozenset()
    predicted: Traffic | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __add__(self, other: "Report") -> "Report":
        """Of launches one after the other."""
        return Report(
            self.kernels + other.kernels,
            self.findings + other.findings,
            self.counters + other.counters,
            self.checking and other.checking,
            self.seconds + other.seconds,
            self.reached | other.reached,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data: kernels, findings with their text, counters."""
        findings = [{"kind": finding.kind, "text": str(finding)} for finding in self.findings]
        counters = asdict(self.counters) | {"instructions": dict(self.counters.instructions)}
        return {
            "kernels": list(self.kernels),
            "clean": self.clean,
            "checking": self.checking,
            "seconds": self.seconds,
            "findings": findings,
            "counters": counters,
            "predicted": None if self.predicted is None else asdict(self.predicted),
        }

    def with_findings(self, findings: Iterable[Finding]) -> "Report":
        """The same with more findings."""
        return replace(self, findings=(*self.findings, *findings))

    def __str__(self) -> str:
        """Readable: one line in front, the findings, the counters."""
        mode = "checked" if self.checking else "fast, without shadow memory"
        count = len(self.findings)
        found = "no findings" if not count else f"{count} finding{'s' if count > 1 else ''}"
        head = f"simulated {', '.join(self.kernels)} ({mode}, {self.seconds:.2f} s): {found}"
        lines = [head, *map(str, self.findings), str(self.counters)]
        if self.predicted is not None:
            lines.append(self._compared(self.predicted))
        return "\n".join(lines)

    def _compared(self, predicted: Traffic) -> str:
        """Predicted traffic, and by how much the count differs from it."""
        counted = self.counters.global_read_bytes, self.counters.global_write_bytes
        pairs = zip(("read", "written"), (predicted.read, predicted.written), counted, strict=True)
        texts = [
            f"{wanted} B {name} ({100 * (found - wanted) / max(wanted, 1):+.1f} % counted)"
            for name, wanted, found in pairs
        ]
        return f"  {'predicted':15} {', '.join(texts)}"
