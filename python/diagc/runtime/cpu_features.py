"""What this CPU can do: vector width, registers, and the instructions that kernels may use."""

import platform
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from diagc import debug
from diagc.errors import TargetError

__all__ = ["ISA_LEVELS", "CpuFeatures", "host_features", "parse_cpuinfo", "selected_features"]


@dataclass(frozen=True)
class IsaLevel:
    """A set of vector instructions that kernels are generated for.

    Args:
        lanes: f32 values of one vector register.
        registers: number of vector registers.
        needs: flags of /proc/cpuinfo that must all be there.
        llvm_cpu: LLVM's name of the plainest CPU of this level.
    """

    lanes: int
    registers: int
    needs: frozenset[str]
    llvm_cpu: str


_AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "fma"})

# Widest first within one architecture. avx512 is the common part of all AVX-512 servers.
ISA_LEVELS = {
    "avx512": IsaLevel(16, 32, _AVX512, "x86-64-v4"),
    "avx2": IsaLevel(8, 16, frozenset({"avx2", "fma", "f16c"}), "x86-64-v3"),
    "sse2": IsaLevel(4, 16, frozenset({"sse2"}), "x86-64"),
    "neon": IsaLevel(4, 32, frozenset({"asimd"}), "generic"),
}
_BF16_DOT_FLAG = "avx512_bf16"
# flags that decide about instructions; the rest of /proc/cpuinfo (virtualisation, errata) does not
_PREFIXES = (
    *("sse", "ssse", "avx", "amx", "fma", "f16c", "bmi", "abm", "asimd", "sve", "bf16"),
    *("aes", "vaes", "pclmul", "vpclmul", "gfni", "popcnt", "movbe", "adx", "sha", "xop", "tbm"),
)


@dataclass(frozen=True)
class CpuFeatures:
    """A CPU as the code generator sees it.

    Args:
        name: the vendor's name, for people.
        model: vendor, family, model and stepping: LLVM schedules by it.
        isa: a key of `ISA_LEVELS`.
        flags: instruction-set flags, as in /proc/cpuinfo.
        native: whether code is generated for exactly this CPU; else for the plainest of its level.
    """

    name: str
    model: str
    isa: str
    flags: frozenset[str]
    native: bool = True

    @property
    def lanes(self) -> int:
        """f32 values of one vector register."""
        return ISA_LEVELS[self.isa].lanes

    @property
    def vector_registers(self) -> int:
        """Number of vector registers."""
        return ISA_LEVELS[self.isa].registers

    @property
    def bf16_dot(self) -> bool:
        """Whether there are dot products of bf16 pairs (AVX512-BF16 `vdpbf16ps`)."""
        return self.isa == "avx512" and _BF16_DOT_FLAG in self.flags

    @property
    def llvm_cpu(self) -> str | None:
        """CPU to generate code for; None for the host as it is."""
        return None if self.native else ISA_LEVELS[self.isa].llvm_cpu

    @property
    def cache_text(self) -> str:
        """All that generated code depends on, as text for a cache key."""
        if not self.native:
            return f"cpu {ISA_LEVELS[self.isa].llvm_cpu}"
        return f"cpu {self.model} {self.isa} {' '.join(sorted(self.flags))}"

    def at_level(self, isa: str) -> "CpuFeatures":
        """Restrict to what every CPU of a level has, be it the widest level of this machine.

        Raises:
            TargetError: the machine does not have it.
        """
        if not ISA_LEVELS[isa].needs <= self.flags:
            raise TargetError(
                f"this CPU does not have {isa}",
                expected=f"one of {', '.join(_available(self.flags))}",
                found=isa,
                remedy="unset DIAGC_CPU_ISA, or set it to one that the CPU has",
            )
        flags = self.flags & ISA_LEVELS[isa].needs
        return replace(self, isa=isa, flags=flags, native=False)


def selected_features() -> CpuFeatures:
    """Give the features of this CPU, narrowed by `DIAGC_CPU_ISA`.

    Raises:
        TargetError: the CPU is of an unsupported kind, or lacks the level that was asked for.
    """
    isa = debug.CPU_ISA.get()
    host = host_features()
    return host if isa == "native" else host.at_level(isa)


@cache
def host_features() -> CpuFeatures:
    """Read /proc/cpuinfo.

    Raises:
        TargetError: it is missing, or shows a CPU of an unsupported kind.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise TargetError(f"cannot find out what this CPU can do: {error}") from None
    return parse_cpuinfo(text)


def parse_cpuinfo(text: str) -> CpuFeatures:
    """Read the first processor of a /proc/cpuinfo (x86-64 or aarch64).

    Raises:
        TargetError: no supported level of vector instructions.
    """
    fields: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    words = fields.get("flags", fields.get("Features", "")).split()
    flags = frozenset(word for word in words if word.startswith(_PREFIXES))
    levels = _available(flags)
    if not levels:
        raise TargetError(
            f"the CPU of this machine ({platform.machine()}) is not supported",
            expected=f"one of {', '.join(ISA_LEVELS)}",
            found="none of their instructions in /proc/cpuinfo",
        )
    keys = ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
    model = "-".join(fields[key] for key in keys if key in fields)
    return CpuFeatures(fields.get("model name", model), model, levels[0], flags)


def _available(flags: frozenset[str]) -> list[str]:
    return [isa for isa, level in ISA_LEVELS.items() if level.needs <= flags]
