"""Graphs of torch that call a compiled function: transforms, export within export, checkpoints."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

import diagc
from diagc.errors import UserError

Function = Callable[..., Any]


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


def inputs(grad: bool = False) -> list[Tensor]:
    return [torch.randn(2, 3, 20, 8, requires_grad=grad) for _ in range(3)]


class Model(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        return self.function(q, k, v) + 1


def exported() -> Function:
    args = inputs()
    compiled = diagc.compile(attention, *args)
    graph = torch.export.export(Model(compiled), tuple(args))
    assert "diagc.call" in str(graph.graph)
    return keeping(compiled, graph.module())


def keeping(compiled: Function, graph: Any) -> Any:
    """The graph, which needs the function as long as it lives."""
    graph.compiled = compiled
    return graph


def assert_close(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def second_derivative(function: Function) -> Function:
    """Of the sum of squares, by the queries, along the keys."""

    def along(q: Tensor, k: Tensor, v: Tensor) -> Any:
        def total(x: Tensor) -> Any:
            return function(x, k, v).square().sum()

        return torch.func.jvp(torch.func.grad(total), (q,), (k,))

    return along


TRANSFORMS: dict[str, Callable[[Function], Function]] = {
    "vmap": lambda f: lambda q, k, v: torch.vmap(f, (0, None, None))(torch.stack([q, v]), k, v),
    "grad": lambda f: torch.func.grad(lambda q, k, v: f(q, k, v).square().sum()),
    "vjp": lambda f: lambda q, k, v: torch.func.vjp(f, q, k, v)[1](v),
    "jvp": lambda f: lambda q, k, v: torch.func.jvp(f, (q, k, v), (k, v, q)),
    "vmap of grad": lambda f: torch.vmap(
        torch.func.grad(lambda q, k, v: f(q[None], k[None], v[None]).square().sum())
    ),
    "hessian": second_derivative,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_a_graph(name: str) -> None:
    args, transform = inputs(), TRANSFORMS[name]
    if name == "vmap of grad":
        graph = exported_single()
        assert_close(transform(graph)(*args), transform(lambda *a: attention(*a) + 1)(*args))
        return
    wanted = transform(lambda *a: attention(*a) + 1)(*args)
    assert_close(transform(exported())(*args), wanted)


def exported_single() -> Function:
    args = tuple(x[:1] for x in inputs())
    compiled = diagc.compile(attention, *args)
    return keeping(compiled, torch.export.export(Model(compiled), args).module())


@pytest.mark.usefixtures("fresh_dynamo")
def test_transforms_inside_of_a_graph() -> None:
    args = inputs()
    compiled = diagc.compile(attention, *args)

    def inside(f: Function, q: Tensor, k: Tensor, v: Tensor) -> Any:
        gradient = torch.func.grad(lambda q: f(q, k, v).square().sum())(q)
        return gradient, torch.func.jvp(f, (q, k, v), (k, v, q)), torch.vmap(f)(q, k, v)

    found = torch.compile(partial(inside, compiled), backend="aot_eager")(*args)
    assert_close(found, inside(attention, *args))


def test_tangents_are_not_lost() -> None:
    graph, (q, k, v) = exported(), inputs()
    with forward_ad.dual_level():
        graph(q, k, v)
        with pytest.raises(UserError, match="forward-mode derivatives of a graph"):
            graph(forward_ad.make_dual(q, k), k, v)


def test_a_transform_does_not_miss_weights_that_were_replaced() -> None:
    layer = nn.Linear(8, 8)
    x = torch.randn(5, 8)
    compiled = diagc.compile(lambda x: torch.relu(layer(x)), x)

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Any:
            return compiled(x)

    graph = torch.export.export(Holder(), (x,)).module()
    assert_close(torch.vmap(graph)(x[None]), torch.relu(layer(x))[None])
    other = {name: torch.randn_like(value) for name, value in graph.named_parameters()}
    assert other
    with pytest.raises(UserError, match="weights were replaced"):
        torch.vmap(lambda x: torch.func.functional_call(graph, other, (x,)))(x[None])


def test_export_with_open_sizes_compiles_within() -> None:
    args = inputs()
    compiled = diagc.compile(attention, *args)  # for one size; the export asks for all
    batch = torch.export.Dim("batch")
    graph = torch.export.export(Model(compiled), tuple(args), dynamic_shapes=[{0: batch}] * 3)
    more = [x.repeat(3, 1, 1, 1) for x in args]
    assert_close(graph.module()(*more), attention(*more) + 1)


def test_checkpoint_policies_name_the_op() -> None:
    args = inputs(grad=True)
    compiled = diagc.compile(attention, *args)
    seen: list[tuple[str, bool]] = []

    def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        seen.append((str(op), context.is_recompute))
        ours = op == torch.ops.diagc.call.default
        return CheckpointPolicy.MUST_SAVE if ours else CheckpointPolicy.MUST_RECOMPUTE

    contexts = partial(create_selective_checkpoint_contexts, policy)
    out = checkpoint(
        lambda *a: torch.tanh(compiled(*a)), *args, use_reentrant=False, context_fn=contexts
    )
    wanted = torch.tanh(attention(*args))
    assert_close(out, wanted)
    found = torch.autograd.grad(out.square().sum(), args)
    assert_close(found, torch.autograd.grad(wanted.square().sum(), args))
    assert ("diagc.call.default", False) in seen


def used(function: Function) -> Function:
    return torch.compile(function, backend="diagc")


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("door", [diagc.compile, used])
def test_checkpoints_run_the_forward_pass_again(door: Callable[[Function], Function]) -> None:
    """The first call compiles within the checkpoint, which counts what is saved."""
    args, cotangent = inputs(grad=True), inputs()[0]
    out = checkpoint(door(attention), *args, use_reentrant=False)
    found = torch.autograd.grad(out, args, cotangent)
    assert_close(found, torch.autograd.grad(attention(*args), args, cotangent))


def test_second_derivatives_through_a_checkpoint() -> None:
    args = inputs(grad=True)

    def second(function: Function) -> Any:
        out = checkpoint(function, *args, use_reentrant=False)
        first = torch.autograd.grad(out.square().sum(), args, create_graph=True)
        return torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), args)

    torch.testing.assert_close(
        second(diagc.compile(attention)), second(attention), rtol=1e-4, atol=1e-4
    )
