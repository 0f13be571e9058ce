"""What this machine has, by the names that `// REQUIRES:` lines of lit tests use."""

from importlib.util import find_spec
from pathlib import Path
from shutil import which

__all__ = ["available_features"]


def available_features() -> set[str]:
    """Give the subset of `torch`, `cuda`, `ptxas` that is there."""
    present = {
        "torch": find_spec("torch") is not None,
        "cuda": Path("/dev/nvidiactl").exists(),
        "ptxas": which("ptxas") is not None,
    }
    return {name for name, there in present.items() if there}
