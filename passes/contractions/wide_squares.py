"""Sums of squares of scores by Gram matrices that are summed in f64.

Scores s = sum over d of A_d B_d, where B_d is a product of several wires that are summed over axes
of their own (pairs of keys, say): z = sum of s^2 = A^T G A with the elementwise product G of the
Gram matrices of these wires. Like every Gram matrix this squares the condition: z has the error
eps * |A|^2 |G|, where the sum of squares has eps * t with t^2 = |A|^2 |G| / z. In f64 that is
eps(f64) * t^2, less than eps(f32) * t for all t below 5e8, and above that scores in f32 have no
digit at all. So no row has to be computed again. z is clamped at 0.
"""

from collections import Counter
from collections.abc import Iterable

from diagc.algebra.dataflow import reduced_axes
from diagc.algebra.expressions import maximum, symbol
from diagc.algebra.maps import map_expr
from diagc.algebra.networks import Network, Order
from diagc.algebra.refusal import Refusal
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.contractions.chain_search import Chain, degree
from diagc.passes.contractions.network_builder import NetworkBuilder

__all__ = ["check_squares", "wide_value", "wide_values"]


def check_squares(networks: Iterable[Network], contraction: ir.Operation) -> None:
    """Check that what f64 keeps accurate are sums of squares.

    Raises:
        Refusal: a higher power, a sum of other products, scores in f64, or none with a sum.
    """
    if not reduced_axes(contraction):
        raise Refusal("scores without a sum have no Gram matrix", contraction)
    for net in networks:
        power = degree(net, contraction)
        if power > 2:
            raise Refusal("no guard is known for this power of a contraction", contraction)
        if power < 2:
            continue
        counts = Counter(leaf.wire for leaf in net.leaves)
        if net.number <= 0 or any(count % 2 for count in counts.values()):
            raise Refusal("no guard is known for a sum of products of contractions", contraction)
        if any(isinstance(diag.element_type(wire), ir.F64Type) for wire in counts):
            text = "squares of f64 scores would need a type wider than f64 to be summed apart"
            raise Refusal(text, contraction)


def wide_values(chain: Chain, contraction: ir.Operation) -> list[ir.Value]:
    """Emit all roots in their best orders, in f64; one value per root."""
    return [
        wide_value(root.network, root.order, root.op, degree(root.network, contraction) == 2)
        for root in chain.roots
    ]


def wide_value(net: Network, order: Order, root: ir.Operation, is_square: bool) -> ir.Value:
    """What a root gives, summed in f64, in the root's own type; at least 0 for a sum of squares."""
    f64 = ir.F64Type.get()
    value = NetworkBuilder(net, type_=f64).part(order)
    sizes = diag.dims(value)
    result = {axis: sizes[axis] for axis in net.result}
    expr = symbol("v") * net.number
    dtype = diag.element_type(root.results[0])
    bounded = maximum(expr, 0.0) if is_square else expr
    return map_expr(bounded, {"v": value}, f64, dtype=dtype, result=result)
