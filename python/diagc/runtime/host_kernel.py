"""A kernel that is a Python function on numpy arrays: so the interpreter takes part in programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diagc.runtime.signature import KernelSignature

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["HostKernel", "host_array"]


@dataclass(frozen=True)
class HostKernel:
    """A function with a kernel's signature, on arrays whose axes stand as its wires say."""

    signature: KernelSignature
    function: Callable[[Sequence["np.ndarray[Any, Any]"]], Sequence["np.ndarray[Any, Any]"]]


def host_array(tensor: "torch.Tensor") -> "np.ndarray[Any, Any]":
    """A tensor as a host kernel takes it: floats that numpy lacks as f32, without loss."""
    lacks = str(tensor.dtype) in ("torch.bfloat16", "torch.float8_e4m3fn")
    array: np.ndarray[Any, Any] = (tensor.float() if lacks else tensor).detach().cpu().numpy()
    return array
