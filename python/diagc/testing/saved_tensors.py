"""What a call keeps for its gradients."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

__all__ = ["saved_shapes"]


def saved_shapes(function: Callable[..., Any], tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """Shapes of what the graph of a call keeps, but for the tensors of the call; sorted."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        function(*tensors)
    return sorted(tuple(t.shape) for t in found if all(t is not tensor for tensor in tensors))
