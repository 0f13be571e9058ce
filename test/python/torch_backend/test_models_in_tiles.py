"""Whole models whose linear layers are computed in tiles of ours: a training step against float64.

Without a measured device no model takes tiles by itself, so these ask for them.
"""

import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from diagc.testing.seed import SEED
from diagc.torch_backend.report import RegionReport, collecting

LENGTH = 67
PRODUCTS = ("linear", "addmm", "mm")


def _encoder(width: int, hidden: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 3, hidden, 0.0, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class _Language(nn.Module):
    """GPT-2 with the loss of a step as its result; its weights lie the other way round."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"n_embd": 192, "n_layer": 2, "n_head": 3, "vocab_size": 301, "n_positions": LENGTH}
        dropout = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
        self.model: Any = GPT2LMHeadModel(GPT2Config(**sizes, **dropout, use_cache=False))

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(tokens).logits
        return logits


def _tokens(generator: torch.Generator) -> Tensor:
    return torch.randint(0, 301, (3, LENGTH), generator=generator)


def _features(generator: torch.Generator) -> Tensor:
    return torch.randn(3, LENGTH, 207, generator=generator)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[torch.Generator], Tensor]]] = {
    # no size is a multiple of a block of registers
    "encoder": (lambda: _encoder(207, 389), _features),
    "language": (_Language, _tokens),
}


def _step(model: nn.Module, function: Any, x: Tensor, cotangent: Tensor) -> list[Tensor]:
    """The result, then the gradients of all parameters."""
    result = function(x)
    loss = (result * cotangent.to(result.dtype)).sum()
    return [result.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def _of_products(regions: list[RegionReport]) -> int:
    return sum(any(call.split()[0] in PRODUCTS for call in region.calls) for region in regions)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_in_tiles(name: str) -> None:
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    make, inputs = MODELS[name]
    model, x = make().train(), inputs(generator)
    exact = deepcopy(model).double()
    options: dict[str, Any] = {"rest": "eager", "take": "streams", "library": "tiled"}
    with warnings.catch_warnings(), collecting() as reports:
        warnings.simplefilter("ignore")
        shape = model(x).shape
        cotangent = torch.randn(shape, generator=generator)
        compiled = torch.compile(model, backend="diagc", options=options)
        found = _step(model, compiled, x, cotangent)
        eager = _step(model, model, x, cotangent)
        true = _step(exact, exact, x.double() if x.is_floating_point() else x, cotangent)
    assert _of_products([r for report in reports for r in report.regions]) >= 4 * 2
    for ours, theirs, right in zip(found, eager, true, strict=True):
        least = 1e-6 * right.abs().max()
        assert (ours - right).abs().max() <= 4 * (theirs - right).abs().max() + least
