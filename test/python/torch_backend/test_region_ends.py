"""Where regions end: each layer's is its own, whatever the layers have in common."""

from collections.abc import Callable

import pytest
import torch

import diagc
from diagc.testing.models import MODELS
from diagc.testing.seed import SEED

Tensor = torch.Tensor


def test_layers_that_compute_something_alike_are_regions_of_their_own() -> None:
    """Signs of rotated halves are found once for both; no path leads from one to the other."""
    torch.manual_seed(0)
    (llama,) = (model for model in MODELS if model.name == "llama")
    module, args = llama.build("sdpa")
    report = diagc.explain(module, *args, options={"take": "streams", "library": "none"})
    regions = [region for graph in report.graphs for region in graph.regions]
    calls = [[call.split()[0] for call in region.calls] for region in regions]
    assert [names.count("scaled_dot_product_attention") for names in calls] == [1, 1]
    assert not any("linear" in names for names in calls)


def rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
    return out.transpose(1, 2).contiguous().reshape(2, 40, 24).cumsum(1)


def rows_by_reshape(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
    return out.transpose(1, 2).reshape(2, 40, 24).cumsum(1)


def read_twice(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
    return out.transpose(1, 2).contiguous().cumsum(1), out.cumsum(1)


def a_part(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
    return out[:, :, :9].contiguous().cumsum(1)


@pytest.mark.parametrize(
    ("function", "copies"),
    [(rows, True), (rows_by_reshape, True), (read_twice, False), (a_part, False)],
)
def test_a_copy_of_all_that_only_it_reads_is_what_the_kernel_writes(
    function: Callable[..., object], copies: bool
) -> None:
    """Copies of a part, or of what others read too, stay with who runs the rest (as sums do)."""
    torch.manual_seed(SEED)
    q, k, v = (torch.randn(2, 3, 40, 8) for _ in range(3))
    report = diagc.explain(function, q, k, v, options={"take": "streams"})
    (region,) = (region for graph in report.graphs for region in graph.regions)
    names = {call.split()[0] for call in region.calls}
    assert bool(names & {"contiguous", "reshape"}) == copies
    torch._dynamo.reset()
    compiled = torch.compile(function, backend="diagc", options={"rest": "eager"})
    exact = function(q.double(), k.double(), v.double())
    torch.testing.assert_close(compiled(q, k, v), exact, check_dtype=False, atol=1e-5, rtol=1e-5)
