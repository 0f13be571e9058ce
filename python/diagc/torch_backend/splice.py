"""Put a call of a compiled function in the place of a region."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from diagc.errors import UnsupportedError
from diagc.runtime.saving_ops import CALLS
from diagc.torch_backend.regions import Region
from diagc.torch_backend.stretches import is_number, is_random

__all__ = ["Cut", "cut_out", "replace_region"]


@dataclass(frozen=True)
class Cut:
    """A region as a module of its own.

    Args:
        module: takes the values of `inputs`, gives the region's results: one, or a tuple; each
            contiguous, with its dims as they were in memory.
        inputs: tensors of the graph around it.
        region: what was cut out; it still stands in the graph.
    """

    module: fx.GraphModule
    inputs: tuple[fx.Node, ...]
    region: Region


def cut_out(region: Region) -> Cut:
    """Copy a region; sizes that it computes with are read off its inputs.

    Raises:
        UnsupportedError: a size that no input has, or a call that draws random numbers.
    """
    random = [node for node in region.nodes if is_random(node)]
    if random:
        raise UnsupportedError(str(random[0].target), reason="draws random numbers in a region")
    inside = set(region.nodes)
    sources = dict.fromkeys(s for node in region.nodes for s in node.all_input_nodes)
    inputs = tuple(s for s in sources if s not in inside and not is_number(s))
    copier = _Copier(inputs)
    for node in region.nodes:
        copier.copy(node)
    results = tuple(copier.result(node) for node in region.results)
    copier.graph.output(results[0] if len(results) == 1 else results)
    module = fx.GraphModule(torch.nn.Module(), copier.graph)
    return Cut(module, inputs, region)


class _Copier:
    """Copies nodes under names that depend on their targets alone, so that equal regions agree."""

    def __init__(self, inputs: Sequence[fx.Node]) -> None:
        self.graph = fx.Graph()
        self.inputs = inputs
        self.twins = {n: self.graph.placeholder(f"x{i}") for i, n in enumerate(inputs)}
        for node, twin in self.twins.items():
            twin.meta["val"] = node.meta.get("val")

    def copy(self, node: fx.Node) -> fx.Node:
        args = fx.map_arg(node.args, self._twin)
        kwargs = fx.map_arg(node.kwargs, self._twin)
        self.twins[node] = made = self.graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        made.meta.update({k: v for k, v in node.meta.items() if k in ("val", "stack_trace")})
        return made

    def result(self, node: fx.Node) -> fx.Node:
        """What the region gives for a node: see `Cut`."""
        twin, order = self.twins[node], _order(node)
        if order == sorted(order):
            return twin
        twin = self.graph.call_function(torch.ops.aten.permute.default, (twin, order))
        dense: dict[str, Any] = {"memory_format": torch.contiguous_format}
        return self.graph.call_function(torch.ops.aten.clone.default, (twin,), dense)

    def _twin(self, node: fx.Node) -> fx.Node:
        if node not in self.twins:
            self.twins[node] = self._size(node)
        return self.twins[node]

    def _size(self, node: fx.Node) -> fx.Node:
        value = node.meta["val"]
        for source in self.inputs:
            shape = getattr(source.meta.get("val"), "shape", ())
            for dim, size in enumerate(shape):
                if _same_size(size, value):
                    args = (self.twins[source], dim)
                    return self.graph.call_function(torch.ops.aten.sym_size.int, args)
        if node.op != "call_function" or not all(map(is_number, node.all_input_nodes)):
            raise UnsupportedError("a region", reason=f"no input of it has the size {value}")
        return self.copy(node)


def _same_size(left: Any, right: Any) -> bool:
    symbolic = isinstance(left, torch.SymInt) and isinstance(right, torch.SymInt)
    return symbolic and bool(left.node.expr == right.node.expr)


def replace_region(graph: fx.Graph, cut: Cut, key: str, *, saving: bool = False) -> None:
    """Let others read the results of the compiled function `key` in place of the region's.

    Args:
        graph: has the region.
        cut: from it.
        key: of the compiled function.
        saving: whether the call also gives what its gradients need.

    Raises:
        UnsupportedError: something reads a result before all inputs are there.
    """
    region = cut.region
    position = {node: i for i, node in enumerate(graph.nodes)}
    last = region.nodes[-1]
    read = (*region.results, *region.views)
    users = {u for node in read for u in node.users if u not in region.nodes}
    # not further down than it was: something may be written or switched there
    place = min((*users, last.next), key=position.__getitem__)
    sources = {s for view in region.views for s in view.all_input_nodes if s not in read}
    late = [node for node in (*cut.inputs, *sources) if position[node] >= position[place]]
    if late:
        reason = f"'{place.name}' reads a result before '{late[0].name}', an input, is computed"
        raise UnsupportedError("a region", reason=reason)
    with graph.inserting_before(place):
        call = graph.call_function(CALLS[saving], (list(cut.inputs), key))
        new = {node: _pick(graph, call, i, node) for i, node in enumerate(region.results)}
        call.meta["val"] = [made.meta["val"] for made in call.users]
        for node in region.results:
            new[node] = _ordered(graph, new[node], node)
        for view in region.views:
            new[view] = graph.node_copy(view, lambda node: new.get(node, node))
    for node, made in new.items():
        node.replace_all_uses_with(made, lambda user: user in users)


def _pick(graph: fx.Graph, call: fx.Node, number: int, result: fx.Node) -> fx.Node:
    made = graph.call_function(operator.getitem, (call, number))
    made.meta["val"] = _value(result).permute(_order(result))
    return made


def _ordered(graph: fx.Graph, made: fx.Node, result: fx.Node) -> fx.Node:
    """The result as it was: with its dims in their places, and with its strides."""
    order = _order(result)
    if order == sorted(order):
        return made
    back = [order.index(dim) for dim in range(len(order))]
    twin = graph.call_function(torch.ops.aten.permute.default, (made, back))
    twin.meta["val"] = result.meta["val"]
    return twin


def _order(node: fx.Node) -> list[int]:
    """Dims from the slowest to the fastest in memory; a later view or write may count on it."""
    strides = [s.node.hint if isinstance(s, torch.SymInt) else s for s in _value(node).stride()]
    return sorted(range(len(strides)), key=lambda dim: -strides[dim])


def _value(node: fx.Node) -> torch.Tensor:
    value: torch.Tensor = node.meta["val"]
    return value
