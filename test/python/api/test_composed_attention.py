"""Attention in its parts, where a transform needs it: for this thread, and only there."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import diagc
from diagc.runtime.composed_attention import composed_attention
from diagc.testing.seed import SEED

Function = Callable[..., Any]


def inputs() -> list[Tensor]:
    """Of one depth, as fused kernels ask for."""
    draw = torch.Generator().manual_seed(SEED)
    return [torch.randn(2, 3, 40, 16, generator=draw) for _ in range(3)]


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def test_one_gradient_of_a_transform_stores_no_scores() -> None:
    compiled = diagc.compile(causal)
    q, k, v = inputs()

    def total(x: Tensor) -> Any:
        return compiled(x, k, v).square().sum()

    def calls_of(function: Function, x: Tensor) -> str:
        with torch.profiler.profile() as profile:
            function(x)
        return " ".join(event.name for event in profile.events())

    once = torch.func.grad(total)
    twice = torch.func.grad(lambda x: once(x).sum())
    assert "_attention_math" not in calls_of(once, q)
    for function, x in ((twice, q), (once, q.clone().requires_grad_())):
        assert "_attention_math" in calls_of(function, x)


def test_a_gradient_of_a_transform_has_gradients_by_weights() -> None:
    """Autograd outside of the transform records what weights compute, not only arguments."""
    weight, other = (torch.randn(16, 16, requires_grad=True) for _ in range(2))

    def attention(x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x @ weight, x, x @ other, is_causal=True)

    compiled = diagc.compile(attention)

    def by_weights(function: Function, dtype: torch.dtype) -> list[Tensor]:
        x = inputs()[0][0, 0].to(dtype)
        gradient = torch.func.grad(lambda x: function(x).square().sum())(x)
        return list(torch.autograd.grad(gradient.square().sum(), (weight, other)))

    def exact(x: Tensor) -> Tensor:
        keep = torch.ones(40, 40).tril() > 0
        scores = (x @ weight.double()) @ x.mT / 4
        return scores.masked_fill(~keep, -torch.inf).softmax(-1) @ (x @ other.double())

    wanted = by_weights(exact, torch.float64)
    for found, right in zip(by_weights(compiled, torch.float32), wanted, strict=True):
        torch.testing.assert_close(found / right.norm(), right / right.norm(), rtol=0, atol=1e-5)


def test_threads_with_second_derivatives_leave_attention_of_others_alone() -> None:
    inside, over = Barrier(2, timeout=20), Barrier(2, timeout=20)
    fused: list[bool] = []

    def first() -> None:
        with composed_attention():
            inside.wait()
            fused.append(torch.backends.cuda.flash_sdp_enabled())
            over.wait()

    with ThreadPoolExecutor() as pool:
        done = pool.submit(first)
        inside.wait()
        with composed_attention():
            over.wait()
            done.result()
        assert fused == [True]
    assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True, "scale": 0.3}, {"attn_mask": torch.arange(1600).view(40, 40) % 3 > 0}],
    ids=["plain", "causal", "mask"],
)
def test_composed_attention_is_attention(options: dict[str, Any]) -> None:
    q, k, v = inputs()
    with composed_attention(), torch.profiler.profile() as profile:
        found = functional.scaled_dot_product_attention(q, k, v, **options)
    exact = functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), **options)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5)
    assert any("_attention_math" in event.name for event in profile.events())
