"""A layer of attention over genes that predicts dx/dt, with softmax or with spherical weights."""

import torch
from torch import Tensor, nn

__all__ = ["GeneAttention", "softmax", "spherical"]


def softmax(scores: Tensor) -> Tensor:
    """Weights [..., queries, keys] that are positive and sum to 1."""
    return torch.softmax(scores, dim=-1)


def spherical(scores: Tensor) -> Tensor:
    """Weights [..., queries, keys] of either sign whose squares sum to 1 (arXiv 2505.09326)."""
    return nn.functional.normalize(scores, dim=-1)


WEIGHTS = {"softmax": softmax, "spherical": spherical}


class GeneAttention(nn.Module):
    """Genes are tokens that read each other by attention; an MLP makes dx/dt of what was read.

        h_j = identity_j + x_j expression_j
        w   = weights(q k^T / sqrt(d)),   q, k, v linear in h, per head
        f_i = MLP(h_i + (w v)_i W_o)

    Args:
        weights: "softmax" or "spherical", the only difference between the two models
        genes: number of tokens
        width: features of a token
        heads: attention heads; they divide the width
    """

    def __init__(self, weights: str, genes: int = 11, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.normalise = WEIGHTS[weights]
        self.identity = nn.Parameter(torch.randn(genes, width))
        self.expression = nn.Parameter(torch.randn(genes, width))
        self.query_key = nn.Linear(width, 2 * width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 1))

    def forward(self, expression: Tensor) -> Tensor:
        """Predict dx/dt [cells, genes] from the expression [cells, genes]."""
        return self.derivative(expression, self.weights(expression))

    def weights(self, expression: Tensor) -> Tensor:
        """Give the weights [cells, heads, targets, sources]."""
        query, key = self._by_head(self.query_key(self._tokens(expression))).chunk(2, dim=-1)
        return self.normalise(query @ key.transpose(-2, -1) * key.shape[-1] ** -0.5)

    def derivative(self, expression: Tensor, weights: Tensor) -> Tensor:
        """Predict dx/dt [cells, genes] where the weights [cells, heads, genes, genes] are given."""
        tokens = self._tokens(expression)
        read = weights @ self._by_head(self.value(tokens))
        tokens = tokens + self.output(read.transpose(-3, -2).flatten(-2))
        return self.mlp(tokens).squeeze(-1)

    def _tokens(self, expression: Tensor) -> Tensor:
        return self.identity + expression[..., None] * self.expression

    def _by_head(self, features: Tensor) -> Tensor:
        """[..., genes, heads x d] to [..., heads, genes, d]."""
        return features.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
