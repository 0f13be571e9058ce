"""Which calls of a graph become one kernel: the compiler's own passes say so.

A stretch is raised with the number of a call for its place in the source, and taken to the stage
`kernels`. The places that the ops of a kernel come from are the calls of its region.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from torch import fx
from torch.utils import _pytree as pytree

from diagc.compiler import run_pipeline
from diagc.dialects import diag
from diagc.errors import SourceLocation
from diagc.frontend.torch.importer import import_program
from diagc.mlir import ir
from diagc.options import use
from diagc.torch_backend.options import BackendOptions
from diagc.torch_backend.stretches import Stretch, is_item, is_number, read

__all__ = ["Region", "find_regions"]

# calls that only look at their operand in another way: they are cheap to make again
_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "reshape", "_unsafe_view", "transpose", "permute", "t", "mT", "unsqueeze"),
        *("squeeze", "expand", "select", "slice", "contiguous", "flatten", "unflatten", "alias"),
        *("movedim", "swapaxes", "expand_as", "view_as", "detach", "clone", "numpy_T"),
    )
)


@dataclass(frozen=True)
class Region:
    """Calls that become one kernel.

    Args:
        kernel: its name.
        nodes: in the order of the graph; some may be needed outside too, and then stay there.
        results: the nodes that others read.
    """

    kernel: str
    nodes: tuple[fx.Node, ...]
    results: tuple[fx.Node, ...]


def find_regions(stretch: Stretch, options: BackendOptions) -> list[Region]:
    """The regions of a stretch, in order of their last calls.

    Raises:
        DiagcError: the stretch cannot be raised.
    """
    results = stretch.results()
    if not results:
        return []
    spec = pytree.tree_structure(tuple(range(len(results))))
    with use(options.compile):
        module = import_program(read(stretch), spec).module
        with module.context, ir.Location.unknown():
            run_pipeline(module, options.compile, "kernels")
            kernels = [_kernel(function) for function in diag.functions(module)]
    uses = Counter(number for kernel in kernels for number in kernel.places)
    outside = {number for kernel in kernels if not kernel.formed for number in kernel.places}
    taken = [k for k in kernels if k.streams or (options.take == "all" and k.fuses)]
    regions = [_region(kernel, stretch, uses, outside) for kernel in taken]
    position = {node: i for i, node in enumerate(stretch.nodes)}
    return sorted((r for r in regions if r.results), key=lambda r: position[r.nodes[-1]])


@dataclass(frozen=True)
class _Kernel:
    """A function of the module: the calls that its ops come from, and what it is."""

    name: str
    places: frozenset[int]
    formed: bool
    streams: bool

    @property
    def fuses(self) -> bool:
        return self.formed and len(self.places) > 1


def _kernel(function: ir.Operation) -> _Kernel:
    ops = [op for region in function.regions for op in diag.walk_ops(region)]
    places = [SourceLocation.of(op.location) for op in ops]
    formed = diag.is_kernel(function)
    return _Kernel(
        str(ir.StringAttr(function.attributes["sym_name"]).value),
        frozenset(place.line - 1 for place in places if place is not None),
        formed,
        formed and any(op.name == "diag.stream" for op in ops),
    )


def _region(
    kernel: _Kernel, stretch: Stretch, uses: Mapping[int, int], outside: Set[int]
) -> Region:
    """Close a kernel's calls under paths between them, and add the views that they read.

    A call of which a part stays outside (the product of a linear layer whose bias the kernel adds)
    stays outside. What others read of a call that went into this kernel alone is a result of it; a call that went
    elsewhere too is made there again.
    """
    core = _hull({stretch.nodes[i] for i in kernel.places - outside}, stretch.nodes)
    inside = {node for node in core if not is_number(node)}
    inside |= {user for node in inside for user in node.users if is_item(user)}
    results = []
    for number, node in enumerate(stretch.nodes):
        shared = uses[number] > 1 and set(node.users) & inside
        if node in inside and set(node.users) - inside and not shared:
            results.append(node)
    for node in reversed(stretch.nodes):
        if set(node.users) & inside and _is_view(node):
            inside.add(node)
    nodes = tuple(node for node in stretch.nodes if node in inside)
    return Region(kernel.name, nodes, tuple(results))


def _hull(seeds: set[fx.Node], nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """The seeds and what stands on paths between them."""
    after, before = set(seeds), set(seeds)
    for node in nodes:
        if any(source in after for source in node.all_input_nodes):
            after.add(node)
    for node in reversed(nodes):
        if any(user in before for user in node.users):
            before.add(node)
    return after & before


def _is_view(node: fx.Node) -> bool:
    packet = ".".join(str(node.target).split(".")[:2])
    return isinstance(node.target, torch._ops.OpOverload) and packet in _VIEWS
