"""Linear layers in tiles of ours: where the measured device says that they are faster."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor

import diagc
from diagc.cost import Rate, cpu_device
from diagc.cost.device_file import device_text
from diagc.testing.seed import SEED

GENERATOR = torch.Generator().manual_seed(SEED)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def _device(folder: Path, tiles: float | None, call_seconds: float = 30e-6) -> str:
    """A description in which the library's products reach 100 GFLOP/s, and ours `tiles`."""
    device = cpu_device(32)
    rates = (*device.rates, Rate("library", "f32", 100e9))
    if tiles is not None:
        rates += (Rate("tiles", "f32", tiles),)
    file = folder / "mine.toml"
    file.write_text(
        device_text(replace(device, name="mine", rates=rates, call_seconds=call_seconds), "made up")
    )
    return str(file)


def layers(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    hidden = torch.tanh(F.linear(x, w, b))
    return torch.addmm(b, hidden, w) + torch.mm(x, w.t())


def _inputs(rows: int = 200, width: int = 448, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [t.to(dtype) for t in (_random(rows, width), _random(width, width), _random(width))]


def _regions(inputs: Sequence[Tensor], **options: Any) -> int:
    """How many regions are taken, after results were compared."""
    given = {"take": "streams", **options}
    report = diagc.explain(layers, *inputs, options=given)
    compiled = torch.compile(layers, backend="diagc", options={"rest": "eager", **given})
    found, exact = compiled(*inputs), layers(*(x.double() for x in inputs))
    assert (found - exact).abs().max() <= 4 * (layers(*inputs) - exact).abs().max() + 1e-6
    return sum(len(graph.regions) for graph in report.graphs)


def test_faster_tiles_are_taken(tmp_path: Path) -> None:
    with torch.no_grad():
        assert _regions(_inputs(), device=_device(tmp_path, 120e9)) == 3


@pytest.mark.parametrize("tiles", [80e9, None])
def test_slower_or_unmeasured_tiles_are_not(tmp_path: Path, tiles: float | None) -> None:
    with torch.no_grad():
        assert _regions(_inputs(), device=_device(tmp_path, tiles)) == 0


def test_the_option_decides(tmp_path: Path) -> None:
    with torch.no_grad():
        assert _regions(_inputs(), library="tiled", device=_device(tmp_path, 80e9)) == 3
        assert _regions(_inputs(), library="none", device=_device(tmp_path, 120e9)) == 0


@pytest.mark.parametrize(
    "inputs",
    [_inputs(8), _inputs(64, 64), _inputs(dtype=torch.float64)],
    ids=["few rows", "small", "float64"],
)
def test_small_and_other_products_stay(inputs: list[Tensor], tmp_path: Path) -> None:
    with torch.no_grad():
        assert _regions(inputs, device=_device(tmp_path, 120e9)) == 0


@pytest.mark.parametrize(("call_seconds", "taken"), [(10e-6, 3), (200e-6, 0)])
def test_a_call_has_to_pay(call_seconds: float, taken: int, tmp_path: Path) -> None:
    """80 MFLOP take 800 us in the library and 670 in tiles."""
    device = _device(tmp_path, 120e9, call_seconds)
    with torch.no_grad():
        assert _regions(_inputs(), device=device) == taken
        options = {"take": "streams", "device": device}
        left = str(diagc.explain(layers, *_inputs(), options=options))
    assert ("torch is predicted to be faster" in left) == (taken == 0)


def gated(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """GELU as models write it out; then a product of two layers, which are read by both."""
    h = F.linear(x, w, b).unsqueeze(0)
    h = 0.5 * h * (1.0 + torch.tanh(0.8 * (h + 0.044715 * torch.pow(h, 3.0))))
    g = F.linear(x, w)
    return h * torch.sigmoid(g) + g.sum(-1, keepdim=True)


def test_what_follows_a_product_is_in_its_region(tmp_path: Path) -> None:
    inputs = _inputs()
    with torch.no_grad():
        options = {"take": "streams", "device": _device(tmp_path, 120e9)}
        report = diagc.explain(gated, *inputs, options=options)
        first, second = (region for graph in report.graphs for region in graph.regions)
        found = torch.compile(gated, backend="diagc", options={"rest": "eager", **options})(*inputs)
    assert [call.split()[0] for call in first.calls].count("tanh") == 1
    assert len(first.compiled.kernels) == len(second.compiled.kernels) == 1
    assert [call.split()[0] for call in second.calls] == ["linear"]
    torch.testing.assert_close(
        found.double(), gated(*(x.double() for x in inputs)), atol=1e-3, rtol=1e-5
    )
