"""Which calls of a graph are computed together: the compiler's own passes say so.

A stretch is raised with the number of a call for its place in the source, and taken to the stage
`kernels`. The places that the ops of a unit come from are the calls of its region.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import fx
from torch.utils import _pytree as pytree

from diagc.compiler import run_pipeline
from diagc.feature_sizes import feature_symbols
from diagc.frontend.torch.importer import ImportedProgram, import_program
from diagc.mlir import ir
from diagc.options import use
from diagc.torch_backend.left import note_reasons
from diagc.torch_backend.options import BackendOptions
from diagc.torch_backend.stretches import (
    Stretch,
    is_item,
    is_number,
    is_random,
    is_view,
    read,
    size_hints,
)
from diagc.torch_backend.units import Unit, kept_places, linear_places, units, working_places

__all__ = ["Region", "find_regions"]


@dataclass(frozen=True)
class Region:
    """Calls that are computed together.

    Args:
        kernels: their names in the whole program.
        nodes: in the order of the graph; some may be needed outside too, and then stay there.
        results: the nodes that others read; none is a view.
        views: nodes of the region that others read and that share memory with a result. They are
            made from it again, for a write into one is seen in the other.
    """

    kernels: tuple[str, ...]
    nodes: tuple[fx.Node, ...]
    results: tuple[fx.Node, ...]
    views: tuple[fx.Node, ...] = ()


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
        module = _import(stretch, spec).module
        with module.context, ir.Location.unknown():
            run_pipeline(module, options.compile, "kernels")
            found, linear = units(module), linear_places(module)
            note_reasons(stretch, module, found, options)
            free = _made_of_nothing(stretch, working_places(module))
            kept = kept_places(module)
    uses = Counter(number for unit in found for number in unit.places)
    taken = [unit for unit in found if _is_wanted(unit, options)]
    # scores that are never computed, say: a rewrite has done away with them, for their readers
    gone = {node for number, node in enumerate(stretch.nodes) if number not in kept}
    regions = [
        _region(unit, stretch, uses, linear, free | gone if unit.mixed else free) for unit in taken
    ]
    position = {node: i for i, node in enumerate(stretch.nodes)}
    return sorted((r for r in regions if r.results), key=lambda r: position[r.nodes[-1]])


def _import(stretch: Stretch, spec: pytree.TreeSpec) -> ImportedProgram:
    """The stretch as a module, in which feature sizes are fixed: so will a compiled region's be."""
    imported = import_program(read(stretch), spec)
    hints = size_hints(stretch)
    fixed = {name: hints[name] for name in feature_symbols(imported.module) if name in hints}
    return import_program(read(stretch).fixed(fixed), spec) if fixed else imported


def _is_wanted(unit: Unit, options: BackendOptions) -> bool:
    """Whether a unit does what torch does not: it streams, or computes in another order.

    With `batch_invariant` torch's order is that of no row, so every sum is wanted.
    """
    if options.compile.batch_invariant and unit.sums:
        return bool(unit.kernels)
    return unit.streams or unit.mixed or (options.take == "all" and unit.fuses)


def _made_of_nothing(stretch: Stretch, working: AbstractSet[int]) -> set[fx.Node]:
    """Calls that read no tensor, near or far, and are elementwise: every reader makes them again.

    Positions and comparisons of them have become part of what reads them. As inputs of a region
    they would be data, which bounds no stream.

    Args:
        stretch: where to look.
        working: numbers of calls that are more than elementwise.
    """
    found: set[fx.Node] = set()
    for number, node in enumerate(stretch.nodes):
        sources = [source for source in node.all_input_nodes if not is_number(source)]
        idle = number not in working and not is_random(node) and not is_item(node)
        if idle and found.issuperset(sources) and isinstance(node.meta.get("val"), torch.Tensor):
            found.add(node)
    return found


def _region(
    unit: Unit,
    stretch: Stretch,
    uses: Mapping[int, int],
    linear: AbstractSet[int],
    free: AbstractSet[fx.Node],
) -> Region:
    """Close a unit's calls under paths between them, and add the views and `free` calls they read.

    A call of which a part is the product of a linear layer (and a kernel adds the bias) stays
    outside. What others read of a call that went into this unit alone is a result of it; a call
    that went elsewhere too is made there again, where calls of this unit read it: what two layers
    compute alike, such as the signs of rotated halves, bears the place of the first alone, and a
    path from there would take all that stands between the layers.
    """
    places = unit.places - linear
    own = {stretch.nodes[number] for number in places if uses[number] == 1}
    taken = {stretch.nodes[number] for number in places}
    common = (taken - own) & _before(own, stretch.nodes)
    core = _hull(taken - common, stretch.nodes)
    inside = {node for node in core if not is_number(node)}
    inside |= {user for node in inside for user in node.users if is_item(user)}
    inside |= _copies(stretch, inside)
    shared = {
        node
        for number, node in enumerate(stretch.nodes)
        if uses[number] > 1 and set(node.users) & inside
    }
    results, views = _results(stretch, inside, shared)
    for node in reversed(stretch.nodes):
        if set(node.users) & inside and (is_view(node) or node in free | common):
            inside.add(node)
    nodes = tuple(node for node in stretch.nodes if node in inside)
    return Region(unit.kernels, nodes, results, views)


def _copies(stretch: Stretch, inside: AbstractSet[fx.Node]) -> set[fx.Node]:
    """Copies in another order of what nothing else reads, and views on the way: kernels write so.

    Such as `transpose(1, 2).contiguous()` behind attention.
    """
    found: set[fx.Node] = set()
    for node in inside:
        chain = [node]
        while (user := _only_view(chain[-1], stretch)) is not None:
            chain.append(user)
            if _memory(user) != _memory(node):
                found.update(chain[1:])
                break
    return found


def _only_view(node: fx.Node, stretch: Stretch) -> fx.Node | None:
    """The only reader of a node, if it looks at all elements in another way or copies them."""
    user = next(iter(node.users)) if len(node.users) == 1 else None
    if user is None or user not in stretch.nodes or not is_view(user):
        return None
    value, other = node.meta.get("val"), user.meta.get("val")
    if not isinstance(value, torch.Tensor) or not isinstance(other, torch.Tensor):
        return None
    return user if value.numel() == other.numel() else None


def _results(
    stretch: Stretch, inside: AbstractSet[fx.Node], shared: AbstractSet[fx.Node]
) -> tuple[tuple[fx.Node, ...], tuple[fx.Node, ...]]:
    """What others read: results, and views of them. Views of inputs stay where they are."""
    read = [n for n in stretch.nodes if n in inside - shared and set(n.users) - inside]
    views: dict[fx.Node, None] = {}
    bases: set[fx.Node] = set()
    for node in read:
        chain = [node]
        while chain[-1] in inside and (base := _base(chain[-1])) is not None:
            chain.append(base)
        if chain[-1] in inside - shared:
            bases.add(chain.pop())
            views.update(dict.fromkeys(chain))
    ordered = [node for node in stretch.nodes if node in bases or node in views]
    return tuple(n for n in ordered if n in bases), tuple(n for n in ordered if n in views)


def _base(node: fx.Node) -> fx.Node | None:
    """The operand that a node's value shares memory with."""
    memory = _memory(node)
    return next((s for s in node.all_input_nodes if memory and _memory(s) == memory), None)


def _memory(node: fx.Node) -> int | None:
    value = node.meta.get("val")
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else None


def _hull(seeds: set[fx.Node], nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """The seeds and what stands on paths between them."""
    after = set(seeds)
    for node in nodes:
        if any(source in after for source in node.all_input_nodes):
            after.add(node)
    return after & _before(seeds, nodes)


def _before(seeds: set[fx.Node], nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """The seeds and what they are computed from."""
    before = set(seeds)
    for node in reversed(nodes):
        if any(user in before for user in node.users):
            before.add(node)
    return before
