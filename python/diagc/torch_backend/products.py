"""Linear layers whose products our own tiles compute faster than torch's library.

Which of the two is faster was measured on this machine: `diagc targets --measure` keeps rates of
both. Without that the library computes them. With `batch_invariant` all are regions already.

Where gradients are recorded a region is a product and its bias alone, of matrices: its gradients
are products of matrices too. Maps behind it stay with who runs the rest: inside of the region their
gradients would compute the product again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf, prod
from typing import Any

import torch
from torch import fx

from diagc.cost import find_device
from diagc.cost.device_catalog import measured_device
from diagc.frontend.torch.formulas import ALIASES, ARITHMETIC
from diagc.options import CompileOptions
from diagc.passes.kernels.tiled_products import NARROWEST
from diagc.torch_backend.left import note_reason
from diagc.torch_backend.options import BackendOptions
from diagc.torch_backend.regions import Region
from diagc.torch_backend.stretches import is_number, is_view

__all__ = ["least_flops", "product_regions", "with_tiles"]

TOO_SMALL = "torch is predicted to be faster: tiles would gain less on it than a call of ours costs"

MOST_CALLS = 16
"""Of a region: a few more than approximations of GELU that models write out."""

_VIEWS = ("view", "reshape", "_unsafe_view", "unsqueeze")

# places of the factors; a bias and its factors stand elsewhere
_FACTORS = {
    "aten.linear.default": (0, 1),
    "aten.addmm.default": (1, 2),
    "aten.mm.default": (0, 1),
}


def with_tiles(options: BackendOptions) -> BackendOptions:
    """The options for regions that are products in tiles."""
    return replace(options, compile=replace(options.compile, library="tiled"))


def least_flops(options: CompileOptions) -> float:
    """From how many FLOPs on a product in tiles gains more than its call costs, as was measured.

    Infinite where tiles are not faster than the library, or nobody has measured.
    """
    if options.library != "auto":
        return 0.0 if options.library == "tiled" else inf
    device = find_device(options.device) if options.device else measured_device()
    if device is None:
        return inf
    tiles, library = (device.rate(pipe) for pipe in ("tiles", "library"))
    if tiles is None or library is None or tiles <= library:
        return inf
    return device.call_seconds / (1 / library - 1 / tiles)


def product_regions(graph: fx.Graph, options: BackendOptions, *, trained: bool) -> Iterator[Region]:
    """Every large product of a linear layer as a region, with its bias and what follows it.

    Args:
        graph: is changed where it is trained: linear layers become products of matrices.
        options: of the backend.
        trained: whether autograd will record it.
    """
    if options.compile.batch_invariant:
        return
    least = least_flops(options.compile)
    for node in list(graph.nodes):
        flops = _flops(node)
        if flops >= least:
            nodes = (_flat(node),) if trained else _with_maps(node)
            yield Region((), nodes, nodes[-1:])
        elif flops >= 0 and least < inf:
            note_reason(node, TOO_SMALL)


def _flat(product: fx.Node) -> fx.Node:
    """The product of matrices that a linear layer of fixed sizes is, all rows behind each other.

    The gradient by its weights would else be a sum over two axes, which tiles do not serve.
    """
    rows = product.args[0]
    assert isinstance(rows, fx.Node)
    shape = product.meta["val"].shape
    if len(shape) == 2 or not all(isinstance(size, int) for size in shape):
        return product
    graph, reshape = product.graph, torch.ops.aten.reshape.default
    with graph.inserting_before(product):
        flat = _call(graph, reshape, rows, [-1, rows.meta["val"].shape[-1]])
        made = _call(graph, product.target, flat, *product.args[1:])
        made.meta = {**product.meta, "val": made.meta["val"]}
        result = _call(graph, reshape, made, list(shape))
    product.replace_all_uses_with(result)
    graph.erase_node(product)
    return made


def _call(graph: fx.Graph, target: Any, *args: Any) -> fx.Node:
    """A call, with its value."""
    made = graph.call_function(target, args)
    made.meta["val"] = target(*fx.map_arg(args, lambda node: node.meta["val"]))
    return made


def _with_maps(product: fx.Node) -> tuple[fx.Node, ...]:
    """A product and the elementwise calls that read it and nothing else, up to one result."""
    inside: list[fx.Node] = [product]
    found: tuple[fx.Node, ...] = (product,)
    while len(inside) < MOST_CALLS:
        users = dict.fromkeys(user for node in inside for user in node.users)
        new = [user for user in users if user not in inside and _is_map(user, inside)]
        if not new:
            break
        inside += new
        read = [node for node in inside if set(node.users) - set(inside)]
        if len(read) == 1 and read[0] is inside[-1] and not is_view(read[0]):
            found = tuple(inside)
    return found


def _is_map(node: fx.Node, inside: Sequence[fx.Node]) -> bool:
    """Whether a call is elementwise, or a view of all elements in order, of calls in `inside`."""
    value, first = node.meta.get("val"), inside[0].meta["val"]
    if node.op != "call_function" or not isinstance(value, torch.Tensor) or not _is_plain(value):
        return False
    name = str(node.target).split(".")[1]
    known = name in ARITHMETIC or name in ALIASES or name in _VIEWS
    sources = [source for source in node.all_input_nodes if not is_number(source)]
    return known and value.numel() == first.numel() and all(s in inside for s in sources)


def _flops(node: fx.Node) -> int:
    """Of a product that we can compute; -1 for what is none, or narrower."""
    places = _FACTORS.get(str(node.target))
    if node.op != "call_function" or places is None or node.kwargs:
        return -1
    values = [source.meta.get("val") for source in node.all_input_nodes]
    if not all(isinstance(v, torch.Tensor) and _is_plain(v) for v in values):
        return -1
    left, right = (node.args[i] for i in places)
    assert isinstance(left, fx.Node)
    assert isinstance(right, fx.Node)
    rows, result = left.meta["val"], node.meta["val"]
    depth, columns = _hint(rows.shape[-1]), _hint(result.shape[-1])
    count = prod(_hint(size) for size in rows.shape[:-1])
    return 2 * depth * columns * count if min(depth, columns, count) >= NARROWEST else -1


def _is_plain(value: torch.Tensor) -> bool:
    return value.device.type == "cpu" and value.dtype == torch.float32


def _hint(size: int | torch.SymInt) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size
