"""A vision transformer with softmax or with spherical attention, in plain torch."""

import torch
from torch import Tensor, nn

from examples.gene_regulation.model import WEIGHTS

__all__ = ["PATCH", "VisionTransformer"]

PATCH = 4
"""Pixels along each side of a patch; a patch is a token."""


class VisionTransformer(nn.Module):
    """Images [batch, 3, height, width] to logits [batch, classes].

    Args:
        weights: "softmax" or "spherical" attention, the only difference between the two
        shape: height and width of images, multiples of `PATCH`
        classes: to be told apart
        width: features of a token
        heads: of attention; they divide the width
        depth: layers
    """

    def __init__(
        self,
        weights: str,
        shape: tuple[int, int],
        classes: int = 10,
        width: int = 64,
        heads: int = 4,
        depth: int = 4,
    ) -> None:
        super().__init__()
        tokens = (shape[0] // PATCH) * (shape[1] // PATCH)
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.positions = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.layers = nn.Sequential(*(_Layer(weights, width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.layers(tokens).mean(1))
        return logits


class _Layer(nn.Module):
    """Attention and an MLP, each behind a LayerNorm and beside a residual."""

    def __init__(self, weights: str, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.normalise = WEIGHTS[weights]
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.packed = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.output(self._attention(self.first(tokens)))
        result: Tensor = tokens + self.mlp(self.second(tokens))
        return result

    def _attention(self, tokens: Tensor) -> Tensor:
        """[batch, tokens, width] to the same."""
        packed = self.packed(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) * key.shape[-1] ** -0.5
        return (self.normalise(scores) @ value).transpose(1, 2).flatten(2)
