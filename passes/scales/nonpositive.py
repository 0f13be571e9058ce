"""Marks `math.exp` ops whose argument is provably not positive: an element minus its maximum.

Targets may use a cheaper exponential there. The mark is the unit attribute `diag.nonpositive`; it
stays on the op when streams are derived, since there the maximum so far includes the chunk.
"""

import math
from collections.abc import Collection

from diagc.algebra.dataflow import defining_op
from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr
from diagc.algebra.graph import Graph
from diagc.algebra.scalars import read, read_map
from diagc.algebra.summands import without_guards
from diagc.algebra.wire_terms import WireTerms
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["NONPOSITIVE", "mark_nonpositive", "own_maximum"]

NONPOSITIVE = "diag.nonpositive"


def mark_nonpositive(graph: Graph) -> None:
    """Mark what can be proved in the maps of the block."""
    names = WireTerms()
    for op in graph.ops:
        if op.name != "diag.map":
            continue
        for inner in diag.walk_ops(op.regions[0]):
            if inner.name == "math.exp" and _is_nonpositive(inner.operands[0], names):
                inner.attributes[NONPOSITIVE] = ir.UnitAttr.get()


def _is_nonpositive(argument: ir.Value, names: WireTerms) -> bool:
    """Whether a scalar is `(a - max a) * c` with c not negative."""
    return own_maximum(read(argument, names.leaf), names) is not None


def own_maximum(
    expr: Expr, names: WireTerms, guards: Collection[float] = (-math.inf,)
) -> ir.Operation | None:
    """The maximum of a, when a term is `(a - max a) * c` with c not negative.

    Args:
        expr: the term.
        names: symbols of the wires.
        guards: infinities that the maximum may be replaced at; with inf, the term may be inf.
    """
    while expr.op == "mul" and any(map(_is_positive, expr.args)):
        left, right = expr.args
        expr = right if _is_positive(left) else left
    if expr.op != "sub" or expr.args[1].op != SYMBOL:
        return None
    maximum = _maximum_of(names.wire(expr.args[1]), names, guards)
    if maximum is None:
        return None
    source = maximum.operands[0]
    return maximum if expr.args[0] in (names.leaf(source), names.definition(source)) else None


def _is_positive(expr: Expr) -> bool:
    return expr.op == CONSTANT and float(expr.value or 0.0) >= 0.0


def _maximum_of(wire: ir.Value, names: WireTerms, guards: Collection[float]) -> ir.Operation | None:
    """The maximum that `wire` is, seen through a guard for infinities."""
    op = defining_op(wire)
    if op is not None and op.name == "diag.map":
        inner = without_guards(read_map(op, names.leaf), guards)
        op = defining_op(names.wire(inner)) if inner.op == SYMBOL else None
    if op is None or op.name != "diag.reduce" or op.attributes["kind"].value != "max":
        return None
    return op
