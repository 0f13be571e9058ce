"""A kernel that is a Python function on numpy arrays: so the interpreter takes part in programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diagc.runtime.signature import KernelSignature

if TYPE_CHECKING:
    import numpy as np

__all__ = ["HostKernel"]


@dataclass(frozen=True)
class HostKernel:
    """A function with a kernel's signature, on arrays whose axes stand as its wires say."""

    signature: KernelSignature
    function: Callable[[Sequence["np.ndarray[Any, Any]"]], Sequence["np.ndarray[Any, Any]"]]
