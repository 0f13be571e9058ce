"""Calls that record gradients are one op to torch's dispatcher; values: `test_backward.py`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import diagc
from diagc.errors import UserError

Tensor = torch.Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1) * 0.25, dim=-1) @ v


def with_statistic(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scores = q @ k.transpose(-2, -1)
    return torch.softmax(scores, dim=-1) @ v, scores.amax(dim=-1), (scores > 0).sum(dim=-1)


def leaves(*needed: bool) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, 20, 8, requires_grad=need) for need in needed]


@pytest.mark.parametrize("needed", [(True, True, True), (False, True, False)])
def test_gradients_equal_eager(needed: tuple[bool, ...]) -> None:
    inputs = leaves(*needed)
    wanted = [t for t in inputs if t.requires_grad]
    compiled = diagc.compile(attention, *inputs)
    out, expected = compiled(*inputs), attention(*inputs)
    cotangent = torch.randn_like(out)
    found = torch.autograd.grad(out, wanted, cotangent)
    for a, b in zip(found, torch.autograd.grad(expected, wanted, cotangent), strict=True):
        torch.testing.assert_close(a, b)


def test_only_some_outputs_are_differentiated() -> None:
    inputs = leaves(True, True, True)
    wide = [t.detach().double().requires_grad_() for t in inputs]
    compiled = diagc.compile(with_statistic, *inputs)
    for number in range(2):
        out, expected = compiled(*inputs)[number], with_statistic(*wide)[number]
        found = torch.autograd.grad(out.square().sum(), inputs, allow_unused=True)
        wanted = torch.autograd.grad(expected.square().sum(), wide, allow_unused=True)
        for a, b in zip(found, wanted, strict=True):
            right = torch.zeros_like(a) if b is None else b.float()
            torch.testing.assert_close(a, right, rtol=2e-5, atol=2e-5)
    assert not compiled(*inputs)[2].requires_grad


def test_no_grad_records_nothing() -> None:
    inputs = leaves(True, True, True)
    compiled = diagc.compile(attention, *inputs)
    with torch.no_grad():
        assert not compiled(*inputs).requires_grad
    assert not compiled(*leaves(False, False, False)).requires_grad


def test_a_module_trains() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 1))
    x, y = torch.randn(64, 8), torch.randn(64, 1)
    compiled = diagc.compile(model, x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (compiled(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("function", [attention, with_statistic])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_opcheck(function: Callable[..., Any]) -> None:
    inputs = leaves(True, True, False)
    compiled = diagc.compile(function, *inputs)
    (group,) = compiled._calls.groups
    results = torch.library.opcheck(torch.ops.diagc.call.default, (inputs, group.key))
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamic", [False, True])
def test_torch_compile_sees_one_op(dynamic: bool) -> None:
    inputs = leaves(True, True, True)
    compiled = diagc.compile(attention, *inputs)

    def loss(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.relu(compiled(q * 2, k, v)).sum()

    torch._dynamo.reset()
    traced = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in (20, 31) if dynamic else (20,):
        tensors = [t.detach()[:, :, :1].expand(2, 3, size, 8).clone() for t in inputs]
        tensors = [t.mul_(torch.randn(size, 1)).requires_grad_() for t in tensors]
        ours, eager = traced(*tensors), torch.relu(attention(tensors[0] * 2, *tensors[1:])).sum()
        torch.testing.assert_close(ours, eager)
        found = torch.autograd.grad(ours, tensors)
        for a, b in zip(found, torch.autograd.grad(eager, tensors), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_fake_tensors_and_modes_see_the_op() -> None:
    inputs = leaves(False, False, False)
    compiled = diagc.compile(with_statistic, *inputs)
    with FakeTensorMode() as mode:
        fakes = compiled(*(mode.from_tensor(t) for t in inputs))
    for fake, real in zip(fakes, compiled(*inputs), strict=True):
        assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)
    graph = make_fx(compiled)(*inputs)
    assert "diagc.call" in graph.code
    torch.testing.assert_close(graph(*inputs), compiled(*inputs))


def test_a_traced_function_must_have_been_compiled() -> None:
    compiled = diagc.compile(attention)
    with FakeTensorMode() as mode, pytest.raises(UserError, match="before it was compiled"):
        compiled(*(mode.from_tensor(t) for t in leaves(False, False, False)))


@pytest.mark.filterwarnings("ignore")
def test_export_keeps_the_op() -> None:
    inputs = leaves(False, False, False)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = diagc.compile(attention, *inputs)

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return torch.relu(self.attention(q, k, v))

    model = Model()
    exported = torch.export.export(model, tuple(inputs))
    assert "diagc.call.default" in str(exported.graph)
    expected = torch.relu(attention(*inputs))
    torch.testing.assert_close(exported.module()(*inputs), expected)


def test_second_derivatives() -> None:
    """Of tensors, of a captured weight, and beside terms of another kind."""
    linear = nn.Linear(8, 8)

    def function(q: Tensor, k: Tensor) -> Tensor:
        return attention(linear(q), k, k)

    def penalty(f: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
        q, k = inputs
        loss = (f(f(q, k), k) ** 2).sum() + (q**3).sum()
        first = torch.autograd.grad(loss, [q, linear.weight], create_graph=True)
        squared = [(g**2).sum() for g in first]
        return torch.autograd.grad(squared[0] + squared[1], [q, k, linear.weight])

    inputs = leaves(True, True)
    found, wanted = penalty(diagc.compile(function), inputs), penalty(function, inputs)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


class Branches(nn.Module):
    """Other weights for many rows than for few."""

    def __init__(self) -> None:
        super().__init__()
        self.few, self.many = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.many(x) if x.shape[0] > 10 else self.few(x)
        return y.softmax(-1) * y


def test_weights_that_another_branch_reads_have_no_gradient() -> None:
    """Not even zeros, by which an optimizer would move them on."""
    model = Branches()
    compiled = diagc.compile(model, dynamic=False)
    for rows in (12, 5, 12):
        compiled(torch.randn(rows, 8)).sum().backward()
        used, others = (model.many, model.few) if rows > 10 else (model.few, model.many)
        assert used.weight.grad is not None
        assert others.weight.grad is None
        model.zero_grad()


def test_a_branch_may_be_met_before_the_backward_pass_of_another() -> None:
    model = Branches()
    x, y = torch.randn(12, 8, requires_grad=True), torch.randn(5, 8)

    def gradients(function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        of_x = function(x).square().sum()
        (first,) = torch.autograd.grad(of_x, x, create_graph=True)
        total = first.square().sum() + function(y).square().sum()
        return list(torch.autograd.grad(total, [x, *model.parameters()]))

    for ours, exact in zip(
        gradients(diagc.compile(model, dynamic=False)), gradients(model), strict=True
    ):
        torch.testing.assert_close(ours, exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max()))


def test_a_graph_does_not_know_the_weights_of_a_later_branch() -> None:
    model = Branches()
    compiled = diagc.compile(model, dynamic=False)
    x, y = torch.randn(12, 8), torch.randn(5, 8)
    compiled(x)
    graph = make_fx(compiled)(x)
    compiled(y)
    torch.testing.assert_close(graph(x), model(x))
    with torch.no_grad():
        torch.testing.assert_close(graph(y), model(y))
    with pytest.raises(UserError, match="takes more weights now"):
        graph(y)


def test_third_derivatives_are_refused() -> None:
    q, k, v = leaves(True, False, False)
    compiled = diagc.compile(attention, q, k, v)
    (first,) = torch.autograd.grad((compiled(q, k, v) ** 2).sum(), q, create_graph=True)
    with pytest.raises(UserError, match="third derivatives"):
        torch.autograd.grad((first**2).sum(), q, create_graph=True)
