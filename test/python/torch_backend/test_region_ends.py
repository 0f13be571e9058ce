"""Where regions end: each layer's is its own, whatever the layers have in common."""

import torch

import diagc
from diagc.testing.models import MODELS


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
