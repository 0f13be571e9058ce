"""Linear layers whose products our own tiles compute faster than torch's library.

Which of the two is faster was measured on this machine: `diagc targets --measure` keeps rates of
both. Without that, and where gradients are recorded, the library computes them.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import torch
from torch import fx

from diagc.cost import find_device
from diagc.cost.device_catalog import measured_device
from diagc.options import CompileOptions
from diagc.passes.tiled_products import NARROWEST
from diagc.torch_backend.options import BackendOptions
from diagc.torch_backend.regions import Region

__all__ = ["product_regions", "tiles_pay", "with_tiles"]

SMALLEST = 1 << 26
"""FLOPs from which on a call of ours costs little beside the product: some 50 us of it."""

# places of the factors; a bias and its factors stand elsewhere
_FACTORS = {
    "aten.linear.default": (0, 1),
    "aten.addmm.default": (1, 2),
    "aten.mm.default": (0, 1),
}


def with_tiles(options: BackendOptions) -> BackendOptions:
    """The options for regions that are products in tiles."""
    return replace(options, compile=replace(options.compile, library="tiled"))


def tiles_pay(options: CompileOptions) -> bool:
    """Whether products in tiles are faster than the library's on the device, as was measured."""
    if options.library != "auto":
        return options.library == "tiled"
    device = find_device(options.device) if options.device else measured_device()
    if device is None:
        return False
    tiles, library = (device.rate(pipe) for pipe in ("tiles", "library"))
    return tiles is not None and library is not None and tiles > library


def product_regions(graph: fx.Graph, options: BackendOptions) -> Iterator[Region]:
    """Every large product of a linear layer as a region, with its bias."""
    if torch.is_grad_enabled() or not tiles_pay(options.compile):
        return
    for node in graph.nodes:
        if _is_large_product(node):
            yield Region((), (node,), (node,))


def _is_large_product(node: fx.Node) -> bool:
    places = _FACTORS.get(str(node.target))
    if node.op != "call_function" or places is None or node.kwargs:
        return False
    values = [source.meta.get("val") for source in node.all_input_nodes]
    if not all(isinstance(v, torch.Tensor) and _is_plain(v) for v in values):
        return False
    left, right = (node.args[i] for i in places)
    assert isinstance(left, fx.Node)
    assert isinstance(right, fx.Node)
    rows, result = left.meta["val"], node.meta["val"]
    depth, columns = _hint(rows.shape[-1]), _hint(result.shape[-1])
    count = prod(_hint(size) for size in rows.shape[:-1])
    return min(depth, columns, count) >= NARROWEST and 2 * depth * columns * count >= SMALLEST


def _is_plain(value: torch.Tensor) -> bool:
    return value.device.type == "cpu" and value.dtype == torch.float32


def _hint(size: int | torch.SymInt) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size
