"""Tensors that a function reads without being given them: parameters, buffers, constants."""

import inspect
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from types import CellType
from typing import Any

import torch

__all__ = ["CapturedTensor", "Owners", "visible_modules"]


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
    _copies: dict[torch.device, torch.Tensor] = field(default_factory=dict, repr=False)

    @property
    def identity(self) -> object:
        """Equal for the same place."""
        return id(self.tensor) if self.owner is None else (id(self.owner), self.name)

    def get(self, device: torch.device | None = None) -> torch.Tensor:
        """The tensor now: one that was assigned to the module since, or the one of the import.

        A tensor that no module holds, and that `.to()` of a module therefore leaves behind, is
        copied to `device` once.
        """
        if self.owner is None:
            if device is None or self.tensor.device == device:
                return self.tensor
            if device not in self._copies:
                self._copies[device] = self.tensor.to(device)
            return self._copies[device]
        found: torch.Tensor = self.owner[self.name]
        return found


class Owners:
    """The modules that a function can see: itself, what it is bound to, closure and globals."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Find the modules; they stay alive with this object."""
        self._modules = list(visible_modules(function))

    def has_hooks(self) -> bool:
        """Whether a module changes gradients that pass it."""
        modules = (module for root in self._modules for module in root.modules())
        return any(m._backward_hooks or m._backward_pre_hooks for m in modules)

    def find(self, tensor: torch.Tensor) -> CapturedTensor:
        """Look for a tensor among the parameters and buffers of the modules."""
        for _, owner, key in self._entries():
            if owner[key] is tensor:
                return CapturedTensor(tensor, owner, key)
        return CapturedTensor(tensor)

    def name_of(self, source: CapturedTensor) -> str | None:
        """The number of a module and its own name for a tensor, `0.encoder.weight`."""
        for path, owner, key in self._entries():
            if owner is source.owner and key == source.name:
                return f"{path}.{key}"
        return None

    def named(self, name: str) -> CapturedTensor | None:
        """The tensor of which `name_of` gives this name."""
        for path, owner, key in self._entries():
            if f"{path}.{key}" == name and owner[key] is not None:
                return CapturedTensor(owner[key], owner, key)
        return None

    def _entries(self) -> Iterator[tuple[str, MutableMapping[str, Any], str]]:
        """Path of the module, owner and key of each parameter and buffer."""
        for number, root in enumerate(self._modules):
            for path, module in root.named_modules(prefix=str(number)):
                for owner in (module._parameters, module._buffers):
                    for key in owner:
                        yield path, owner, key


def visible_modules(function: Callable[..., Any]) -> Iterator[torch.nn.Module]:
    """What a function is, is bound to, or sees in its closure and globals."""
    function = inspect.unwrap(function)
    seen = [function, getattr(function, "__self__", None)]
    code = getattr(function, "__code__", None)
    if code is not None:
        cells = getattr(function, "__closure__", None) or ()
        seen += [cell.cell_contents for cell in cells if cell != CellType()]
        used = getattr(function, "__globals__", {})
        seen += [used.get(name) for name in code.co_names]
    yield from (value for value in seen if isinstance(value, torch.nn.Module))
