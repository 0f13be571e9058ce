"""Under `torch.autocast` regions see the dtypes that autocast gives, and no others."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diagc
from diagc.torch_backend.autocast import Autocasting
from diagc.torch_backend.report import GraphReport, collecting


def projected(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear layers and products are cast, the norm and the sum are not."""
    weight = torch.eye(16) * 0.5
    out = torch.softmax(F.linear(q, weight) @ k.transpose(-1, -2) * 0.25, -1) @ v
    return F.layer_norm(F.scaled_dot_product_attention(out, k, v), (16,)) + q


def casts_of_its_own(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.softmax(q @ k.transpose(-1, -2), -1, dtype=torch.float32)
    return weights.to(torch.bfloat16).float() @ v + q.to(torch.bfloat16)


def inputs(grad: bool = False) -> list[Tensor]:
    return [torch.randn(2, 3, 90, 16, requires_grad=grad) for _ in range(3)]


def eager(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in autocast; a block inside of the graph, when it is compiled."""

    def call(*args: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return function(*args)

    return call


def compiled_outside(function: Callable[..., Any], take: str) -> Callable[..., Any]:
    return eager(compile_(function, take))


def compiled_inside(function: Callable[..., Any], take: str) -> Callable[..., Any]:
    return compile_(eager(function), take)


def compile_(function: Callable[..., Any], take: str) -> Callable[..., Any]:
    options: dict[str, Any] = {"rest": "eager", "take": take}
    return torch.compile(function, backend="diagc", options=options)


Door = Callable[[Callable[..., Any], str], Callable[..., Any]]
DOORS: list[Door] = [compiled_outside, compiled_inside]


def run(compiled: Callable[..., Any], *args: Any) -> tuple[Any, GraphReport]:
    """The second call, and what became of the one graph."""
    with collecting() as reports:
        compiled(*args)
        found = compiled(*args)
    (report,) = reports
    return found, report


def assert_as_good(found: Tensor, wanted: Tensor, exact: Tensor) -> None:
    """Against f32 without autocast: kernels round less often than eager, or as often."""
    assert found.dtype == wanted.dtype
    size = float(exact.abs().max())
    errors = [float((x.float() - exact).abs().max()) for x in (found, wanted)]
    assert errors[0] <= 2 * errors[1] + 2**-8 * size, errors


@pytest.mark.parametrize(
    ("door", "take"),
    [(compiled_outside, "streams"), (compiled_outside, "all"), (compiled_inside, "streams")],
)
@pytest.mark.parametrize("function", [projected, casts_of_its_own])
def test_forward(door: Door, function: Callable[..., Any], take: str) -> None:
    args = inputs()
    found, report = run(door(function, take), *args)
    assert_as_good(found, eager(function)(*args), function(*args))
    assert report.regions
    assert not report.reasons
    assert any("bf16" in region.compiled.source_ir for region in report.regions)


def test_a_layer_whose_products_are_the_library_s() -> None:
    """Ops inside of our op are not cast again."""
    layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True, dropout=0.0)
    x = torch.randn(2, 90, 32)
    with torch.no_grad():
        found, report = run(compiled_outside(layer, "all"), x)
        assert_as_good(found, eager(layer)(x), layer(x))
    assert len(report.regions) >= 2


def test_a_graph_is_not_cast_inside_of_the_op() -> None:
    weight = torch.randn(16, 16)
    compiled = diagc.compile(lambda x: torch.relu(x @ weight), x := torch.randn(40, 16))

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return compiled(x)

    graph = torch.export.export(Model(), (x,)).module()
    torch.testing.assert_close(eager(graph)(x), torch.relu(x @ weight), rtol=1e-5, atol=1e-5)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


@pytest.mark.parametrize(
    ("door", "function"),
    [(compiled_outside, projected), (compiled_outside, attention), (compiled_inside, projected)],
)
def test_gradients(door: Door, function: Callable[..., Any]) -> None:
    """Along one direction for all: the sum of squares of a norm is constant, but for rounding."""
    args, direction = inputs(grad=True), torch.randn(2, 3, 90, 16)
    found, report = run(door(function, "streams"), *args)
    results = (found, eager(function)(*args), function(*args))
    gradients = [torch.autograd.grad(x.float(), args, direction) for x in results]
    for ours, theirs, exact in zip(*gradients, strict=True):
        errors = [float((x - exact).norm() / exact.norm()) for x in (ours, theirs)]
        assert errors[0] <= 2 * errors[1] + 2**-8, errors
    (made,) = report.regions[0].compiled.report.gradients
    assert made.report is not None


def nested(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Before a block, in it, in one of it that is off, and behind it."""
    before = attention(q, k, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = attention(q, k, v)
        with torch.autocast("cpu", enabled=False):
            off = attention(k, v, q)
        again = attention(v, q, k)
    return before, inside, off, again, attention(q, v, k)


@pytest.mark.parametrize("door", ["bare", "outside"])
def test_blocks_inside_of_each_other(door: str) -> None:
    """Each region has the dtypes of its block, whatever is on around all of them."""
    args = inputs()
    compiled, wanted = compile_(nested, "streams"), nested
    if door == "outside":
        compiled, wanted = eager(compiled), eager(nested)
    found, report = run(compiled, *args)
    exact = [attention(*args), attention(*args), attention(args[1], args[2], args[0])]
    exact += [attention(args[2], args[0], args[1]), attention(args[0], args[2], args[1])]
    for ours, theirs, right in zip(found, wanted(*args), exact, strict=True):
        assert_as_good(ours, theirs, right)
        if theirs.dtype == torch.float32:
            torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-5)
    assert len(report.regions) == 5
    assert not torch.is_autocast_enabled("cpu")


def test_blocks_with_inductor() -> None:
    args, direction = inputs(grad=True), torch.randn(2, 3, 90, 16)
    compiled = torch.compile(eager(attention), backend="diagc")
    results = (compiled(*args), eager(attention)(*args), attention(*args))
    gradients = [torch.autograd.grad(x.float(), args, direction) for x in results]
    for ours, theirs, exact in zip(*gradients, strict=True):
        errors = [float((x - exact).norm() / exact.norm()) for x in (ours, theirs)]
        assert errors[0] <= 2 * errors[1] + 2**-8, errors


@pytest.mark.parametrize("door", DOORS)
def test_a_cast_is_made_again_where_a_write_or_no_grad_is_between(door: Door) -> None:
    """A cast of other values, or one that gradients do not pass, is of no use behind it."""

    def function(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            scale = (q @ k.transpose(-1, -2)).float().abs().mean()
        x = k * 1.0
        before = q @ x.transpose(-1, -2)
        x.view(-1).add_(1.0)
        return before * scale, q @ x.transpose(-1, -2)

    def gradients(f: Callable[..., Any]) -> list[Tensor]:
        args = [x.detach().requires_grad_() for x in given]
        results = f(*args)
        return [*results, *torch.autograd.grad(sum(r.float().sum() for r in results), args[:2])]

    given = inputs()
    for ours, theirs in zip(
        gradients(door(function, "streams")), gradients(eager(function)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-1)


def test_a_failure_leaves_no_autocast_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tracing, in the middle of a block."""

    def fails(*args: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(Autocasting, "call_method", fails)
    args = inputs()
    found, report = run(compiled_inside(attention, "streams"), *args)
    assert not torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(found, eager(attention)(*args))
    assert any("no" in reason for reason in report.reasons)
