"""The guard of causal sums of squares that are cut at chunks and summed in f32.

The sum of squares over keys of earlier chunks is A^T P A with the Gram matrix P of their keys, whose
rounding error grows as t^2 = |A|^2 |P| / z, as in `reassociation_guard`. Products of two numbers of
16 bits are exact in f32, so tensor cores can sum P; rows with a large t^2 are computed again from
their scores, by a stream over all keys that runs only where it is wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from diagc.algebra.dataflow import carries, defining_op, reduced_axes
from diagc.algebra.expressions import symbol
from diagc.algebra.graph import Graph
from diagc.algebra.networks import Leaf, Network, Order
from diagc.algebra.refusal import Refusal
from diagc.algebra.streams import Derivation, derive
from diagc.cost import element_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.chain_search import MaskedChain, degree
from diagc.passes.chunk_axes import ChunkAxes
from diagc.passes.network_builder import is_placed
from diagc.passes.reassociation_guard import chosen, doubtful_rows
from diagc.passes.stream_builder import build_stream

__all__ = ["ChunkGuard", "chunk_guard", "gram_step"]

_NARROW = 2
"""Bytes of numbers whose products f32 holds exactly."""


@dataclass(frozen=True)
class ChunkGuard:
    """Of a chain with one root that sums squares.

    Args:
        chain: the chain.
        square: the place of that root.
        queries: the operand of the scores that has the row axis.
        streamed: the stream that computes all roots from the scores.
    """

    chain: MaskedChain
    square: int
    queries: int
    streamed: Derivation

    def values(
        self, graph: Graph, axes: ChunkAxes, totals: Sequence[ir.Value], gram: ir.Value
    ) -> list[ir.Value]:
        """The roots; those of doubtful rows from a stream of the scores.

        Args:
            graph: the block.
            axes: how rows and keys are cut.
            totals: the roots with cut axes.
            gram: for every chunk of rows, the Gram matrix of the keys of earlier chunks.
        """
        roots, scores = self.chain.roots, self.chain.contraction
        rows = axes.cut(scores.operands[self.queries])
        number = self.chain.networks[self.square].number
        doubtful = doubtful_rows(rows, reduced_axes(scores), gram, totals[self.square], number)
        where = axes.joined(doubtful, diag.dims(roots[self.square].results[0]))
        exact = build_stream(self.streamed, graph, [], [op.results[0] for op in roots], where)
        return [
            chosen(root, where, slow, axes.joined(total, diag.dims(root.results[0])), symbol("fast"))
            for root, slow, total in zip(roots, exact.results, totals, strict=True)
        ]


def chunk_guard(graph: Graph, chain: MaskedChain) -> ChunkGuard | None:
    """The guard of a chain whose squares may be summed in f32; None where they may not.

    They may where scores are products of two wires of 16 bits that every root sums over one axis.
    """
    op = chain.contraction
    degrees = [degree(net, op) for net in chain.networks]
    axes = {axis for net in chain.networks for axis, by in net.sums.items() if by != op}
    leaves = [leaf for net in chain.networks for leaf in net.leaves]
    if len(axes) != 1 or degrees.count(2) != 1 or any(not _is_narrow(leaf) for leaf in leaves):
        return None
    (axis,), square = axes, degrees.index(2)
    queries = [n for n, value in enumerate(op.operands) if not carries(value, axis)]
    labels = set(diag.labels(chain.roots[square].results[0]))
    known = all(labels <= set(diag.labels(root.results[0])) for root in chain.roots)
    if len(chain.networks[square].leaves) != 4 or len(queries) != 1 or not known:
        return None
    try:
        streamed = derive(graph, axis, chain.roots, {*chain.through, *_masks(chain)})
    except Refusal:
        return None
    return ChunkGuard(chain, square, queries[0], streamed)


def gram_step(net: Network, order: Order, axes: ChunkAxes) -> Order | None:
    """The step that multiplies all wires without the positions of rows: the Gram matrix of keys."""
    row = axes.names[axes.masks.row][1]
    part = frozenset(n for n, leaf in enumerate(net.leaves) if row not in leaf.axes)
    return next((step for step in order.steps() if step.part == part), None)


def _is_narrow(leaf: Leaf) -> bool:
    return element_bytes(diag.element_type(leaf.wire)) == _NARROW


def _masks(chain: MaskedChain) -> set[ir.Operation]:
    """What computes the causal masks: the stream computes them again."""
    found = {
        defining_op(condition.wire)
        for net in chain.networks
        for condition in net.conditions
        if not is_placed(net, condition)
    }
    return {op for op in found if op is not None}
