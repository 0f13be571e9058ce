"""Dropout is neither dropped in silence nor drawn twice."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import diagc
from diagc.errors import UserError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.drop(torch.softmax(q @ k.transpose(-1, -2), -1)) @ v


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, dropout_p=0.5)


def inputs(grad: bool = False) -> list[Tensor]:
    return [torch.randn(2, 3, 20, 8, requires_grad=grad) for _ in range(3)]


def seeded(function: Callable[..., Any], *args: Any) -> Any:
    torch.manual_seed(7)
    return function(*args)


def assert_close(found: Any, wanted: Any) -> None:
    """To 2e-5 of the largest: gradients of scores are small differences of large numbers."""
    for ours, theirs in zip(tree_leaves(found), tree_leaves(wanted), strict=True):
        atol = 2e-5 * float(theirs.detach().abs().max())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("function", [Net(), sdpa], ids=["module", "sdpa"])
@pytest.mark.parametrize("door", ["compile", "backend"])
def test_the_same_draw_as_eager(function: Callable[..., Any], door: str) -> None:
    args = inputs()
    compiled: Any = diagc.compile(function, *args)
    if door == "backend":
        compiled = torch.compile(function, backend="diagc", options={"rest": "eager"})
    first = seeded(compiled, *args)
    assert_close(first, seeded(function, *args))
    assert (compiled(*args) - first).abs().max() > 1e-3  # drawn anew


def test_multihead_attention_in_training() -> None:
    layer = nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True)
    x = torch.randn(2, 10, 16)
    compiled = diagc.compile(lambda x: layer(x, x, x)[0], x)
    weights = list(layer.parameters())
    found, wanted = (
        torch.autograd.grad(seeded(f, x).square().sum(), weights)
        for f in (compiled, lambda x: layer(x, x, x)[0])
    )
    assert_close(found, wanted)


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("door", ["compile", "backend"])
def test_gradients_are_of_the_same_draw(door: str) -> None:
    net, args = Net(), inputs(grad=True)
    compiled: Any = diagc.compile(net, *args)
    if door == "backend":
        compiled = torch.compile(net, backend="diagc", options={"rest": "eager"})
    found, wanted = (
        torch.autograd.grad(seeded(f, *args).square().sum(), args) for f in (compiled, net)
    )
    assert_close(found, wanted)


def test_modes_of_parts_are_noticed() -> None:
    net, args = Net(), inputs()
    compiled = diagc.compile(net, *args)
    inside = diagc.compile(lambda q, k, v: net(q, k, v), *args)
    for training in (False, True, False):
        net.drop.train(training)
        for function in (compiled, inside):
            assert_close(seeded(function, *args), seeded(net, *args))


def test_gradients_in_a_graph_are_refused() -> None:
    args = inputs()
    compiled = diagc.compile(Net(), *args)

    class Model(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
            return compiled(q, k, v)

    graph = torch.export.export(Model(), tuple(args)).module()
    assert_close(seeded(graph, *args), seeded(compiled, *args))
    with pytest.raises(UserError, match="draws random numbers, in a graph"):
        graph(*(x.requires_grad_() for x in args))
