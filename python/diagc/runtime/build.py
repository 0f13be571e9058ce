"""What compiles a function for the kinds of calls that turn up: see `diagc.torch_build`."""

from collections.abc import Sequence
from typing import Protocol

import torch

from diagc.runtime.arguments import Arguments
from diagc.runtime.program import Program
from diagc.runtime.specialization import Specialization

__all__ = ["Build", "OpenDims"]

# For each tensor the dims whose sizes are open; True for all that can be.
OpenDims = Sequence[frozenset[int]] | bool


class Build(Protocol):
    """Imports and compiles the function for one kind of call."""

    def __call__(
        self, arguments: Arguments, tensors: Sequence[torch.Tensor], dynamic: OpenDims
    ) -> Specialization:
        """`tensors` are examples; `dynamic` says which sizes stay open."""

    def gradients(
        self,
        arguments: Arguments,
        specialization: Specialization,
        wanted: Sequence[int],
        saved: bool,
    ) -> Program:
        """The program of `Backward`, for the inputs of these numbers."""

    def saving(self, specialization: Specialization) -> Program | None:
        """The program of `Specialization.saving`; None where nothing is worth saving."""
