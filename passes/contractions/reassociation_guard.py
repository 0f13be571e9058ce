"""Re-association of a sum of squares of scores, with the guard that keeps its accuracy.

Scores s = A . B over d (A a query, B the keys), z = sum over x of s^2. With the Gram matrix
G = sum over x of B B^T this is A^T G A: O(d^2) a row instead of O(x d). Its rounding error is
eps * |A|^2 |G| against z, while that of the sum of squares is eps * |A| |G|^(1/2) against z^(1/2):
with t^2 = |A|^2 |G| / z it is worse by a factor t, and t is large for a row that is nearly
orthogonal to all keys. So z is clamped at 0, and rows with t^2 above a bound are computed again
from the scores, by a stream that runs only where it is wanted.

|G| is the Frobenius norm: at least the spectral norm, and less than the trace by the square root of
the rank, which tells a spread spectrum (t^2 about sqrt(d), no loss) from a narrow one. The bound
t^2 <= 8 sqrt(d) keeps the error below 4 times that of the sum of squares; it was measured on
Gaussian, decaying, rank-deficient, repeated and offset keys at d = 16, 64 and 128.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt

from diagc.algebra.dataflow import carries, reduced_axes
from diagc.algebra.expressions import Expr, call, constant, maximum, select, symbol
from diagc.algebra.expressions import sqrt as square_root
from diagc.algebra.graph import Graph
from diagc.algebra.maps import map_expr
from diagc.algebra.networks import Network, Order
from diagc.algebra.refusal import Refusal
from diagc.algebra.streams import Derivation, derive
from diagc.cost import UNKNOWN_SIZE
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.contractions.chain_search import Chain, Root
from diagc.passes.contractions.network_builder import NetworkBuilder
from diagc.passes.streams.stream_builder import build_stream

__all__ = ["GuardedScores", "chosen", "doubtful", "fallback", "guarded_scores", "guarded_values"]

_BOUND = 8.0
"""Largest t^2 / sqrt(d) of a row that keeps the re-associated result."""


@dataclass(frozen=True)
class GuardedScores:
    """A contraction (the scores) whose squares one root sums, and the axis that roots sum over."""

    contraction: ir.Operation
    square: Root
    axis: str
    queries: int


def guarded_scores(chain: Chain, contraction: ir.Operation) -> GuardedScores:
    """The parts that the guard needs of a chain that is not linear in the contraction.

    Raises:
        Refusal: a shape for which no guard is known.
    """
    degrees = {root.op: _degree(root.network, contraction) for root in chain.roots}
    squares = [root for root in chain.roots if degrees[root.op] == 2]
    if max(degrees.values()) > 2 or len(squares) != 1:
        raise Refusal("no guard is known for this power of a contraction", contraction)
    (square,) = squares
    axes = {axis for root in chain.roots for axis in reduced_axes(root.op)}
    if len(axes) != 1 or len(square.network.leaves) != 4 or square.network.number <= 0:
        raise Refusal("no guard is known for a sum of products of contractions", contraction)
    (axis,) = axes
    queries = [n for n, value in enumerate(contraction.operands) if not carries(value, axis)]
    if len(queries) != 1:
        raise Refusal(f'both operands of the scores carry axis "{axis}"', contraction)
    labels = set(diag.labels(square.op.results[0]))
    if any(not labels <= set(diag.labels(root.op.results[0])) for root in chain.roots):
        raise Refusal("a result lacks an axis that the guard varies along", contraction)
    scores = GuardedScores(contraction, square, axis, queries[0])
    _gram_step(scores)
    return scores


def _degree(net: Network, contraction: ir.Operation) -> int:
    """How often the contraction is a factor of a network."""
    left = contraction.operands[0]
    return sum(leaf.wire == left for leaf in net.leaves)


def fallback(chain: Chain, scores: GuardedScores, graph: Graph) -> Derivation:
    """The stream that computes all roots from the scores.

    Raises:
        Refusal: there is none.
    """
    return derive(graph, scores.axis, [root.op for root in chain.roots], chain.through)


def guarded_values(
    chain: Chain, scores: GuardedScores, graph: Graph, streamed: Derivation
) -> list[ir.Value]:
    """Emit all roots re-associated, with doubtful rows streamed; one value per root."""
    roots = [root.op for root in chain.roots]
    builders = [NetworkBuilder(root.network) for root in chain.roots]
    fast = [builder.part(root.order) for builder, root in zip(builders, chain.roots, strict=True)]
    at = chain.roots.index(scores.square)
    where = _doubtful(scores, builders[at], fast[at])
    exact = build_stream(streamed, graph, [], [op.results[0] for op in roots], where).results
    return [
        chosen(root.op, where, slow, value, _value(root, root is scores.square))
        for root, slow, value in zip(chain.roots, exact, fast, strict=True)
    ]


def _value(root: Root, is_square: bool) -> Expr:
    """A root as an expression of its network's value without the number, which is "fast"."""
    value = maximum(symbol("fast"), 0.0) if is_square else symbol("fast")
    return value if root.network.number == 1.0 else value * root.network.number


def chosen(
    root: ir.Operation, where: ir.Value, slow: ir.Value, fast: ir.Value, value: Expr
) -> ir.Value:
    """The streamed value of a root where it is doubtful, else an expression of "fast"."""
    result = root.results[0]
    return map_expr(
        select(symbol("doubtful"), symbol("slow"), value),
        {"doubtful": where, "slow": slow, "fast": fast},
        diag.element_type(fast),
        dtype=diag.element_type(result),
        result=diag.dims(result),
    )


def _doubtful(scores: GuardedScores, builder: NetworkBuilder, z: ir.Value) -> ir.Value:
    """Where t^2 = |A|^2 |G| / z is above the bound."""
    over = reduced_axes(scores.contraction)
    a = scores.contraction.operands[scores.queries]
    gram = _gram(scores, builder)
    copies = [axis for axis in diag.labels(gram) if axis not in diag.labels(z)]
    wires = {
        "a": diag.contract(a, a, over, dtype=builder.type),
        "g": diag.contract(gram, gram, copies, dtype=builder.type),
        "z": z,
    }
    depth = prod(_size(diag.dims(a)[axis]) for axis in over)
    bound = symbol("a") * square_root(symbol("g")) * (1.0 / (_BOUND * sqrt(depth)))
    return doubtful(bound, wires)


def doubtful(bound: Expr, wires: Mapping[str, ir.Value]) -> ir.Value:
    """Where the sum of squares `wires["z"]` is below a bound, as an i1 wire over its axes.

    The difference is NaN where both sides have overflown; such rows are doubtful too.
    """
    z = wires["z"]
    return map_expr(
        call("not", call("le", constant(0.0), symbol("z") - bound)),
        wires,
        diag.element_type(wires["a"]),
        dtype=ir.IntegerType.get_signless(1),
        result=diag.dims(z),
    )


def _size(size: int) -> int:
    return UNKNOWN_SIZE if size == diag.DYNAMIC else size


def _gram(scores: GuardedScores, builder: NetworkBuilder) -> ir.Value:
    """The Gram matrix of the keys: the same op as in the order of the network."""
    return builder.part(_gram_step(scores))


def _gram_step(scores: GuardedScores) -> Order:
    keys = scores.contraction.operands[1 - scores.queries]
    leaves = scores.square.network.leaves
    both = frozenset(n for n, leaf in enumerate(leaves) if leaf.wire == keys)
    for step in scores.square.order.steps():
        if step.part == both:
            return step
    raise Refusal("the cheapest order has no Gram matrix", scores.contraction)
