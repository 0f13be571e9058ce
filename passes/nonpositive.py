"""Marks `math.exp` ops whose argument is provably not positive: an element minus its maximum.

Targets may use a cheaper exponential there. The mark is the unit attribute `diag.nonpositive`; it
stays on the op when streams are derived, since there the maximum so far includes the chunk.
"""

import math

from diagc.algebra.dataflow import defining_op
from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr, symbol
from diagc.algebra.graph import Graph
from diagc.algebra.scalars import read, read_map
from diagc.algebra.summands import without_guards
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["NONPOSITIVE", "mark_nonpositive"]

NONPOSITIVE = "diag.nonpositive"


def mark_nonpositive(graph: Graph) -> None:
    """Mark what can be proved in the maps of the block."""
    names = _Names()
    for op in graph.ops:
        if op.name != "diag.map":
            continue
        for inner in diag.walk_ops(op.regions[0]):
            if inner.name == "math.exp" and _is_nonpositive(inner.operands[0], names):
                inner.attributes[NONPOSITIVE] = ir.UnitAttr.get()


class _Names:
    """A symbol for every wire, and back."""

    def __init__(self) -> None:
        self.wires: dict[str, ir.Value] = {}
        self._known: dict[ir.Value, Expr] = {}

    def leaf(self, wire: ir.Value) -> Expr:
        """The symbol of a wire."""
        if wire not in self._known:
            name = f"w{len(self.wires)}"
            self.wires[name] = wire
            self._known[wire] = symbol(name)
        return self._known[wire]


def _is_nonpositive(argument: ir.Value, names: _Names) -> bool:
    """Whether a scalar is `(a - max a) * c` with c not negative."""
    expr = read(argument, names.leaf)
    while expr.op == "mul" and any(map(_is_positive, expr.args)):
        left, right = expr.args
        expr = right if _is_positive(left) else left
    if expr.op != "sub" or expr.args[1].op != SYMBOL:
        return False
    maximum = _source_of_maximum(names.wires[str(expr.args[1].value)], names)
    if maximum is None:
        return False
    return expr.args[0] in (names.leaf(maximum), _definition(maximum, names))


def _is_positive(expr: Expr) -> bool:
    return expr.op == CONSTANT and float(expr.value or 0.0) >= 0.0


def _source_of_maximum(wire: ir.Value, names: _Names) -> ir.Value | None:
    """The wire whose maximum `wire` is, seen through a guard for empty rows (not for +inf)."""
    op = defining_op(wire)
    if op is not None and op.name == "diag.map":
        inner = without_guards(read_map(op, names.leaf), [-math.inf])
        op = defining_op(names.wires[str(inner.value)]) if inner.op == SYMBOL else None
    if op is None or op.name != "diag.reduce" or op.attributes["kind"].value != "max":
        return None
    return op.operands[0]


def _definition(wire: ir.Value, names: _Names) -> Expr | None:
    """The term of the map that gives a wire."""
    op = defining_op(wire)
    return read_map(op, names.leaf) if op is not None and op.name == "diag.map" else None
