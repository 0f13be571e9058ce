"""NVIDIA architectures that code is made for, and their limits."""

from dataclasses import dataclass

from diagc.errors import TargetError

__all__ = ["ARCHITECTURES", "DEFAULT_ARCH", "GpuArch", "parse_arch"]

_KIB = 1024


@dataclass(frozen=True)
class GpuArch:
    """One architecture; figures from the CUDA C++ Programming Guide, "Compute Capabilities".

    Args:
        name: such as "sm_80".
        block_shared_bytes: most dynamic shared memory of one block.
        sm_shared_bytes: shared memory of one multiprocessor; every block takes 1 KiB of it besides
            its own.
        sm_threads: most threads on one multiprocessor.
        sm_blocks: most blocks on one multiprocessor.
        registers: 32-bit registers of one multiprocessor.
        features: of LLVM: the version of PTX that is written.
    """

    name: str
    block_shared_bytes: int
    sm_shared_bytes: int
    sm_threads: int
    sm_blocks: int
    registers: int = 65536
    # 7.8 is the first that knows sm_89 and sm_90; any driver since CUDA 11.8 takes it
    features: str = "+ptx78"

    @property
    def capability(self) -> int:
        """10 * major + minor, as in 80."""
        return int(self.name.removeprefix("sm_").rstrip("a"))

    @property
    def has_warpgroups(self) -> bool:
        """Whether products of warpgroups and copies by tensor maps may be used: sm_90a."""
        return self.name == "sm_90a"


ARCHITECTURES = {
    arch.name: arch
    for arch in (
        GpuArch("sm_80", 163 * _KIB, 164 * _KIB, 2048, 32),
        GpuArch("sm_86", 99 * _KIB, 100 * _KIB, 1536, 16),
        GpuArch("sm_89", 99 * _KIB, 100 * _KIB, 1536, 24),
        GpuArch("sm_90", 227 * _KIB, 228 * _KIB, 2048, 32),
        # 8.6 is the first with copies to the memory of the own block, `.shared::cta`
        GpuArch("sm_90a", 227 * _KIB, 228 * _KIB, 2048, 32, features="+ptx86"),
    )
}
DEFAULT_ARCH = "sm_80"
"""Its PTX runs on every later architecture too."""


def parse_arch(text: str) -> GpuArch:
    """The architecture that a target's option names; the default for an empty text.

    Raises:
        TargetError: no such architecture.
    """
    arch = ARCHITECTURES.get(text or DEFAULT_ARCH)
    if arch is None:
        raise TargetError(
            "no code is made for this architecture",
            expected=f"one of {', '.join(ARCHITECTURES)}",
            found=f"'{text}'",
            remedy=f"write --target=nvptx:{DEFAULT_ARCH}",
        )
    return arch
