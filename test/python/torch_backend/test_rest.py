"""Ops that stay whole in what Inductor runs for us."""

from typing import Any

import pytest
import torch
import torch._dynamo
import torch._inductor.compile_fx as inductor
import torch.nn.functional as F
from torch import Tensor, fx
from torch._subclasses import FakeTensorMode

from diagc.testing.seed import SEED
from diagc.torch_backend.options import BackendOptions
from diagc.torch_backend.rest import _is_grouped, run_rest

WHOLE = {
    "aten.index_add.default",
    "aten.embedding_dense_backward.default",
    "aten.threshold_backward.default",
}


def layer(table: Tensor, places: Tensor, rows: Tensor) -> Tensor:
    read = F.relu(F.embedding(places, table))
    return torch.zeros_like(table).index_add(0, rows, read)


def _step(function: Any, table: Tensor, *places: Tensor) -> tuple[Tensor, Tensor]:
    result = function(table, *places)
    return result, torch.autograd.grad(result.square().sum(), table)[0]


def test_a_step_with_such_ops_where_ci_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.lowering import lowerings

    monkeypatch.setenv("CI", "1")
    for op in [op for op in lowerings if str(op) in WHOLE]:  # as in a new process
        monkeypatch.delitem(lowerings, op)
    draw = torch.Generator().manual_seed(SEED)
    table = torch.randn(31, 17, generator=draw).requires_grad_()
    places, rows = torch.randint(31, (2, 53), generator=draw)
    caches = torch._functorch.config.patch(enable_autograd_cache=False)
    with caches, torch._inductor.config.patch(fx_graph_cache=False):
        compiled = torch.compile(layer, backend="diagc")
        found = _step(compiled, table, places, rows)
        plain = _step(torch.compile(layer), table, places, rows)  # shares those lowerings
    exact = _step(layer, table.detach().double().requires_grad_(), places, rows)
    for ours, true in zip((*found, *plain), exact * 2, strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("device", "whole"), [("cpu", WHOLE), ("cuda", set())])
def test_settings_for_cpus_are_for_cpus_alone(
    device: str, whole: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[set[str]] = []
    patches: list[Any] = []

    def keep(module: fx.GraphModule, inputs: Any, config_patches: Any, decompositions: Any) -> Any:
        tables.append({str(op) for op in decompositions})
        patches.append(config_patches)
        return module.forward

    monkeypatch.setattr(inductor, "compile_fx", keep)
    module = fx.symbolic_trace(torch.nn.ReLU())
    with FakeTensorMode():
        inputs = [torch.empty(4, device=device), torch.empty(4)]
    run_rest(module, inputs, BackendOptions(rest="inductor"))
    (table,) = tables
    assert WHOLE - table == whole
    assert patches == [{"layout_optimization": False} if whole else {}]


@pytest.mark.parametrize(("groups", "grouped"), [(1, False), (4, True)])
def test_channels_last_is_left_to_grouped_convolutions(groups: int, grouped: bool) -> None:
    found: list[bool] = []

    def backend(module: fx.GraphModule, _: Any) -> Any:
        found.append(any(map(_is_grouped, module.graph.nodes)))
        return module.forward

    layer = torch.nn.Conv2d(8, 16, 3, groups=groups)
    torch.compile(layer, backend=backend)(torch.ones(1, 8, 5, 5))
    assert found == [grouped]
