"""The run time: everything that runs compiled programs; needs torch, but no compiler."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from diagc.runtime.package.loader import PackagedProgram

__all__ = ["load"]


def load(
    path: "str | Path",
    weights: "Mapping[str, torch.Tensor] | None" = None,
    *,
    autotune: bool = False,
) -> "PackagedProgram":
    """Load a package; see `diagc.runtime.package.loader.load`."""
    from diagc.runtime.package.loader import load as load_package  # torch

    return load_package(path, weights, autotune=autotune)
