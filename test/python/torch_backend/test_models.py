"""Models from the libraries that people use: every layer of attention becomes a region."""

import warnings
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from diagc.testing.models import MODELS, Model
from diagc.torch_backend.report import collecting

CASES = [(model, way) for model in MODELS for way in model.ways]


def first(value: Any) -> torch.Tensor:
    """The main result of a model's call."""
    return value if isinstance(value, torch.Tensor) else value[0]


def build(model: Model, way: str) -> tuple[Any, tuple[Any, ...]]:
    """The model, or a skipped test where its library is not installed."""
    if model.library and find_spec(model.library) is None:
        pytest.skip(f"{model.library} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.build(way)


def step(model: Any, function: Any, args: tuple[Any, ...]) -> list[torch.Tensor]:
    """The result of a call, and the gradients of all parameters."""
    result = first(function(*args))
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(result.square().mean(), parameters, allow_unused=True)
    return [result.detach(), *(g for g in found if g is not None)]


@pytest.mark.parametrize(("model", "way"), CASES, ids=[f"{m.name}-{way}" for m, way in CASES])
def test_model(model: Model, way: str) -> None:
    torch.manual_seed(0)
    module, args = build(model, way)
    with warnings.catch_warnings(), collecting() as reports:
        warnings.simplefilter("ignore")
        compiled = torch.compile(
            module, backend="diagc", options={"rest": "eager", "take": "streams"}
        )
        found = step(module, compiled, args)
        wanted = step(module, module, args)
    assert sum(len(report.regions) for report in reports) >= model.attentions
    largest = max(float(g.abs().max()) for g in wanted[1:])
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-5)
    for gradient, right in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize("model", [m for m in MODELS if m.attentions], ids=lambda m: m.name)
def test_model_in_inference(model: Model) -> None:
    torch.manual_seed(0)
    module, args = build(model, model.ways[0])
    module.eval()
    with warnings.catch_warnings(), torch.no_grad(), collecting() as reports:
        warnings.simplefilter("ignore")
        options: dict[str, Any] = {"rest": "eager", "take": "streams"}
        compiled: Any = torch.compile(module, backend="diagc", options=options)
        found = first(compiled(*args))
        wanted = first(module(*args))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    if model.name != "transformer":  # torch's own fast path has fused kernels of its own
        assert sum(len(report.regions) for report in reports) >= model.attentions
