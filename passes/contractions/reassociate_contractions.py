"""Contract chains in the cheapest order, through linear maps and through sums of squares.

Before (spherical attention; `%z` is the sum of squared scores):

    %s = "diag.contract"(%q, %k) {over = ["d"]}
    %p = "diag.map"() ({ s * s })
    %z = "diag.reduce"(%p) {over = ["x"], kind = "add"}
    %o = "diag.contract"(%s, %v) {over = ["x"]}

After:

    %g  = "diag.contract"(%k, %k') {over = ["x"]}         // k' is k with d renamed
    %t  = "diag.contract"(%q', %g) {over = ["d'"]}
    %z1 = "diag.contract"(%q, %t) {over = ["d"]}
    %m  = "diag.contract"(%k, %v) {over = ["x"]}
    %o1 = "diag.contract"(%q, %m) {over = ["d"]}
    %w  = "diag.map"() ({ z1 < c * |q|^2 * |g| })         // rows that may have lost accuracy
    %z2, %o2 = "diag.stream"(%w) ...                      // z and o from scores, where w holds
    %z  = "diag.map"() ({ select(w, z2, max(z1, 0)) })
    %o  = "diag.map"() ({ select(w, o2, o1) })

Scores of several keys (q * k1 * k2, summed over d) are re-associated alike, and sums under a causal
mask are cut at chunks, so that states of earlier chunks are summed first (`chunked_sums.py`).

Requires: everybody who reads the contraction sums its products with other wires: constants, other
factors, squares, `select(keep, s, 0)` with a mask that one operand has the axes of (it becomes
zeroed rows of that operand), or a causal one over static axes. Run on functions. Sums of products
are in f32, in f64 for f64. A sum of squares needs a guard: that of `reassociation_guard.py` for
scores of two wires (`chunk_guard.py` in chunks, of 16 bits), f64 for others (`wide_squares.py`);
option `reassociate=exact` shortens only linear chains, `reassociate=off` nothing. With option
`wide-squares` f64 is the guard of all, for streams have no derivatives.

Declines: an order that saves less than a third of the time of a linear chain, or of the operations
of squares (dynamic axes count as long); an axis of squares shorter than the matrices that would
replace it; any other function of a contraction, such as exp; masks over both its operands that are
not causal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from diagc.algebra.graph import Graph
from diagc.algebra.refusal import Refusal
from diagc.cost import UNKNOWN_SIZE
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.contractions.chain_cost import GAIN, saves_time
from diagc.passes.contractions.chain_search import (
    Chain,
    MaskedChain,
    Root,
    chain_above,
    chain_beside,
    chains_below,
    degree,
    is_sum,
    masked_chain,
)
from diagc.passes.contractions.chunked_sums import chunked_sums
from diagc.passes.contractions.network_builder import NetworkBuilder
from diagc.passes.contractions.product_choice import choose_products
from diagc.passes.contractions.reassociation_guard import fallback, guarded_scores, guarded_values
from diagc.passes.contractions.wide_squares import check_squares, wide_value, wide_values
from diagc.passes.remarks import declined, done
from diagc.passes.replacing import replace_ops, unneeded

__all__ = ["ReassociateContractionsPass"]

CHOICES = ("auto", "exact", "off")


@dataclass(frozen=True)
class ReassociateContractionsPass(Pass):
    """Contract chains in the cheapest order, through linear maps and through sums of squares."""

    name: ClassVar[str] = "reassociate-contractions"
    reassociate: str = "auto"
    wide_squares: bool = False
    """For gradients: no guards that are streams, and what is linear in scores goes without them."""

    def __post_init__(self) -> None:
        """Check the option.

        Raises:
            PassError: it has another value.
        """
        self.check_choice("reassociate", CHOICES)

    def run(self, op: ir.Operation) -> None:
        """Rewrite every chain of the function that gets cheaper, once."""
        if self.reassociate == "off":
            return
        for block in op.regions[0].blocks:
            left: int | None = len(list(block.operations))
            while left is not None:
                left = self._rewrite_one(op, block, left)
            if self.wide_squares:
                _rewrite_beside(block)
            choose_products(block)

    def _rewrite_one(self, function: ir.Operation, block: ir.Block, left: int) -> int | None:
        """Rewrite the last chain that gets cheaper among the first `left` ops of the block.

        Gives the number of ops before those that are known not to be in such a chain.
        """
        with_squares = self.reassociate == "auto"
        graph = Graph(block)
        count = len(graph.ops)
        for position in reversed(range(left)):
            op = graph.ops[position]
            chain = chain_above(graph, op) if is_sum(op) else None
            if chain is not None and saves_time(chain):
                _rewrite_linear(graph, chain)
                return position  # the network is in its best order; searching it again may not end
            masked = masked_chain(graph, op) if with_squares else None
            if masked is not None:
                if _rewrite_masked(function, graph, masked, self.wide_squares):
                    return position  # what is left are short sums
                graph = Graph(block)
                continue
            chain = _cheapest_below(graph, op) if with_squares else None
            if chain is not None:
                last = graph.position[chain.roots[-1].op]
                if _rewrite_squares(function, graph, chain, op, self.wide_squares):
                    return len(list(block.operations)) - (count - 1 - last)
                graph = Graph(block)  # a remark changes the hash of its op
        return None


def _cheapest_below(graph: Graph, op: ir.Operation) -> Chain | None:
    """The chain of contraction `op` and its consumers that saves most, when one saves enough."""
    if op.name != "diag.contract":
        return None
    found = [chain for chain in chains_below(graph, op) if _saves_operations(chain, op)]
    return min((c for c in found if c.before), key=lambda c: c.after / c.before, default=None)


# ---- when it pays -------------------------------------------------------------------------------


def _saves_operations(chain: Chain, contraction: ir.Operation) -> bool:
    """Whether the new order takes clearly fewer operations, and no short axis is summed first."""
    return chain.before >= GAIN * chain.after and all(
        _sums_long_axes(root, root.outer_sums(contraction)) for root in chain.roots
    )


def _sums_long_axes(root: Root, axes: set[str]) -> bool:
    """Whether those of `axes` that the new order sums first are longer than what is left.

    Else the matrix that takes the place of the keys is larger than they are.
    """
    net = root.network
    for step in root.order.steps():
        if step.parts is None or len(step.part) == len(net.leaves):
            continue
        left, right = (net.kept(part.part) for part in step.parts)
        kept = net.kept(step.part)
        width = sum(_size(net.sizes[a]) for a in kept if not (a in left and a in right))
        for axis in axes:
            if axis in left and axis not in kept and _size(net.sizes[axis]) < width:
                return False
    return True


def _size(size: int) -> int:
    return UNKNOWN_SIZE if size == diag.DYNAMIC else size


def _saved(chain: Chain) -> str:
    """How many operations the new order takes; open sizes are taken as `UNKNOWN_SIZE`."""
    return f"{chain.after:.3g} instead of {chain.before:.3g} operations"


# ---- rewriting ----------------------------------------------------------------------------------


def _rewrite_linear(graph: Graph, chain: Chain, *, wide: bool = False) -> None:
    """Emit the network of the one root in its best order; `wide`: summed in f64."""
    (root,) = chain.roots
    done(root.op, f"contracted in another order: {_saved(chain)}")
    result = root.op.results[0]

    def build() -> list[ir.Value]:
        if wide:
            return [wide_value(root.network, root.order, root.op, False)]
        builder = NetworkBuilder(root.network)
        return [builder.whole(root.order, diag.element_type(result))]

    gone = unneeded(graph, [root.op], list(chain.through))
    replace_ops(graph, [root.op], gone, [result], build)


def _rewrite_beside(block: ir.Block) -> None:
    """Contract without the scores what is linear in them, though others read them.

    In f64 for f32: with keys of one offset the sum over them is large, and the other readers' part
    of a gradient cancels it (error 7 times eager's in f32, keys of mean 50 and deviation 1).
    """
    for root in reversed(Graph(block).ops):
        graph = Graph(block)  # an op that is rewritten has another hash
        chain = chain_beside(graph, root) if root.name == "diag.contract" else None
        if chain is not None and chain.before >= GAIN * chain.after and saves_time(chain):
            _rewrite_linear(graph, chain, wide=_is_f32(root))


def _is_f32(op: ir.Operation) -> bool:
    return isinstance(diag.element_type(op.results[0]), ir.F32Type)


def _rewrite_squares(
    function: ir.Operation, graph: Graph, chain: Chain, contraction: ir.Operation, wide: bool
) -> bool:
    """Emit all roots of a contraction without it, guarded; whether that was possible."""
    if all(degree(root.network, contraction) < 2 for root in chain.roots):
        return False
    try:
        build, guard = _guarded(graph, chain, contraction, wide)
    except Refusal as refusal:
        declined(function, contraction, f"not contracted in another order: {refusal}")
        return False
    roots = [root.op for root in chain.roots]
    text = "contracted before the statistic, whose squares are summed by a Gram matrix"
    done(contraction, f"{text}: {_saved(chain)}; {guard}")
    gone = unneeded(graph, roots, list(chain.through))
    replace_ops(graph, roots, gone, [op.results[0] for op in roots], build)
    return True


def _rewrite_masked(function: ir.Operation, graph: Graph, chain: MaskedChain, wide: bool) -> bool:
    """Cut sums under a causal mask at chunks, where that saves enough; whether it was done."""
    op = chain.contraction
    try:
        check_squares(chain.networks, op)
        way = chunked_sums(graph, chain, wide=wide)
    except Refusal as refusal:
        declined(function, op, f"not cut into chunks: {refusal}")
        return False
    if way.before < GAIN * way.cost:
        declined(function, op, f"not cut into chunks: that would take {way.saved}")
        return False
    text = f"chunks of {way.axes.size} positions, states of earlier chunks summed first"
    guard = "" if way.guard is None else "; rows that would lose accuracy are streamed"
    done(op, f"{text}: {way.saved}{guard}")
    gone = unneeded(graph, chain.roots, list(chain.through))
    old = [root.results[0] for root in chain.roots]
    replace_ops(graph, chain.roots, gone, old, partial(way.values, graph))
    return True


def _guarded(
    graph: Graph, chain: Chain, contraction: ir.Operation, wide: bool
) -> tuple[Callable[[], list[ir.Value]], str]:
    """What emits the roots with a guard for their accuracy, and the guard in words.

    A stream of scores is the guard where it keeps one row of them at a time, f64 elsewhere.

    Raises:
        Refusal: no guard is known.
    """
    if not wide and _is_one_row(chain, contraction):
        scores = guarded_scores(chain, contraction)
        derivation = fallback(chain, scores, graph)
        build = partial(guarded_values, chain, scores, graph, derivation)
        return build, "rows that would lose accuracy are streamed"
    check_squares([root.network for root in chain.roots], contraction)
    return partial(wide_values, chain, contraction), "in f64, which loses no accuracy"


def _is_one_row(chain: Chain, contraction: ir.Operation) -> bool:
    """Whether scores are a product of two wires that every root sums over the same single axis."""
    sums = {tuple(sorted(root.outer_sums(contraction))) for root in chain.roots}
    return (
        len(sums) == 1
        and len(sums.pop()) == 1
        and all(len(root.network.leaves) <= 4 for root in chain.roots)
    )
