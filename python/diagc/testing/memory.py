"""How much memory a call takes at its peak, as the system counts it (Linux)."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["peak_of"]

_STATUS = Path("/proc/self/status")
_MB = 1024 * 1024


def peak_of(call: Callable[[], Any]) -> tuple[float, float]:
    """Megabytes by which the resident set grows at its peak, and megabytes of the result.

    Args:
        call: gives a tensor.

    Raises:
        OSError: the system does not tell, or a peak cannot be forgotten.
    """
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed but kept would hide growth
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    result = call()
    return _status("VmHWM") - before, result.numel() * result.element_size() / _MB


def _status(name: str) -> float:
    """A value of /proc/self/status in megabytes."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return float(line.split()[1]) / 1024
    raise OSError(f"{_STATUS} does not tell {name}")
