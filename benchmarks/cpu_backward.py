"""Backward passes on the CPU against torch: SDPA's, torch.compile's, and our own streamed form.

Our functions are compiled from plain model code. Batch x heads = 16, 2048 positions, 64 features;
the re-associated form runs forward and backward, on one head of 16384 positions.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from cpu_attention import absolute, compiled, inputs, softmax, spherical
from harness import Call, Case, Gate, main
from torch.nn.functional import scaled_dot_product_attention as sdpa

import diagc

Tensor = torch.Tensor
Function = Callable[..., Tensor]

LONG = 16384


def spherical_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.transpose(-2, -1)).tril(8)  # a row of one small score is ill-conditioned
    return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v


def leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().requires_grad_() for tensor in tensors]


def backward(function: Callable[..., Any], tensors: Sequence[Tensor], cotangent: Tensor) -> Call:
    """The backward pass alone, of a graph that is kept."""
    with torch.enable_grad():
        wanted = leaves(tensors)
        result = function(*wanted)
    return lambda: torch.autograd.grad(result, wanted, cotangent, retain_graph=True)


def both(function: Callable[..., Any], tensors: Sequence[Tensor], cotangent: Tensor) -> Call:
    """Forward and backward pass."""
    wanted = leaves(tensors)

    def run() -> tuple[Tensor, ...]:
        with torch.enable_grad():
            return torch.autograd.grad(function(*wanted), wanted, cotangent)

    return run


def exact(function: Function, tensors: Sequence[Tensor], cotangent: Tensor) -> Call:
    wide = [tensor.double() for tensor in tensors]
    return lambda: both(function, wide, cotangent.double())()


def case(function: Function, name: str, peer: Callable[..., Any], gate: float) -> Case:
    tensors = inputs(torch.float32)
    cotangent = torch.randn_like(tensors[0])
    ours = diagc.compile(function, *tensors)
    return Case(
        backward(ours, tensors, cotangent),
        {name: backward(peer, tensors, cotangent)},
        [Gate(name, gate)],
        exact(function, tensors, cotangent),
        name,
    )


def softmax_f32() -> Case:
    return case(softmax, "sdpa", sdpa, 1.1)


def l1_f32() -> Case:
    return case(absolute, "torch.compile", compiled(absolute), 2.0)


def spherical_causal_f32() -> Case:
    return case(spherical_causal, "torch.compile", compiled(spherical_causal), 2.0)


def long_inputs(length: int) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values of one head, and a cotangent."""
    *tensors, cotangent = (torch.randn(1, 1, length, 64) for _ in range(4))
    return tensors, cotangent


def spherical_long_f32() -> Case:
    tensors, cotangent = long_inputs(LONG)
    ours = diagc.compile(spherical, *tensors)
    name = "streamed"
    streamed = diagc.compile(spherical, *tensors, reassociate="off")
    return Case(
        both(ours, tensors, cotangent),
        {name: both(streamed, tensors, cotangent)},
        [Gate(name, 10.0)],
        None,
    )


def spherical_linear_f32() -> Case:
    """Twice the length against the half twice: 1 where the time is linear, 0.5 if quadratic."""
    tensors, cotangent = long_inputs(LONG)
    halves, half = long_inputs(LONG // 2)
    ours = both(diagc.compile(spherical, *tensors, dynamic=False), tensors, cotangent)
    once = both(diagc.compile(spherical, *halves, dynamic=False), halves, half)
    name = "half the length, twice"
    return Case(ours, {name: lambda: (once(), once())}, [Gate(name, 0.8)], None)


CASES = {
    "softmax backward f32": softmax_f32,
    "l1 backward f32": l1_f32,
    "spherical causal backward f32": spherical_causal_f32,
    "spherical 16k forward and backward f32": spherical_long_f32,
    "spherical linear in the length f32": spherical_linear_f32,
}

if __name__ == "__main__":
    sys.exit(main("cpu_backward", CASES, gated_threads=[1]))
