"""The guard of causal sums of squares that are cut at chunks and summed in f32.

The sum of squares over keys of earlier chunks is A^T P A with the Gram matrix P of these keys. Its
rounding error grows as t^2 = |A|^2 |P| / z, as in `reassociation_guard`. Products of two numbers of
16 bits are exact in f32, so tensor cores can sum P; rows with a large t^2 are computed again from
their scores, by a stream over all keys that runs only where it is wanted.

|P| is the trace here, which is at least the Frobenius norm: P is larger than what a kernel keeps,
its diagonal is a view. A spread spectrum has t^2 = d by it. The bound t^2 <= 8 d leaves a relative
error of 8 d eps(f32), 6e-5 at d = 128, below half a unit of f16 (2e-4) and of bf16 (2e-3).

Products of bf16 below 2^-126, of keys below 1e-19, are lost: up to n of them in each of d x d
sums, of norm d n 2^-126 together. In eps(f32) that is d n 2^-103, which is added to |P|: rows whose
z would be less than what may be lost are computed again too, whatever is left in P. What is judged
by |A|^2 is not seen where that is lost, of queries below 1e-19; nor are products of keys and values
below 2^-126, whose sums are parts of results of that size.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod

from diagc.algebra.dataflow import carries, defining_op, reduced_axes
from diagc.algebra.expressions import symbol
from diagc.algebra.graph import Graph
from diagc.algebra.networks import Leaf, Network, Order
from diagc.algebra.refusal import Refusal
from diagc.algebra.streams import Derivation, derive
from diagc.cost import element_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.contractions.chain_search import MaskedChain, degree
from diagc.passes.contractions.chunk_axes import ChunkAxes
from diagc.passes.contractions.network_builder import is_placed
from diagc.passes.contractions.reassociation_guard import chosen, doubtful
from diagc.passes.streams.stream_builder import build_stream

__all__ = ["ChunkGuard", "chunk_guard", "gram_step"]

_BOUND = 8.0
"""Largest t^2 / d of a row that keeps the result of states."""

_LOST = 2.0**-103
"""The least normal number of f32 in parts of its precision."""

_NARROW = 2
"""Bytes of numbers whose products f32 holds exactly."""


@dataclass(frozen=True)
class ChunkGuard:
    """Of a chain with one root that sums squares.

    Args:
        chain: the chain.
        square: the place of that root.
        queries: the operand of the scores that has the row axis.
        keys: the number of terms of that sum.
        streamed: the stream that computes all roots from the scores.
    """

    chain: MaskedChain
    square: int
    queries: int
    keys: int
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
        roots, square = self.chain.roots, self.chain.roots[self.square]
        where = self._doubtful(axes.cut(self._rows), totals[self.square], gram)
        where = axes.joined(where, diag.dims(square.results[0]))
        exact = build_stream(self.streamed, graph, [], [op.results[0] for op in roots], where)
        whole = [
            axes.joined(total, diag.dims(root.results[0]))
            for root, total in zip(roots, totals, strict=True)
        ]
        return [
            chosen(root, where, slow, fast, symbol("fast"))
            for root, slow, fast in zip(roots, exact.results, whole, strict=True)
        ]

    @property
    def _rows(self) -> ir.Value:
        return self.chain.contraction.operands[self.queries]

    def _doubtful(self, a: ir.Value, z: ir.Value, gram: ir.Value) -> ir.Value:
        """Where t^2 = |A|^2 |P| / z is above the bound, with what P may have lost."""
        over = reduced_axes(self.chain.contraction)
        depth = prod(diag.dims(a)[axis] for axis in over)
        number = self.chain.networks[self.square].number
        squares = diag.contract(a, a, over, dtype=diag.element_type(gram))
        wires = {"a": squares, "p": _trace(gram, diag.labels(z)), "z": z}
        norm = symbol("p") + _LOST * depth * self.keys
        return doubtful(symbol("a") * norm * (number / (_BOUND * depth)), wires)


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
    summed = reduced_axes(op)
    if len(summed) != 1 or diag.dims(op.operands[0])[summed[0]] == diag.DYNAMIC:
        return None  # the bound needs the number of terms
    queries = [n for n, value in enumerate(op.operands) if not carries(value, axis)]
    labels = set(diag.labels(chain.roots[square].results[0]))
    known = all(labels <= set(diag.labels(root.results[0])) for root in chain.roots)
    if len(chain.networks[square].leaves) != 4 or len(queries) != 1 or not known:
        return None
    try:
        streamed = derive(graph, axis, chain.roots, {*chain.through, *_masks(chain)})
    except Refusal:
        return None
    keys = chain.networks[square].sizes[axis]
    return ChunkGuard(chain, square, queries[0], keys, streamed)


def gram_step(net: Network, order: Order, axes: ChunkAxes) -> Order | None:
    """The step that multiplies all wires without the positions of rows: the Gram matrix of keys."""
    row = axes.names[axes.masks.row][1]
    part = frozenset(n for n, leaf in enumerate(net.leaves) if row not in leaf.axes)
    return next((step for step in order.steps() if step.part == part), None)


def _trace(gram: ir.Value, batch: Collection[str]) -> ir.Value:
    """The sum of the diagonal over the two axes that are not in `batch`: a view, then a sum."""
    first, second = (label for label in diag.labels(gram) if label not in batch)
    result = {label: size for label, size in diag.dims(gram).items() if label != second}
    place = {label: ir.AffineExpr.get_dim(n) for n, label in enumerate(result)}
    places = [place[first if label == second else label] for label in diag.labels(gram)]
    diagonal = diag.reindex(gram, result, ir.AffineMap.get(len(result), 0, places))
    return diag.reduce(diagonal, [first], "add")


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
