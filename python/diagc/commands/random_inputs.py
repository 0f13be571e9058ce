"""Random tensors for the inputs of a diagram."""

from collections.abc import Mapping, Sequence
from math import prod

import torch

from diagc.dialects import diag
from diagc.runtime.torch_launch import TORCH_DTYPES

__all__ = ["random_tensor"]

# Sizes for axes without one: no multiple of a vector or tile, so that tails are met too.
_OPEN_SIZE = 100


def random_tensor(
    sizes: Mapping[str, int], groups: Sequence[Sequence[str]], dtype: str, seed: int
) -> torch.Tensor:
    """Normal numbers for floats; 0 and 1 for others, so that indices and masks are in range.

    Args:
        sizes: of the axes.
        groups: of axes, one for each dimension: one axis, several merged, or none.
        dtype: of elements, in the words of the dialect.
        seed: of the generator.
    """
    known = {label: _OPEN_SIZE if n == diag.DYNAMIC else n for label, n in sizes.items()}
    shape = [prod(known[label] for label in group) for group in groups]
    generator = torch.Generator().manual_seed(seed)
    torch_dtype = TORCH_DTYPES[dtype]
    if torch_dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(torch_dtype)
    return torch.randint(0, 2, shape, generator=generator).to(torch_dtype)
