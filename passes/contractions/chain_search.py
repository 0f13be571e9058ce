"""Finds contractions whose results are only contracted again, and what they cost in any order.

A *chain* is a set of roots (contractions and sums) with the ops `through` which they are taken
apart: contractions, relabels, and maps that are products. Two kinds are looked for: one root with
all producers that nobody else reads, and one contraction with all its consumers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.graph import Graph
from diagc.algebra.networks import (
    LARGEST_NETWORK,
    Network,
    Order,
    cheapest,
    network,
    product_of,
)
from diagc.cost import UNKNOWN_SIZE, elements, op_flops
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.contractions.network_builder import can_place_conditions

__all__ = [
    "Chain",
    "MaskedChain",
    "Root",
    "chain_above",
    "chain_beside",
    "chains_below",
    "degree",
    "is_sum",
    "masked_chain",
]


@dataclass(frozen=True)
class Root:
    """A contraction or sum as a network in its cheapest order."""

    op: ir.Operation
    network: Network
    order: Order

    def outer_sums(self, contraction: ir.Operation) -> set[str]:
        """Axes of the network that are summed by other ops than `contraction`, the scores."""
        return {axis for axis, op in self.network.sums.items() if op != contraction}


@dataclass(frozen=True)
class Chain:
    """Roots and what is taken apart; costs are operations, `before` as it is, `after` at best."""

    roots: tuple[Root, ...]
    through: frozenset[ir.Operation]
    before: float
    after: float


@dataclass(frozen=True)
class MaskedChain:
    """Sums of a contraction under masks that no single wire has the axes of, one network each."""

    contraction: ir.Operation
    roots: tuple[ir.Operation, ...]
    networks: tuple[Network, ...]
    through: frozenset[ir.Operation]

    @property
    def has_squares(self) -> bool:
        """Whether some root sums squares of the scores."""
        return any(degree(net, self.contraction) > 1 for net in self.networks)


def is_sum(op: ir.Operation) -> bool:
    """Whether `op` is a contraction, or a sum of floats."""
    if op.name == "diag.contract":
        return True
    is_add = op.name == "diag.reduce" and op.attributes["kind"].value == "add"
    return is_add and diag.is_float(diag.element_type(op.results[0]))


def degree(net: Network, contraction: ir.Operation) -> int:
    """How often the scores, which `contraction` gives, are a factor of a network."""
    axes = [axis for axis, op in net.sums.items() if op == contraction]
    return len(axes) // max(1, len(reduced_axes(contraction)))


def chain_above(graph: Graph, root: ir.Operation) -> Chain | None:
    """The chain of one root with the contractions, relabels and products that only it reads."""
    through: set[ir.Operation] = set()
    stack = list(root.operands)
    while stack:
        op = defining_op(stack.pop())
        if op is None or op in through or not (op.name == "diag.contract" or _passes(op)):
            continue
        if all(user in through or user == root for user in graph.users(op.results[0])):
            through.add(op)
            stack.extend(graph.reads[op])
    while through:
        net = network(root, through)
        if net is None or len(net.leaves) <= LARGEST_NETWORK:
            break
        through.discard(min(through, key=graph.position.__getitem__))
    return _chain([root], through)


def chain_beside(graph: Graph, root: ir.Operation) -> Chain | None:
    """The chain of one root with a contraction that it reads, which others read and so stays.

    What it costs as it is, is the root alone.
    """
    shared = [
        op
        for op in map(defining_op, root.operands)
        if op is not None and op.name == "diag.contract" and len(graph.users(op.results[0])) > 1
    ]
    chain = _chain([root], {shared[0]}) if len(shared) == 1 else None
    return None if chain is None else replace(chain, before=float(op_flops(root)))


def chains_below(graph: Graph, contraction: ir.Operation) -> list[Chain]:
    """The chains of one contraction with all its consumers, when each is, or ends in, a sum.

    The second of two takes apart, besides, the products that feed the contraction and are larger
    than what they read: outer products, such as pairs of keys.
    """
    found = _consumers(graph, contraction)
    if found is None:
        return []
    roots, through = found
    chains = [_chain(roots, through)]
    wider = through | _outer_products(graph, contraction, through)
    if wider != through:
        chains.append(_chain(roots, wider))
    return [chain for chain in chains if chain is not None]


def masked_chain(graph: Graph, contraction: ir.Operation) -> MaskedChain | None:
    """The chain of one contraction with all its consumers, where masks couple its operands."""
    found = _consumers(graph, contraction) if contraction.name == "diag.contract" else None
    if found is None:
        return None
    roots, through = found
    through |= _outer_products(graph, contraction, through)
    networks = []
    for root in roots:
        net = network(root, through)
        if net is None or len(net.leaves) > LARGEST_NETWORK or can_place_conditions(net):
            return None
        networks.append(net)
    if not roots or any(op.name == "diag.relabel" for op in through):
        return None
    return MaskedChain(contraction, tuple(roots), tuple(networks), frozenset(through))


def _consumers(
    graph: Graph, contraction: ir.Operation
) -> tuple[list[ir.Operation], set[ir.Operation]] | None:
    """The sums that the results of a contraction end in, and the ops on the way.

    None where another op reads the results, or a sum reads another (as `s @ f(s @ v)` does): all
    are replaced at once.
    """
    through, roots = {contraction}, []
    stack = [contraction]
    while stack:
        for user in graph.users(stack.pop().results[0]):
            if user in through or user in roots:
                continue
            if is_sum(user) and not _is_summed_again(graph, user):
                roots.append(user)
            elif is_sum(user) or _passes(user):
                through.add(user)
                stack.append(user)
            else:
                return None
    roots = graph.in_order(roots)
    return None if graph.after(roots).intersection(roots) else (roots, through)


def _is_summed_again(graph: Graph, op: ir.Operation) -> bool:
    """Whether only one contraction reads a contraction: both sum one product."""
    users = graph.users(op.results[0])
    return op.name == "diag.contract" and [user.name for user in users] == ["diag.contract"]


def _outer_products(
    graph: Graph, op: ir.Operation, through: set[ir.Operation]
) -> set[ir.Operation]:
    """Products that only `op` reads, through each other, and that are larger than what they read.

    A factor of a normaliser, say, is no such product: it stays where it is computed.
    """
    found: set[ir.Operation] = set()
    stack = list(graph.reads[op])
    while stack:
        value = stack.pop()
        producer = defining_op(value)
        if producer is None or producer.name != "diag.map" or not _passes(producer):
            continue
        read = sum(map(elements, graph.reads[producer]))
        users = graph.users(value)
        if elements(value) > read and all(u == op or u in through | found for u in users):
            found.add(producer)
            stack.extend(graph.reads[producer])
    return found


def _passes(op: ir.Operation) -> bool:
    """Whether an op is linear or a product in what it reads."""
    if op.name == "diag.map":
        return diag.is_float(diag.element_type(op.results[0])) and product_of(op) is not None
    return op.name == "diag.relabel"


def _chain(roots: Iterable[ir.Operation], through: set[ir.Operation]) -> Chain | None:
    if not any(op.name == "diag.contract" for op in through):
        return None
    found: list[Root] = []
    for op in roots:
        net = network(op, through)
        if net is None or len(net.leaves) > LARGEST_NETWORK or not can_place_conditions(net):
            return None
        found.append(Root(op, net, cheapest(net, UNKNOWN_SIZE)))
    before = float(sum(map(op_flops, [*through, *(root.op for root in found)])))
    after = sum(root.order.cost for root in found)
    return Chain(tuple(found), frozenset(through), before, after) if found else None
