"""Products of matrices in tiles, on poisoned results, against float64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import diagc
from diagc.api import CompiledFunction
from diagc.passes.kernels.tiled_products import COLUMNS, ROWS, STRIP
from diagc.testing.seed import SEED

Make = Callable[..., Tensor]
GENERATOR = torch.Generator().manual_seed(SEED)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def _compiled(function: Make, *inputs: Tensor) -> CompiledFunction:
    return diagc.compile(function, *inputs, library="tiled", target="cpu", reassociate="off")


def _names(compiled: CompiledFunction) -> list[str]:
    assert not any(kernel.fall_back for kernel in compiled.report.kernels)
    return [kernel.name for kernel in compiled.report.kernels]


def _check(function: Make, *inputs: Tensor, kernels: int = 1) -> None:
    compiled = _compiled(function, *inputs)
    found, exact = compiled(*inputs), function(*(x.double() for x in inputs))
    error = (function(*inputs) - exact).abs().max()
    assert len(_names(compiled)) == kernels
    assert (found - exact).abs().max() <= 4 * error + 1e-6
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(64, 64, 64), (247, 389, 131), (6, 400, 130), (500, 65, 257), (243, 1154, 72)],
)
def test_linear_layer(rows: int, depth: int, columns: int) -> None:
    x, w, b = _random(rows, depth), _random(columns, depth), _random(columns)
    _check(F.linear, x, w, b, kernels=0 if rows < 64 else 1)


PRODUCTS: dict[str, tuple[Make, tuple[Tensor, ...]]] = {
    "both as they are": (torch.mm, (_random(70, 80), _random(80, 90))),
    "left turned": (lambda a, b: a.T @ b, (_random(80, 70), _random(80, 90))),
    "left turned, in pieces": (lambda a, b: a.T @ b, (_random(389, 275), _random(389, 140))),
    "left turned, in strips": (lambda a, b: a.T @ b, (_random(70, 1190), _random(70, 80))),
    # 208 rows, a strip in whole vectors, are not whole register blocks
    "left turned, one strip": (lambda a, b: a.T @ b, (_random(512, 207), _random(512, 140))),
    "batch of rows": (F.linear, (_random(3, 70, 80), _random(90, 80))),
    "heads of columns": (
        lambda x, w: torch.einsum("nk,hek->hne", x, w),
        (_random(70, 80), _random(2, 66, 80)),
    ),
    "strided": (lambda a, b: a[:, ::2] @ b, (_random(70, 160), _random(80, 90))),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_layouts(name: str) -> None:
    function, inputs = PRODUCTS[name]
    _check(function, *inputs)


def _layer(x: Tensor, w: Tensor, b: Tensor, residual: Tensor) -> Tensor:
    return F.gelu(F.linear(x, w, b), approximate="tanh") * 2 + residual


def test_maps_behind_the_product_are_in_its_kernel() -> None:
    inputs = (_random(150, 80), _random(140, 80), _random(140), _random(150, 140))
    _check(_layer, *inputs)
    assert _names(_compiled(_layer, *inputs)) != ["contract_f32"]


def test_product_that_is_returned_and_mapped() -> None:
    def function(x: Tensor, w: Tensor) -> Tensor:
        product = F.linear(x, w)
        return torch.stack([product, product.relu()])

    _check(function, _random(90, 100), _random(150, 100), kernels=2)


def test_what_comes_before_has_a_kernel_of_its_own() -> None:
    def function(x: Tensor, w: Tensor) -> Tensor:
        return F.linear(torch.tanh(x) * x + 1, w).relu()

    _check(function, _random(100, 80), _random(90, 80), kernels=2)


def _on_one_core(rows: int, columns: int) -> tuple[float, object]:
    """The largest error of a layer with maps behind it, and the rows of a tile."""

    def layer(x: Tensor, w: Tensor) -> Tensor:
        return torch.sigmoid(F.linear(x, w)) + x[:, :1]

    x, w = _random(rows, 400), _random(columns, 400)
    compiled = diagc.compile(
        layer, x, w, library="tiled", target="cpu", device="cpu-avx2", reassociate="off"
    )
    (kernel,) = compiled.report.kernels
    assert kernel.schedule is not None
    error = (compiled(x, w) - layer(x.double(), w.double())).abs().max()
    return error.item(), kernel.schedule["lane_tile"]


def test_tiles_are_tall_where_tasks_are_many() -> None:
    """Two tall tiles of several strips, the last with a rest of rows; two pieces."""
    for rows, columns, height in ((ROWS + 71, 3 * COLUMNS + 5, ROWS), (STRIP + 71, 133, STRIP)):
        error, found = _on_one_core(rows, columns)
        assert found == height
        assert error < 1e-5


NOT_TILED: dict[str, tuple[Make, tuple[Tensor, ...]]] = {
    "float64": (torch.mm, (_random(70, 80).double(), _random(80, 90).double())),
    "narrow": (torch.mm, (_random(70, 80), _random(80, 20))),
    "shallow": (torch.mm, (_random(70, 20), _random(20, 90))),
    "batch of products": (torch.bmm, (_random(2, 70, 80), _random(2, 80, 90))),
    "two summed axes": (
        lambda x, w: torch.einsum("nhk,ehk->ne", x, w),
        (_random(70, 3, 80), _random(90, 3, 80)),
    ),
}


@pytest.mark.parametrize("name", NOT_TILED)
def test_others_are_the_library_s(name: str) -> None:
    function, inputs = NOT_TILED[name]
    compiled = _compiled(function, *inputs)
    assert not _names(compiled)
    torch.testing.assert_close(compiled(*inputs), function(*inputs))


def test_only_marked_products_have_tiles() -> None:
    inputs = (_random(70, 80), _random(90, 80))
    for library in ("torch", "none"):
        compiled = diagc.compile(F.linear, *inputs, library=library, target="cpu")
        assert not any("tiles" in str(kernel.schedule) for kernel in compiled.report.kernels)
    (tiled,) = _compiled(F.linear, *inputs).report.kernels
    assert "tiles" in str(tiled.schedule)


def test_a_row_has_the_same_bits_in_any_number_of_rows() -> None:
    x, w, b = _random(301, 500), _random(200, 500), _random(200)
    whole = _compiled(F.linear, x, w, b)(x, w, b)
    for rows in (64, 77, 246):
        part = x[:rows].clone()
        assert torch.equal(_compiled(F.linear, part, w, b)(part, w, b), whole[:rows])


def test_one_kernel_serves_all_sizes() -> None:
    for rows, depth, columns in ((64, 64, 64), (100, 200, 300)):
        x, w = _random(rows, depth), _random(columns, depth)
        (kernel,) = _compiled(F.linear, x, w).report.kernels
    assert kernel.cache != "miss"
