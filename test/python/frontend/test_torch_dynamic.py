"""Symbolic sizes: imported at one size, evaluated at another."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

import diagc
from diagc.dialects import diag
from diagc.frontend.torch import ImportedProgram, import_torch
from diagc.mlir import ir
from diagc.testing.models import MODELS

AUTO = Dim.AUTO


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    torch.manual_seed(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about itself
        yield


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    n = q.shape[-2]
    keep = torch.ones(n, n, dtype=torch.bool).tril()
    return torch.softmax((q @ k.mT).masked_fill(~keep, -math.inf), -1) @ v


def _merged(a: Tensor) -> Tensor:
    rows = a.reshape(a.shape[0] * a.shape[1], -1) @ torch.ones(8, 3, dtype=a.dtype)
    return rows.reshape(a.shape[0], a.shape[1], 3)


CASES: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], tuple[Tensor, ...]]] = {
    "attention": (
        _attention,
        (_random(2, 4, 16, 8), _random(2, 4, 9, 8), _random(2, 4, 9, 8)),
        (_random(3, 5, 7, 8), _random(3, 5, 6, 8), _random(3, 5, 6, 8)),
    ),
    "causal": (
        _causal,
        (_random(2, 4, 16, 8), _random(2, 4, 16, 8), _random(2, 4, 16, 8)),
        (_random(3, 2, 9, 8), _random(3, 2, 9, 8), _random(3, 2, 9, 8)),
    ),
    "means": (
        lambda a: (a.mean(1), a.var(1), a.std((0, 1))),
        (_random(3, 5, 8),),
        (_random(4, 6, 8),),
    ),
    "merged dims": (_merged, (_random(3, 5, 8),), (_random(4, 6, 8),)),
    "positions": (
        lambda a: a + torch.arange(a.shape[1])[:, None],
        (_random(3, 5, 8),),
        (_random(4, 6, 8),),
    ),
}


@pytest.mark.parametrize("adapter", ["fx", "torch-mlir"])
@pytest.mark.parametrize("name", CASES)
def test_other_sizes(
    name: str, adapter: str, interpret: Callable[[ImportedProgram, tuple[Any, ...]], Any]
) -> None:
    function, examples, inputs = CASES[name]
    program = import_torch(function, examples, dynamic=True, adapter=adapter)
    assert not program.externs
    found = interpret(program, inputs)
    torch.testing.assert_close(found, function(*inputs), rtol=1e-11, atol=1e-11)


def test_encoder_layer_with_open_batch_and_length(
    interpret: Callable[[ImportedProgram, tuple[Any, ...]], Any],
) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).double().eval()
    program = import_torch(layer, (_random(2, 6, 16),), dynamic=({0: AUTO, 1: AUTO},))
    x = _random(5, 3, 16)
    with torch.no_grad():
        torch.testing.assert_close(interpret(program, (x,)), layer(x), rtol=1e-10, atol=1e-10)


def test_sizes_that_an_op_demands_to_be_equal_are_guards() -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    examples = _random(2, 8, 6, 8), _random(2, 4, 6, 8), _random(2, 4, 6, 8)
    open_dims = {0: AUTO, 2: AUTO}
    program = import_torch(function, examples, dynamic=((open_dims,) * 3,))
    assert program.guards
    assert all("==" in guard for guard in program.guards)


def test_open_sizes_are_facts_of_the_function() -> None:
    program = import_torch(lambda a: a * 2, (_random(3, 5),), dynamic=True)
    (main,) = diag.functions(program.module)
    facts = ir.DictAttr(main.attributes["diag.axes"])
    assert {attribute.name for attribute in facts} == {"n", "d"}
    (argument,) = diag.function_body(main).arguments
    assert set(diag.dims(argument).values()) == {diag.DYNAMIC}


@pytest.mark.parametrize(("name", "way"), [("bert", "sdpa"), ("gpt2", "eager")])
def test_published_models_with_open_length(name: str, way: str) -> None:
    """Their positions are slices of buffers, and `arange`."""
    model = next(model for model in MODELS if model.name == name)
    module, (tokens,) = model.build(way)
    compiled = diagc.compile(module.eval(), tokens, importer="torch-mlir", dynamic=True)
    with torch.no_grad():
        for batch, length in (tokens.shape, (3, 37)):
            args = torch.randint(0, 50, (batch, length))
            found, wanted = compiled(args)[0], module(args)[0]
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    streams = [kernel.calls for kernel in compiled.report.kernels if kernel.streams]
    assert sum(streams) >= model.attentions
    assert len(compiled._calls.groups[0].specializations) == 1
