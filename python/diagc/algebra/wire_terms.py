"""Terms over the wires of a block: a symbol for every wire, and the maps that give them."""

from collections.abc import Iterator, Sequence

from diagc.algebra.dataflow import defining_op
from diagc.algebra.expressions import Expr, symbol
from diagc.algebra.scalars import read_map
from diagc.mlir import ir

__all__ = ["WireTerms", "cancelled", "linear_terms", "sum_of"]


class WireTerms:
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

    def wire(self, leaf: Expr) -> ir.Value:
        """The wire of a symbol."""
        return self.wires[str(leaf.value)]

    def move(self, old: ir.Value, new: ir.Value) -> None:
        """Let another wire have the symbol of `old`, which is about to go."""
        known = self._known.pop(old, None)
        if known is not None:
            self.wires[str(known.value)] = new
            self._known[new] = known

    def definition(self, wire: ir.Value) -> Expr | None:
        """The term of the map that gives a wire, over the wires that it reads."""
        op = defining_op(wire)
        return read_map(op, self.leaf) if op is not None and op.name == "diag.map" else None


def linear_terms(expr: Expr, negative: bool = False) -> Iterator[tuple[bool, Expr]]:
    """The summands of a term, each with whether it is subtracted."""
    if expr.op in ("add", "sub"):
        yield from linear_terms(expr.args[0], negative)
        yield from linear_terms(expr.args[1], negative != (expr.op == "sub"))
    elif expr.op == "neg":
        yield from linear_terms(expr.args[0], not negative)
    else:
        yield negative, expr


def sum_of(terms: Sequence[tuple[bool, Expr]]) -> Expr | None:
    """The inverse of `linear_terms`, what is added first; None for no terms."""
    total: Expr | None = None
    for negative, term in sorted(terms, key=lambda pair: pair[0]):
        if total is None:
            total = -term if negative else term
        else:
            total = total - term if negative else total + term
    return total


def cancelled(expr: Expr) -> Expr:
    """The term without summands that cancel."""
    if expr.op in ("add", "sub"):
        terms = list(linear_terms(expr))
        kept = list(terms)
        for negative, term in terms:
            if (negative, term) in kept and (not negative, term) in kept:
                kept.remove((negative, term))
                kept.remove((not negative, term))
        total = sum_of(kept)
        if len(kept) < len(terms) and total is not None:
            return cancelled(total)
    return Expr(expr.op, tuple(map(cancelled, expr.args)), expr.value)
