"""Fusion of loop nodes into nests: at most one contraction at the head, pointwise work behind."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from diagc.mlir import ir
from diagc.targets.cpu.nodes import LoopNode
from diagc.targets.cpu.places import Memory

__all__ = ["Group", "group_nodes"]


@dataclass
class Group:
    """Nodes that share one loop nest.

    Args:
        vector: the axis that vectors run along, None for a scalar nest.
        pairs: for a head contraction by bf16 dot products: the summed axis.
        inner_vector: for a head contraction that sums along its vectors: that axis.
        domain: labels of the nest, without the vector axis.
        over: labels that the reductions of the nest sum away (may include the vector axis).
        beside: rows of a stream that later nests read; this one asks for them beside its own.
        asked: whether an earlier nest has asked for the rows that this one reads.
    """

    vector: str | None
    domain: tuple[str, ...]
    nodes: list[LoopNode] = field(default_factory=list)
    over: frozenset[str] | None = None
    head: LoopNode | None = None
    inner_vector: str | None = None
    pairs: str | None = None
    beside: tuple[Memory, ...] = ()
    asked: bool = False

    def accepts(self, node: LoopNode, vector: str | None) -> bool:
        """Whether a pointwise or reducing node fits this nest."""
        if self.inner_vector is not None or node.is_contraction or vector != self.vector:
            return False
        if set(_without(node.domain, vector)) != set(self.domain):
            return False
        return not node.over or self.over is None or self.over == frozenset(node.over)

    def add(self, node: LoopNode) -> None:
        """Put a node at the end of the nest."""
        self.nodes.append(node)
        if node.over:
            self.over = frozenset(node.over)

    @property
    def head_inputs(self) -> tuple[ir.Value, ...]:
        """Operands of the head contraction, if there is one."""
        return () if self.head is None else self.head.inputs

    @property
    def results(self) -> list[ir.Value]:
        """Every wire that the nest computes."""
        return [node.result for node in self.nodes]


def _without(labels: Iterable[str], label: str | None) -> tuple[str, ...]:
    return tuple(name for name in labels if name != label)


def group_nodes(
    nodes: Sequence[LoopNode],
    choose: Callable[[LoopNode], str | None],
    outside: frozenset[str],
    source: Callable[[ir.Value], ir.Value],
    must_follow: Mapping[ir.Operation, Sequence[ir.Operation]],
) -> list[Group]:
    """Fuse nodes greedily, in program order, into the earliest nest that may hold them.

    `source` follows aliases to the value that a wire is another view of. A value that is read
    through an alias, by a contraction, or after a reduction must be complete before, so its reader
    goes into a later nest. An op in `must_follow` overwrites what the ops listed there read, so it
    goes into no earlier nest than they.
    """
    groups: list[Group] = []
    home: dict[ir.Value, tuple[int, LoopNode]] = {}
    for node in nodes:
        vector = choose(node)
        first = 0
        for value in node.inputs:
            origin = source(value)
            if origin in home:
                index, producer = home[origin]
                direct = origin == value and not producer.over and not node.is_contraction
                first = max(first, index if direct else index + 1)
        for reader in must_follow.get(node.op, ()):
            first = max([first, *(i for i, n in home.values() if n.op == reader)])
        index = _place(groups, node, vector, first, outside)
        home[node.result] = (index, node)
    return groups


def _place(
    groups: list[Group], node: LoopNode, vector: str | None, first: int, outside: frozenset[str]
) -> int:
    local = _strip(node, outside)
    for index in range(first, len(groups)):
        if groups[index].accepts(local, vector):
            groups[index].add(local)
            return index
    groups.append(_new_group(local, vector))
    return len(groups) - 1


def _strip(node: LoopNode, outside: frozenset[str]) -> LoopNode:
    """The node without axes that are fixed in a task."""
    domain = tuple(label for label in node.domain if label not in outside)
    return LoopNode(node.op, node.inputs, domain, node.over, node.inner)


def _new_group(node: LoopNode, vector: str | None) -> Group:
    if node.is_contraction and vector in node.inner:
        return Group(None, node.domain, [node], head=node, inner_vector=vector)
    group = Group(vector, _without(node.domain, vector), head=node if node.is_contraction else None)
    group.add(node)
    return group
