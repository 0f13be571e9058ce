"""Move factors that are constant along a contracted axis out of the contraction.

Before (`%r` lacks the axis "x"):

    %p = "diag.map"() ({ e * r })
    %o = "diag.contract"(%p, %v) {over = ["x"]}

After:

    %c = "diag.contract"(%e, %v) {over = ["x"]}
    %o = "diag.map"() ({ c * r })

Likewise for division, negation, casts, `select(keep, e * r, 0)`, and for a sum instead of the
contraction. A sum of products with statistics of their own is split first (`distribution.py`).

Requires: the body of the map is a product; run on functions. A division by a statistic of the
contracted axis becomes a multiplication by its reciprocal, and by 0 where the statistic is 0
(`empty-rows=eager` keeps the division).

Declines: a factor that carries a contracted axis or stands under a nonlinear function; a factor
that is added (the two sums would cancel); a result that is larger than the operand, when the
factor is no statistic of the contracted axis or the other operand is a parameter (then the factor
costs less where it is); a rest with math functions that the map's other users would compute again.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import ClassVar

from diagc.algebra.dataflow import (
    carries,
    defining_op,
    depends_on,
    erase_dead,
    inputs,
    reduced_axes,
)
from diagc.algebra.expressions import Expr, divide, symbol
from diagc.algebra.graph import Graph
from diagc.algebra.maps import map_expr, statistic_type
from diagc.cost import elements as element_count
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.cloning import nested_ops
from diagc.passes.contractions.distribution import distribute
from diagc.passes.contractions.linear_ops import apply_linear, linear_operands
from diagc.passes.contractions.products import Factor, Product, take_factors
from diagc.passes.remarks import done

__all__ = ["FuseNormalizationPass", "move_statistics", "moves_statistics"]

Values = AbstractSet[ir.Value]


@dataclass(frozen=True)
class FuseNormalizationPass(Pass):
    """Move factors that are constant along a contracted axis out of the contraction."""

    name: ClassVar[str] = "fuse-normalization"
    empty_rows: str = "zero"

    def run(self, op: ir.Operation) -> None:
        """Rewrite every linear op of the function, in order, so that factors move on."""
        for block in op.regions[0].blocks:
            graph = Graph(block)
            parameters = graph.parameters  # asked before the first op changes
            for linear in graph.ops:
                for part in _distribute_all(linear):
                    _slide_all(parameters, part, self.empty_rows == "zero")


def _distribute_all(op: ir.Operation) -> list[ir.Operation]:
    """The linear ops that `op` was split into, or itself."""
    for number in linear_operands(op):
        parts = distribute(op, number)
        if parts:
            return [last for part in parts for last in _distribute_all(part)]
    return [op]


def _slide_all(parameters: Values, op: ir.Operation, guarded: bool) -> None:
    """Move factors of the operands of `op` behind it until none is left that pays."""
    current: ir.Operation | None = op
    while current is not None:
        moved = (_slide(parameters, current, n, guarded) for n in linear_operands(current))
        current = next((new for new in moved if new is not None), None)


def _slide(parameters: Values, op: ir.Operation, number: int, guarded: bool) -> ir.Operation | None:
    """Move the factors of one operand behind `op`; gives the op that replaces it, if any."""
    source = op.operands[number]
    producer = defining_op(source)
    if producer is None or producer.name != "diag.map":
        return None
    shrinks = element_count(op.results[0]) < element_count(source)
    if not shrinks and not _feeds_from_contraction(parameters, op, number):
        return None
    product = take_factors(producer, reduced_axes(op))
    if product is None:
        return None
    if not (shrinks or _has_statistic(product, op)) or _repeats_work(product, producer):
        _discard(product)
        return None
    done(op, _told(op, product))
    return _apply_behind(op, number, product, guarded=guarded)


def _apply_behind(
    op: ir.Operation, number: int, product: Product, *, guarded: bool
) -> ir.Operation:
    """Give `op` the rest of a product for an operand, and multiply its result by the factors."""
    producer = defining_op(op.operands[number])
    assert producer is not None, "what was split into factors is a map"
    with ir.InsertionPoint(op), op.location:
        new = apply_linear(op, number, product.rest)
        result = _times(new, product, op, guarded)
    op.results[0].replace_all_uses_with(result)
    op.erase()
    erase_dead(producer)
    return new.owner.operation


def moves_statistics(op: ir.Operation, number: int) -> bool:
    """Whether all statistics in an operand of a contraction are factors, which may move behind."""
    product = _statistics(op, number)
    if product is not None:
        _discard(product)
    return product is not None


def move_statistics(op: ir.Operation, number: int) -> ir.Operation:
    """Move the statistics of an operand of a contraction behind it, whether it pays or not.

    Returns:
        The contraction of the rest; `op` where `moves_statistics` does not hold.
    """
    product = _statistics(op, number)
    return op if product is None else _apply_behind(op, number, product, guarded=True)


def _statistics(op: ir.Operation, number: int) -> Product | None:
    """An operand as a product of statistics and a rest that has none, both in its type."""
    producer = defining_op(op.operands[number])
    if producer is None or producer.name != "diag.map":
        return None
    product = take_factors(producer, reduced_axes(op))
    if product is None:
        return None
    same_type = diag.element_type(product.rest) == diag.element_type(op.operands[number])
    own = _is_statistic(Factor(product.rest, inverse=False), op)
    if _has_statistic(product, op) and same_type and not own:
        return product
    _discard(product)
    return None


# ---- when it pays -------------------------------------------------------------------------------


def _feeds_from_contraction(parameters: Values, op: ir.Operation, number: int) -> bool:
    """Whether the operand comes, through maps, from a contraction, and the other is no parameter.

    Then both contractions will be one kernel (attention), else this one is a linear layer.
    """
    if op.name != "diag.contract" or op.operands[1 - number] in parameters:
        return False
    axes = reduced_axes(op)
    stack = [op.operands[number]]
    while stack:
        producer = defining_op(stack.pop())
        if producer is None or not any(carries(producer.results[0], axis) for axis in axes):
            continue
        if producer.name == "diag.contract":
            return not any(value in parameters for value in producer.operands)
        if producer.name == "diag.map":
            stack.extend(inputs(producer))
    return False


def _is_statistic(factor: Factor, op: ir.Operation) -> bool:
    """Whether a factor depends on a reduction over an axis that `op` contracts."""
    axes = set(reduced_axes(op))
    return depends_on(factor.wire, lambda other: bool(axes & set(reduced_axes(other))))


def _has_statistic(product: Product, op: ir.Operation) -> bool:
    return any(_is_statistic(factor, op) for factor in product.factors)


def _repeats_work(product: Product, producer: ir.Operation) -> bool:
    """Whether other users of the product would compute math functions of the rest again."""
    rest = defining_op(product.rest)
    if len(list(producer.results[0].uses)) == 1 or rest is None or rest.name != "diag.map":
        return False
    is_new = not len(list(product.rest.uses))
    return is_new and any(o.name.startswith("math.") for o in nested_ops(rest))


def _told(op: ir.Operation, product: Product) -> str:
    """What moves, for people."""
    what = "a statistic" if _has_statistic(product, op) else "a factor that is constant there"
    axes = ", ".join(f'"{axis}"' for axis in reduced_axes(op))
    return f"{what} moved behind the sum over {axes}, to be applied once a row"


def _discard(product: Product) -> None:
    """Erase the ops of a product that nobody uses."""
    for wire in (product.rest, *(factor.wire for factor in product.factors)):
        made_by = defining_op(wire)
        if made_by is not None:
            erase_dead(made_by)


# ---- rewriting ----------------------------------------------------------------------------------


def _times(value: ir.Value, product: Product, op: ir.Operation, guarded: bool) -> ir.Value:
    """`value` times the factors, in the type and order of the result of `op`."""
    wires = {"o": value}
    expr: Expr = symbol("o")
    for number, factor in enumerate(product.factors):
        name = f"c{number}"
        wires[name] = factor.wire
        if not factor.inverse:
            expr = expr * symbol(name)
            continue
        if guarded and _is_statistic(factor, op):
            type_ = statistic_type(diag.element_type(factor.wire))
            wires[name] = map_expr(divide(1.0, symbol(name)), {name: factor.wire}, type_)
            expr = expr * symbol(name)
        else:
            expr = expr / symbol(name)
    result = op.results[0]
    return map_expr(
        expr,
        wires,
        statistic_type(diag.element_type(value)),
        dtype=diag.element_type(result),
        result=diag.dims(result),
    )
