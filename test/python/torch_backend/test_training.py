"""Training through the backend: what regions save, products and their gradients in tiles."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor

from diagc.testing.saved_tensors import saved_shapes
from diagc.testing.seed import SEED
from diagc.torch_backend.report import GraphReport, RegionReport, collecting

GENERATOR = torch.Generator().manual_seed(SEED)
ROWS, KEYS, WIDTH = 40, 56, 8
Function = Callable[..., Tensor]


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR).requires_grad_()


def _compiled(
    function: Function, inputs: Sequence[Tensor], dynamic: bool | None = None, **options: Any
) -> tuple[Function, list[GraphReport]]:
    """The function, compiled for these inputs, and the reports."""
    given = {"rest": "eager", "take": "streams", **options}
    compiled = torch.compile(function, backend="diagc", options=given, dynamic=dynamic)
    with collecting() as reports:
        compiled(*inputs)
    return compiled, reports


def _regions(reports: Sequence[GraphReport]) -> list[RegionReport]:
    return [region for report in reports for region in report.regions]


def _gradients(function: Function, inputs: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    wanted = [x for x in inputs if x.requires_grad]
    result = function(*inputs)
    return [result, *torch.autograd.grad(result, wanted, cotangent.to(result.dtype))]


def _in_f64(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [x.detach().double().requires_grad_(x.requires_grad) for x in inputs]


def _check(compiled: Function, function: Function, inputs: Sequence[Tensor]) -> None:
    """Result and gradients, of a cotangent whose dims lie in another order, against float64."""
    shape = function(*inputs).shape
    cotangent = torch.randn(*reversed(shape), generator=GENERATOR).permute(
        *reversed(range(len(shape)))
    )
    found = _gradients(compiled, inputs, cotangent)
    eager = _gradients(function, inputs, cotangent)
    exact = _gradients(function, _in_f64(inputs), cotangent)
    for ours, theirs, true in zip(found, eager, exact, strict=True):
        assert (ours - true).abs().max() <= 4 * (theirs - true).abs().max() + 2e-6


# ---- what regions save ---------------------------------------------------------------------------


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1), -1) @ v


def masked_l1(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = (q @ k.transpose(-2, -1)).tril(20)
    return s / s.abs().sum(-1, keepdim=True) @ v


def _attention_inputs(rows: int = ROWS) -> list[Tensor]:
    return [_random(2, n, WIDTH) for n in (rows, KEYS, KEYS)]


@pytest.mark.parametrize(("function", "statistics"), [(softmax, 2), (masked_l1, 1)])
def test_statistics_are_saved_and_no_scores(function: Function, statistics: int) -> None:
    inputs = _attention_inputs()
    compiled, reports = _compiled(function, inputs)
    assert len(_regions(reports)) == 1
    shapes = saved_shapes(compiled, inputs)
    assert sum(shape[:2] == (2, ROWS) and KEYS not in shape for shape in shapes) > statistics
    assert all(torch.Size(shape).numel() < 2 * ROWS * KEYS for shape in shapes)
    _check(compiled, function, inputs)


def test_some_inputs_are_frozen() -> None:
    inputs = [x.requires_grad_(i == 1) for i, x in enumerate(_attention_inputs())]
    compiled, reports = _compiled(softmax, inputs)
    assert len(_regions(reports)) == 1
    _check(compiled, softmax, inputs)


def test_nothing_is_saved_where_no_gradient_is_wanted() -> None:
    inputs = [x.detach() for x in _attention_inputs(33)]  # regions of other tests are kept
    compiled, reports = _compiled(softmax, inputs)
    (region,) = _regions(reports)
    assert region.compiled.latest.saving is None
    torch.testing.assert_close(compiled(*inputs), softmax(*inputs))


def test_open_sizes_share_one_program_and_what_it_saves() -> None:
    compiled, reports = _compiled(softmax, _attention_inputs(), dynamic=True)
    for rows in (ROWS, 23, 71):
        inputs = _attention_inputs(rows)
        _check(compiled, softmax, inputs)
    (region,) = _regions(reports)
    assert region.compiled.latest.dynamic
    assert region.compiled.latest.saving is not None


def test_inductor_and_an_input_that_is_two() -> None:
    def function(q: Tensor, k: Tensor) -> Tensor:
        return torch.tanh(softmax(q * 2, k, k))

    inputs = _attention_inputs()[:2]
    compiled, reports = _compiled(function, inputs, rest="inductor")
    assert len(_regions(reports)) == 1
    _check(compiled, function, inputs)


def test_the_op_is_one_of_torch_s() -> None:
    inputs = _attention_inputs(KEYS)  # alike, in whatever order the region takes them
    _, reports = _compiled(softmax, inputs)
    (region,) = _regions(reports)
    call = torch.ops.diagc.call_saving.default
    checks = torch.library.opcheck(call, (inputs, region.compiled.key))
    assert set(checks.values()) == {"SUCCESS"}


def _second(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    wanted = [x for x in inputs if x.requires_grad]
    first = torch.autograd.grad(function(*inputs).square().sum(), wanted, create_graph=True)
    total = torch.stack([g.square().sum() for g in first]).sum()
    return list(torch.autograd.grad(total, wanted))


def _check_second(compiled: Function, function: Function, inputs: Sequence[Tensor]) -> None:
    exact = _second(function, _in_f64(inputs))
    for ours, true in zip(_second(compiled, inputs), exact, strict=True):
        assert (ours - true).abs().max() <= 1e-4 * true.abs().max()


def test_second_derivatives_are_those_of_the_calls() -> None:
    inputs = _attention_inputs()
    compiled, reports = _compiled(softmax, inputs)
    assert len(_regions(reports)) == 1
    _check_second(compiled, softmax, inputs)


# ---- products ------------------------------------------------------------------------------------


def layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.gelu(F.linear(x, w, b))


def twice(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """One matrix of weights in two layers, once turned."""
    return F.linear(torch.tanh(F.linear(x, w, b)), w.t())


def _layer_inputs(*rows: int, width: int = 448, columns: int = 400) -> list[Tensor]:
    return [_random(*rows, width), _random(columns, width), _random(columns)]


@pytest.mark.parametrize(("function", "products"), [(layer, 1), (twice, 2)])
def test_layers_and_their_gradients_are_tiles(function: Function, products: int) -> None:
    inputs = _layer_inputs(2, 100)
    compiled, reports = _compiled(function, inputs, library="tiled")
    _check(compiled, function, inputs)
    regions = _regions(reports)
    assert len(regions) == products
    for region in regions:
        (gradients,) = region.compiled.report.gradients
        assert gradients.report is not None
        tiles = ["tiles" in str(kernel.schedule) for kernel in gradients.report.kernels]
        assert sum(tiles) == 2  # by what comes in, and by the weights
        assert not gradients.report.outside


def test_some_of_a_layer_is_frozen() -> None:
    inputs = [x.requires_grad_(i == 1) for i, x in enumerate(_layer_inputs(2, 100))]
    compiled, reports = _compiled(layer, inputs, library="tiled")
    assert len(_regions(reports)) == 1
    _check(compiled, layer, inputs)


def test_rows_that_lie_in_another_order() -> None:
    x, w, b = _layer_inputs(2, 100)
    turned = torch.randn(448, 100, 2, generator=GENERATOR).permute(2, 1, 0).requires_grad_()
    compiled, reports = _compiled(layer, [turned, w, b], library="tiled")
    assert len(_regions(reports)) == 1
    _check(compiled, layer, [turned, w, b])
    _check(compiled, layer, [x, w, b])


def test_small_layers_stay() -> None:
    inputs = _layer_inputs(2, 20)
    _, reports = _compiled(layer, inputs, library="tiled")
    assert not _regions(reports)


def test_layers_of_an_open_number_of_rows() -> None:
    compiled, reports = _compiled(layer, _layer_inputs(2, 100), dynamic=True, library="tiled")
    assert len(_regions(reports)) == 1
    for rows in ((2, 100), (3, 70)):
        _check(compiled, layer, _layer_inputs(*rows))


def test_layers_with_inductor() -> None:
    inputs = _layer_inputs(2, 100)
    compiled, reports = _compiled(twice, inputs, rest="inductor", library="tiled")
    assert len(_regions(reports)) == 2
    _check(compiled, twice, inputs)


def test_second_derivatives_of_a_layer() -> None:
    inputs = _layer_inputs(200)
    compiled, reports = _compiled(layer, inputs, library="tiled")
    assert len(_regions(reports)) == 1
    _check_second(compiled, layer, inputs)
