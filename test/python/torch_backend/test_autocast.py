"""Under `torch.autocast` regions see the dtypes that autocast gives, and no others."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diagc
from diagc.torch_backend.report import GraphReport, collecting


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


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


def run(function: Callable[..., Any], *args: Any, take: str) -> tuple[Any, GraphReport]:
    options: dict[str, Any] = {"rest": "eager", "take": take}
    with torch.autocast("cpu", dtype=torch.bfloat16), collecting() as reports:
        compiled = torch.compile(function, backend="diagc", options=options)
        compiled(*args)
        return compiled(*args), reports[0]


def eager(function: Callable[..., Any], *args: Any) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return function(*args)


def assert_as_good(found: Tensor, wanted: Tensor, exact: Tensor) -> None:
    """Against f32 without autocast: kernels round less often than eager, or as often."""
    assert found.dtype == wanted.dtype
    size = float(exact.abs().max())
    errors = [float((x.float() - exact).abs().max()) for x in (found, wanted)]
    assert errors[0] <= 2 * errors[1] + 2**-8 * size, errors


@pytest.mark.parametrize("take", ["streams", "all"])
@pytest.mark.parametrize("function", [projected, casts_of_its_own])
def test_forward(function: Callable[..., Any], take: str) -> None:
    args = inputs()
    found, report = run(function, *args, take=take)
    assert_as_good(found, eager(function, *args), function(*args))
    assert report.regions
    assert not report.reasons
    assert any("bf16" in region.compiled.source_ir for region in report.regions)


def test_a_layer_whose_products_are_the_library_s() -> None:
    """Ops inside of our op are not cast again."""
    layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True, dropout=0.0)
    x = torch.randn(2, 90, 32)
    with torch.no_grad():
        found, report = run(layer, x, take="all")
        assert_as_good(found, eager(layer, x), layer(x))
    assert len(report.regions) >= 2


def test_a_graph_is_not_cast_inside_of_the_op() -> None:
    weight = torch.randn(16, 16)
    compiled = diagc.compile(lambda x: torch.relu(x @ weight), x := torch.randn(40, 16))

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return compiled(x)

    graph = torch.export.export(Model(), (x,)).module()
    torch.testing.assert_close(eager(graph, x), torch.relu(x @ weight), rtol=1e-5, atol=1e-5)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


@pytest.mark.parametrize("function", [projected, attention])
def test_gradients(function: Callable[..., Any]) -> None:
    """Along one direction for all: the sum of squares of a norm is constant, but for rounding."""
    args, direction = inputs(grad=True), torch.randn(2, 3, 90, 16)
    found, report = run(function, *args, take="streams")
    results = (found, eager(function, *args), function(*args))
    gradients = [torch.autograd.grad(x.float(), args, direction) for x in results]
    for ours, theirs, exact in zip(*gradients, strict=True):
        errors = [float((x - exact).norm() / exact.norm()) for x in (ours, theirs)]
        assert errors[0] <= 2 * errors[1] + 2**-8, errors
    (made,) = report.regions[0].compiled.report.gradients
    assert made.report is not None
