"""Kernels for this machine's processor, lowered op by op to vector code."""

from diagc.runtime.cpu_features import selected_features
from diagc.targets.cpu.decoration import decoration
from diagc.targets.cpu.kernel import LoadedKernel, load_kernel, lower_kernel, text_key
from diagc.targets.cpu.tuning import choices

__all__ = [
    "LoadedKernel",
    "choices",
    "decoration",
    "load_kernel",
    "lower_kernel",
    "pass_options",
    "text_key",
]


def pass_options() -> dict[str, int]:
    """Options of passes that depend on the processor."""
    return {"vector_bytes": 4 * selected_features().lanes}
