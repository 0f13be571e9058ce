"""Softmax attention with a causal mask, as one writes it by hand.

diagc derives the streamed form (running maximum, corrected sums) and turns the mask, which is
monotone in the positions, into a bound of the loop over keys.
"""

import math

import torch


def causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attend over [batch, heads, positions, features]; a query sees no later key."""
    scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
    later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    weights = torch.softmax(scores.masked_fill(later, float("-inf")), dim=-1)
    return torch.matmul(weights, v)


def example_inputs() -> tuple[torch.Tensor, ...]:
    """Queries, keys and values."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 8, 1024, 64) for _ in range(3))
    return q, k, v
