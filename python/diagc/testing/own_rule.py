"""A function for autograd whose gradient is not that of what it computes."""

from typing import Any

import torch

__all__ = ["doubled"]


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Double."""
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Not 2: whoever differentiates the product is found out."""
        return gradient * 100


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Twice the tensor, with a gradient that is 100 times that of the result."""
    result: torch.Tensor = _Doubled.apply(x)  # type: ignore[no-untyped-call]
    return result
