"""Which factor of a product of three is multiplied first: the one whose axis is summed last.

s[q, j, k] = sum over d of A[q, d] B[j, d] C[k, d] needs a product of two of its wires, which is as
large as it has axes. A stream sums one axis chunk by chunk, the one that is summed last; a product
that carries this axis exists one chunk at a time, any other one is stored whole.

Before (`%s` is summed over j first, over k last):

    %m = "diag.map"() ({ a * b })                      // over q d j
    %s = "diag.contract"(%m, %c) {over = ["d"]}

After:

    %m = "diag.map"() ({ a * c })                      // over q d k
    %s = "diag.contract"(%m, %b) {over = ["d"]}
"""

from collections.abc import Sequence
from dataclasses import dataclass

from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.expressions import Expr, constant, symbol
from diagc.algebra.graph import Graph
from diagc.algebra.maps import map_expr, statistic_type
from diagc.algebra.networks import product_of
from diagc.cost import elements
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.replacing import replace_ops, unneeded

__all__ = ["choose_products"]


@dataclass(frozen=True)
class Swap:
    """A contraction of `number` times `kept` times `other`, with `apart` as the second operand."""

    contraction: ir.Operation
    product: ir.Operation
    number: float
    kept: tuple[ir.Value, ...]
    apart: ir.Value
    other: ir.Value


def choose_products(block: ir.Block) -> None:
    """Swap factors of all products of the block whose stored axis is summed before the other."""
    graph = Graph(block)
    for op in graph.ops:
        found = _swap(graph, op) if op.name == "diag.contract" else None
        if found is not None:
            _apply(graph, found)
            graph = Graph(block)


def _swap(graph: Graph, op: ir.Operation) -> Swap | None:
    for value, other in (tuple(op.operands), tuple(op.operands)[::-1]):
        product = defining_op(value)
        if product is None or product.name != "diag.map" or graph.users(value) != [op]:
            continue
        read = product_of(product)
        if read is None or read[0].conditions or len(read[0].factors) < 2:
            continue
        number, factors = read[0].number, [read[1][name] for name in read[0].factors]
        for apart in factors:
            kept = list(factors)
            kept.remove(apart)
            swap = Swap(op, product, number, tuple(kept), apart, other)
            if _is_better(graph, swap):
                return swap
    return None


def _is_better(graph: Graph, swap: Swap) -> bool:
    """Whether the new product carries an axis that is summed later than what the old one stores."""
    over = set(reduced_axes(swap.contraction))
    rest = {label for value in swap.kept for label in diag.labels(value)}
    old = _own(swap.apart, rest | set(diag.labels(swap.other)))
    new = _own(swap.other, rest | set(diag.labels(swap.apart)))
    if not over <= set(diag.labels(swap.apart)) or len(old) != 1 or len(new) != 1:
        return False
    size = elements(diag.join_dims(map(diag.dims, (*swap.kept, swap.other))))
    if size > elements(swap.product.results[0]):
        return False
    last = [_last_sum(graph, swap.contraction, axis) for axis in (old[0], new[0])]
    return last[0] is not None and last[1] is not None and last[0] < last[1]


def _own(value: ir.Value, others: set[str]) -> list[str]:
    """Axes of a wire that no other has."""
    return [label for label in diag.labels(value) if label not in others]


def _last_sum(graph: Graph, op: ir.Operation, axis: str) -> int | None:
    """Where the last contraction or reduction over an axis stands, of what reads `op`."""
    found = [graph.position[user] for user in graph.after([op]) if axis in reduced_axes(user)]
    return max(found, default=None)


def _apply(graph: Graph, swap: Swap) -> None:
    op = swap.contraction
    result = op.results[0]

    def build() -> Sequence[ir.Value]:
        wires = {f"w{n}": wire for n, wire in enumerate((*swap.kept, swap.other))}
        expr: Expr = constant(swap.number) if swap.number != 1.0 else symbol("w0")
        names = list(wires) if swap.number != 1.0 else list(wires)[1:]
        for name in names:
            expr = expr * symbol(name)
        compute = statistic_type(diag.element_type(swap.product.results[0]))
        product = map_expr(expr, wires, compute)
        order = diag.labels(result)
        dtype = diag.element_type(result)
        return [diag.contract(product, swap.apart, reduced_axes(op), dtype=dtype, order=order)]

    replace_ops(graph, [op], unneeded(graph, [op], [swap.product]), [result], build)
