"""Tensors that a function reads without being given them: parameters, buffers, constants."""

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["CapturedTensor", "find_owner"]


@dataclass(frozen=True, eq=False)
class CapturedTensor:
    """Where a captured tensor is found at every call.

    Args:
        tensor: as it was at the import.
        owner: the `_parameters` or `_buffers` of the module that holds it, or None.
        name: its key there.
    """

    tensor: torch.Tensor
    owner: MutableMapping[str, Any] | None = None
    name: str = ""

    @property
    def identity(self) -> object:
        """Equal for the same place."""
        return id(self.tensor) if self.owner is None else (id(self.owner), self.name)

    def get(self) -> torch.Tensor:
        """The tensor now: one that was assigned to the module since, or the one of the import."""
        if self.owner is None:
            return self.tensor
        found: torch.Tensor = self.owner[self.name]
        return found


def find_owner(tensor: torch.Tensor, modules: Iterable[torch.nn.Module]) -> CapturedTensor:
    """Look for a tensor among the parameters and buffers of modules and their children."""
    for root in modules:
        for module in root.modules():
            for owner in (module._parameters, module._buffers):
                for name, value in owner.items():
                    if value is tensor:
                        return CapturedTensor(tensor, owner, name)
    return CapturedTensor(tensor)
