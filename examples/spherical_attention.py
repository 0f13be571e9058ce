"""Spherical attention: scores are divided by their Euclidean norm over the keys, no exponential.

    O = (S / |S|) V,   S = Q K^T,   |S| the norm of each row              (arXiv 2505.09326)

Without a mask the squared norm is a polynomial of the query, |S|^2 = q^T (K^T K) q, so diagc
re-associates the whole to Q (K^T V) / sqrt(q^T (K^T K) q): linear in the number of keys.
"""

import torch


def spherical_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attend over [batch, heads, positions, features]."""
    scores = torch.matmul(q, k.transpose(-2, -1))
    weights = scores / torch.linalg.vector_norm(scores, ord=2, dim=-1, keepdim=True)
    return torch.matmul(weights, v)


def example_inputs() -> tuple[torch.Tensor, ...]:
    """Queries, keys and values."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 8, 1024, 64) for _ in range(3))
    return q, k, v
