"""What is compiled and compared: plain torch functions, and torch's own kernels for the same.

Attention takes q [heads, rows, d], k [heads, keys, d], v [heads, keys, e]; with groups, q is
[heads, group, rows, d]. Everything is independent along the first axis.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["BACKENDS", "Function", "sdpa"]

Tensor = torch.Tensor
Function = Callable[..., Any]

WINDOW = 256


def scaled(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1)) * (1 / math.sqrt(q.shape[-1]))


def later(q: Tensor, k: Tensor) -> Tensor:
    ones = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device)
    return ones.triu(1)


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scaled(q, k), dim=-1) @ v


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scaled(q, k).masked_fill(later(q, k), float("-inf")), dim=-1) @ v


def window(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal, and none but the last `WINDOW` keys."""
    ones = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device)
    outside = ones.triu(1) | ones.tril(-WINDOW)
    return torch.softmax(scaled(q, k).masked_fill(outside, float("-inf")), dim=-1) @ v


def bottom_right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal, where the last query sees all keys; of more queries than keys the first see none."""
    ones = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device)
    outside = ones.triu(1 + k.shape[-2] - q.shape[-2])
    return torch.softmax(scaled(q, k).masked_fill(outside, float("-inf")), dim=-1) @ v


def biased(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """With an additive bias [rows, keys] that all heads share."""
    return torch.softmax(scaled(q, k) + bias, dim=-1) @ v


def masked(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """With a boolean mask [heads, 1, keys] or [rows, keys]."""
    return torch.softmax(scaled(q, k).masked_fill(~keep, float("-inf")), dim=-1) @ v


def capped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(30.0 * torch.tanh(scaled(q, k) / 30.0), dim=-1) @ v


def with_statistic(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attention and the logarithm of its sums of exponentials."""
    scores = scaled(q, k)
    return torch.softmax(scores, dim=-1) @ v, torch.logsumexp(scores, dim=-1)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Several query heads on each key head, causal."""
    return causal(q, k.unsqueeze(-3), v.unsqueeze(-3))


def decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query of each of several heads on a cache of keys."""
    return softmax(q, k.unsqueeze(-3), v.unsqueeze(-3))


def absolute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scores divided by the sum of their absolute values."""
    scores = scaled(q, k)
    return (scores / scores.abs().sum(dim=-1, keepdim=True)) @ v


def relu_sum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.relu(scaled(q, k))
    return (scores / (scores.sum(dim=-1, keepdim=True) + 1e-6)) @ v


def sigmoid(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Not normalised, but not linear either."""
    return torch.sigmoid(scaled(q, k) - math.log(k.shape[-2])) @ v


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1)
    return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v


def spherical_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.transpose(-2, -1)).masked_fill(later(q, k), 0.0)
    return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v


def spherical_by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same in O(rows + keys), as one writes it in torch; sums of products are kept in f32."""
    values, squares = (k.transpose(-2, -1) @ other for other in (v, k))
    above, below = q @ values, (q @ squares).float()
    return (above / (below * q.float()).sum(dim=-1, keepdim=True).sqrt()).to(q.dtype)


def gradients(function: Function) -> Function:
    """Gradients of the first result of a function of q, k, v, by those and a cotangent."""

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in tensors[:-1]]
            return torch.autograd.grad(function(*leaves), leaves, tensors[-1])

    return call


def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (scaled(q, k)) @ v


# ---- without attention: x [rows, features] -------------------------------------------------------


def rows_softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, dim=-1)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias)


def residual_rms(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x + y, x.shape[-1:], weight, 1e-6)


def gelu_bias(x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias)


def gated(x: Tensor, y: Tensor) -> Tensor:
    return F.silu(x) * y


def row_sums(x: Tensor) -> Tensor:
    return x.float().sum(dim=-1)


def column_largest(x: Tensor) -> Tensor:
    return x.amax(dim=-2)


def l2(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


# ---- products with what is around them: x [rows, features], weights [columns, features] ----------


def rms_linear(x: Tensor, gain: Tensor, weight: Tensor) -> Tensor:
    return F.linear(F.rms_norm(x, x.shape[-1:], gain, 1e-6), weight)


def rms_gated(x: Tensor, gain: Tensor, weight: Tensor, other: Tensor) -> Tensor:
    y = F.rms_norm(x, x.shape[-1:], gain, 1e-6)
    return F.silu(F.linear(y, weight)) * F.linear(y, other)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(F.linear(x, weight, bias))


def linear_residual(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return residual + F.linear(x, weight, bias)


def linear_logsumexp(x: Tensor, weight: Tensor) -> Tensor:
    """What a loss over many classes needs of all of them; a class more is one element a row."""
    return torch.logsumexp(F.linear(x, weight).float(), dim=-1)


# ---- torch's kernels -----------------------------------------------------------------------------

BACKENDS = {
    "sdpa flash": SDPBackend.FLASH_ATTENTION,
    "sdpa cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa math": SDPBackend.MATH,
}


def sdpa(backend: str, is_causal: bool = False) -> Function:
    """`scaled_dot_product_attention` on one back end, for q, k, v as the functions take them."""

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = q if q.dim() == 3 else q.flatten(0, 1)
        with sdpa_kernel([BACKENDS[backend]]):
            result: Tensor = F.scaled_dot_product_attention(
                rows[None], k[None], v[None], is_causal=is_causal, enable_gqa=q.dim() == 4
            )
        return result[0].reshape(*q.shape[:-1], v.shape[-1])

    return call
