"""`torch.compile(…, backend="diagc")`: memory that is shared, strides, gradients, lifetimes."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from diagc.testing.own_rule import doubled
from diagc.torch_backend.report import GraphReport, collecting

Function = Callable[[Tensor, Tensor, Tensor], Any]


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


def inputs(grad: bool = False) -> list[Tensor]:
    return [torch.randn(2, 3, 40, 16, requires_grad=grad) for _ in range(3)]


def run(function: Function, args: list[Tensor]) -> tuple[Any, list[GraphReport]]:
    options: dict[str, Any] = {"rest": "eager", "take": "all"}
    with collecting() as reports:
        return torch.compile(function, backend="diagc", options=options)(*args), reports


def regions(reports: list[GraphReport]) -> int:
    return sum(len(report.regions) for report in reports)


def assert_same(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4, check_stride=True)


# ---- memory --------------------------------------------------------------------------------------


def write_after_view(q: Tensor, k: Tensor, v: Tensor) -> Any:
    y = attention(q, k, v)
    z = y.transpose(1, 2)
    w = torch.tanh(z)
    y.add_(1)
    return z, w


def write_into_view(q: Tensor, k: Tensor, v: Tensor) -> Any:
    y = attention(q, k, v)
    z = y[:, :2]
    w = torch.exp(z) * torch.sigmoid(z)
    z.zero_()
    return y, w


def write_into_input(q: Tensor, k: Tensor, v: Tensor) -> Any:
    kt = k.transpose(-1, -2)
    y = torch.softmax(q @ kt, -1) @ v
    k.add_(1)
    return y, kt


def data_of_a_result(q: Tensor, k: Tensor, v: Tensor) -> Any:
    y = attention(q, k, v)
    return y.data, y


def test_data_of_a_result() -> None:
    args = inputs()
    assert_same(run(data_of_a_result, args)[0], data_of_a_result(*args))


@pytest.mark.parametrize("function", [write_after_view, write_into_view, write_into_input])
def test_writes_are_seen_through_views(function: Function) -> None:
    args = inputs()
    found, reports = run(function, [x.clone() for x in args])
    assert_same(found, function(*args))
    assert regions(reports) >= 1


# ---- strides -------------------------------------------------------------------------------------


def heads_in_the_middle(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return y.transpose(1, 2).view(2, 3, -1)  # needs y with the strides of q


def maps_of_a_view(q: Tensor, k: Tensor, v: Tensor) -> Any:
    x = torch.exp(q.transpose(1, 2)) * 2 + torch.tanh(k.transpose(1, 2))
    return x, x.transpose(1, 2).view(-1), x.as_strided((40,), (1,))


@pytest.mark.parametrize("function", [heads_in_the_middle, maps_of_a_view])
def test_results_have_the_strides_that_torch_gives(function: Function) -> None:
    args = inputs()
    found, reports = run(function, args)
    assert_same(found, function(*args))
    assert regions(reports) == 1


# ---- gradients -----------------------------------------------------------------------------------


def own_gradient(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(doubled(q), k, v)


def hook(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    y = attention(q, k, v)
    y.register_hook(lambda gradient: gradient * 5)
    return y * 1


def checkpoint(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from torch.utils.checkpoint import checkpoint

    result: Tensor = checkpoint(attention, q, k, v, use_reentrant=False)
    return result


def detached(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q.detach(), k, v) * q


@pytest.mark.parametrize("function", [own_gradient, hook, checkpoint, detached])
def test_rules_for_gradients_are_kept(function: Function) -> None:
    args = inputs(grad=True)
    found, reports = run(function, args)
    wanted = function(*args)
    assert_same(found, wanted)
    both = (torch.autograd.grad((out * out).sum(), args) for out in (found, wanted))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    assert regions(reports) == (function is detached)


def transformed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.func.grad(lambda q: attention(q, k, v).sum())(q) + attention(q, k, v)


def test_calls_that_change_others_stay_in_torch() -> None:
    args = inputs()
    found, reports = run(transformed, args)
    assert_same(found, transformed(*args))
    assert regions(reports) == 0
    assert any("changes what other calls compute" in r for x in reports for r in x.reasons)


# ---- lifetimes -----------------------------------------------------------------------------------


def test_backward_after_the_forward_graph_is_gone() -> None:
    args = inputs(grad=True)
    loss = run(attention, args)[0].sum()
    torch._dynamo.reset()
    gc.collect()
    found = torch.autograd.grad(loss, args)
    wanted = torch.autograd.grad(attention(*args).sum(), args)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
