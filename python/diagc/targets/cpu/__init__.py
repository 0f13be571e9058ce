"""Kernels for this machine's processor, lowered op by op to vector code."""

import os

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


LEAST_TASKS = 8
TASKS_A_CORE = 3
"""Heads whose gradients one task computes: 5 products a head instead of 7, but whole heads a core.
With 3 heads a core the last ones, on few cores, cost less than that gains."""


def pass_options() -> dict[str, int]:
    """Options of passes that depend on the processor."""
    tasks = max(LEAST_TASKS, TASKS_A_CORE * (os.cpu_count() or 1))
    return {"vector_bytes": 4 * selected_features().lanes, "emits": tasks}
