"""Attention on the CPU against torch: SDPA, torch.compile, eager, torch's re-associated form.

Our functions are compiled from plain model code. Batch x heads = 16, 2048 positions, 64 features;
decoding: one query, 32 query heads on 8 key heads, 2048 keys, 128 features.
"""

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from harness import Call, Case, Gate, main
from torch.nn.functional import scaled_dot_product_attention as sdpa

import diagc
from diagc.runtime.cpu_features import host_features

HEADS, LENGTH, WIDTH = 16, 2048, 64
QUERY_HEADS, KEY_HEADS, CACHE_LENGTH, HEAD_WIDTH = 32, 8, 2048, 128

Tensor = torch.Tensor


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.transpose(-2, -1)) * (1 / math.sqrt(q.shape[-1]))
    return torch.softmax(scores, dim=-1) @ v


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.transpose(-2, -1)) * (1 / math.sqrt(q.shape[-1]))
    later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(later, float("-inf")), dim=-1) @ v


def absolute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scores divided by the sum of their absolute values."""
    scores = q @ k.transpose(-2, -1)
    return (scores / scores.abs().sum(dim=-1, keepdim=True)) @ v


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1)
    return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v


def reassociated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same by hand, linear in the number of keys."""
    transposed = k.transpose(-2, -1)
    squares = ((q @ (transposed @ k)) * q).sum(dim=-1, keepdim=True)
    return (q @ (transposed @ v)) * torch.rsqrt(squares)


def decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return sdpa(q, k, v, enable_gqa=True)


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (torch.randn(1, HEADS, LENGTH, WIDTH).to(dtype) for _ in range(3))
    return q, k, v


def decode_inputs() -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(1, QUERY_HEADS, 1, HEAD_WIDTH)
    k, v = (torch.randn(1, KEY_HEADS, CACHE_LENGTH, HEAD_WIDTH) for _ in range(2))
    return q, k, v


def exact(function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Call:
    return lambda: function(*(tensor.double() for tensor in tensors))


def case(
    function: Callable[..., Tensor],
    tensors: tuple[Tensor, ...],
    peers: dict[str, Callable[..., Tensor]],
    gates: dict[str, float],
    exact_peer: str,
) -> Case:
    ours = diagc.compile(function, *tensors)
    return Case(
        partial(ours, *tensors),
        {peer: partial(call, *tensors) for peer, call in peers.items()},
        [Gate(peer, ratio) for peer, ratio in gates.items()],
        exact(function, tensors),
        exact_peer,
    )


def compiled(function: Callable[..., Tensor]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


def softmax_f32() -> Case:
    return case(softmax, inputs(torch.float32), {"sdpa": sdpa}, {"sdpa": 1.2}, "sdpa")


def softmax_bf16() -> Case:
    gate = 2.2 if host_features().bf16_dot else 1.15
    return case(softmax, inputs(torch.bfloat16), {"sdpa": sdpa}, {"sdpa": gate}, "sdpa")


def l1_f32() -> Case:
    name = "torch.compile"
    return case(absolute, inputs(torch.float32), {name: compiled(absolute)}, {name: 2.1}, name)


def spherical_f32() -> Case:
    by_hand = "re-associated by hand"
    peers = {
        by_hand: reassociated,
        "eager": spherical,
        "torch.compile": compiled(spherical),
    }
    gates = {by_hand: 1.5, "eager": 25.0}
    return case(spherical, inputs(torch.float32), peers, gates, by_hand)


def causal_f32() -> Case:
    name = "sdpa causal"
    peers: dict[str, Callable[..., Tensor]] = {name: partial(sdpa, is_causal=True)}
    return case(causal, inputs(torch.float32), peers, {name: 1.4}, name)


def decode_f32() -> Case:
    return case(decode, decode_inputs(), {"sdpa": decode}, {"sdpa": 3.0}, "sdpa")


CASES = {
    "softmax f32": softmax_f32,
    "softmax bf16": softmax_bf16,
    "l1 f32": l1_f32,
    "spherical f32": spherical_f32,
    "causal f32": causal_f32,
    "decode f32": decode_f32,
}

if __name__ == "__main__":
    sys.exit(main("cpu_attention", CASES, gated_threads=[1]))
