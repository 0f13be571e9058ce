"""Tensors to run a program on when only the time matters."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch

from diagc.runtime.torch_launch import TORCH_DTYPES

if TYPE_CHECKING:
    from diagc.runtime.program import Program

__all__ = ["usual_inputs"]


def usual_inputs(program: "Program", long: int, short: int) -> list[torch.Tensor]:
    """Normal numbers for floats, zeros for others, on the program's device.

    Args:
        program: compiled.
        long: size of the last two axes of an input where they are open.
        short: of other open axes.
    """
    sizes: dict[str, int] = {}
    for entry in program.inputs:
        labels = entry.type.labels
        for place, (label, size) in enumerate(zip(labels, entry.sizes, strict=True)):
            guess = long if place >= len(labels) - 2 else short
            sizes.setdefault(label, guess if size is None else size)
    return [
        _tensor(
            [prod(sizes[label] for label in group) for group in entry.dims], entry.type.dtype
        ).to(program.device)
        for entry in program.inputs
    ]


def _tensor(shape: Sequence[int], name: str) -> torch.Tensor:
    dtype = TORCH_DTYPES[name]
    return (torch.randn(shape) if dtype.is_floating_point else torch.zeros(shape)).to(dtype)
