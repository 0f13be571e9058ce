"""Stretches of a graph without side effects, each as a program that the front end can raise."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from diagc.errors import SourceLocation
from diagc.frontend.torch.aten import Input, Program, bind_schema
from diagc.frontend.torch.captured import tensor_type
from diagc.frontend.torch.from_fx import from_fx
from diagc.frontend.torch.recorder import LOCATION
from diagc.torch_backend.graph import KIND

__all__ = [
    "Stretch",
    "is_item",
    "is_number",
    "is_pure",
    "is_random",
    "is_view",
    "read",
    "size_hints",
    "stretches",
]

# calls that only look at their operand in another way: they are cheap to make again
_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "reshape", "_unsafe_view", "transpose", "permute", "t", "mT", "unsqueeze"),
        *("squeeze", "expand", "select", "slice", "contiguous", "flatten", "unflatten", "alias"),
        *("movedim", "swapaxes", "expand_as", "view_as", "detach", "clone", "numpy_T"),
    )
)

_FILE = "<graph>"
"""In place of a file, where a line is the number of a node."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive calls between which nothing is written, branched on or switched."""

    nodes: tuple[fx.Node, ...]

    def results(self) -> list[fx.Node]:
        """Tensors that something after the stretch reads."""
        inside = set(self.nodes)
        return [
            node
            for node in self.nodes
            if isinstance(node.meta.get("val"), torch.Tensor) and set(node.users) - inside
        ]


def stretches(graph: fx.Graph) -> Iterator[Stretch]:
    """All stretches, in order."""
    nodes: list[fx.Node] = []
    for node in graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            continue
        if is_pure(node):
            nodes.append(node)
            continue
        if nodes:
            yield Stretch(tuple(nodes))
        nodes = []


def is_pure(node: fx.Node) -> bool:
    """Whether a node may be moved: an ATen call that writes nothing, or arithmetic of sizes."""
    if node.op != "call_function":
        return False
    if isinstance(node.target, torch._ops.OpOverload):
        return not node.target._schema.is_mutable
    return is_number(node) or is_item(node)


def is_random(node: fx.Node) -> bool:
    """Whether a call draws random numbers; dropout that is off does not."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    if torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    given = bind_schema(target, node.args, node.kwargs)
    rates = [given[name] for name in ("p", "dropout_p") if name in given]
    return not rates or (rates[0] != 0 and bool(given.get("train", True)))


def is_view(node: fx.Node) -> bool:
    """Whether a call only looks at its operand in another way, or copies it."""
    packet = ".".join(str(node.target).split(".")[:2])
    return isinstance(node.target, torch._ops.OpOverload) and packet in _VIEWS


def is_item(node: fx.Node) -> bool:
    """Whether a node picks one of several results of another."""
    return node.target is operator.getitem


def is_number(node: fx.Node) -> bool:
    """Whether the value is a size or another number."""
    numbers = (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)
    return isinstance(node.meta.get("val"), numbers)


def read(stretch: Stretch) -> Program:
    """The stretch as a list of ATen calls that are located at `<graph>:number of the node`.

    Raises:
        UnsupportedError: a call of another kind.
    """
    graph = fx.Graph()
    twins: dict[fx.Node, fx.Node] = {}
    inputs: list[Input] = []

    def twin(node: fx.Node) -> fx.Node:
        if node not in twins:
            twins[node] = made = graph.placeholder(node.name)
            made.meta["val"] = node.meta.get("val")
            type_ = tensor_type(made.meta["val"])
            if type_ is not None:
                kind = node.meta.get(KIND, "user")
                inputs.append(Input(made.name, type_, kind, node.name, len(inputs)))
        return twins[node]

    for number, node in enumerate(stretch.nodes):
        for source in node.all_input_nodes:
            twin(source)
        twins[node] = copy = graph.node_copy(node, twin)
        copy.meta[LOCATION] = SourceLocation(_FILE, number + 1, 1)
    graph.output(tuple(twins[node] for node in stretch.results()))
    return from_fx(graph, inputs, _symbols(stretch.nodes))


def size_hints(stretch: Stretch) -> dict[str, int]:
    """Sizes of the symbols in the call that the graph was traced for."""
    return {
        str(size.node.expr): int(size.node.hint)
        for size in _open_sizes(stretch.nodes)
        if size.node.expr.is_Symbol and size.node.hint is not None
    }


def _symbols(nodes: Sequence[fx.Node]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for size in _open_sizes(nodes):
        found.update((str(s), (2, 2**62)) for s in size.node.expr.free_symbols)
    return found


def _open_sizes(nodes: Sequence[fx.Node]) -> Iterator[torch.SymInt]:
    for node in nodes:
        for source in (node, *node.all_input_nodes):
            sizes = getattr(source.meta.get("val"), "shape", ())
            yield from (size for size in sizes if isinstance(size, torch.SymInt))
