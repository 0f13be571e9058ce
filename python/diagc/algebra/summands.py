"""What is reduced, as a term: elements that vary along the streamed axis, statistics that change.

Symbols: `x0`, `x1` ... wires with the axis that no statistic changes; `s0` ... axis-free wires that
depend on the reductions; `c0` ... other axis-free wires; `r0` ... results of the reductions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from diagc.algebra import laws
from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.expressions import CONSTANT, Expr, constant, fold, substitute, symbol, symbols
from diagc.algebra.graph import Graph
from diagc.algebra.refusal import Refusal
from diagc.algebra.scalars import read_map
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["INFINITIES", "Summands", "Wire", "monoid_of", "without_guards"]


INFINITIES = (float("inf"), float("-inf"))
"""What guards replace: by default both."""

_DEEPEST = 3
"""Maps that are looked through for the form of a term."""


@dataclass(frozen=True)
class Wire:
    """What a symbol stands for.

    Args:
        definition: what a map computes, over symbols of what it reads; None for other wires.
        is_float: whether it is a number, not a condition.
        varies: whether it has the streamed axis.
    """

    definition: Expr | None
    is_float: bool
    varies: bool


class Summands:
    """The terms of reductions over `axis`.

    Args:
        graph: the block.
        axis: the streamed axis.
        reductions: the ops whose results change while streaming.
        dependent: the ops of the body that depend on them.
    """

    def __init__(
        self,
        graph: Graph,
        axis: str,
        reductions: Sequence[ir.Operation],
        dependent: Collection[ir.Operation],
    ) -> None:
        self._graph = graph
        self._axis = axis
        self._number = {op: number for number, op in enumerate(reductions)}
        self._dependent = dependent
        self.count = len(reductions)
        self._names: dict[ir.Value, str] = {}
        self.wires: dict[str, ir.Value] = {}

    def of(self, op: ir.Operation) -> Expr:
        """The term that reduction `op` reduces."""
        first, *rest = self.factors(op)
        return first * rest[0] if rest else first

    def factors(self, op: ir.Operation) -> list[Expr]:
        """The terms of the operands of reduction `op`, which it multiplies before it reduces."""
        return [without_guards(self._term(value)) for value in op.operands]

    def varying(self, op: ir.Operation) -> set[str]:
        """The symbols, but for statistics, that vary along axes which `op` reduces."""
        axes = reduced_axes(op)
        return {
            name
            for name, wire in self.wires.items()
            if name[0] != "s" and any(self._graph.carries(wire, axis) for axis in axes)
        }

    def statistics(self, term: Expr) -> list[str]:
        """The statistics of a term."""
        return sorted(name for name in symbols(term) if name[0] == "s")

    def varies(self, name: str, axis: str) -> bool:
        """Whether the wire of a symbol has an axis."""
        return self._graph.carries(self.wires[name], axis)

    def raw(self, name: str, infinities: Collection[float] = INFINITIES) -> Expr:
        """A statistic as a term over results of reductions, without its guards."""
        return without_guards(self._raw(self.wires[name]), infinities)

    def outside_guards(self, name: str) -> Expr:
        """A statistic with every guarded part replaced by 0, so that what is left is unguarded."""
        return _drop_guarded(self._raw(self.wires[name]))

    def shape(self, term: Expr) -> Expr:
        """The term with what maps compute of elements in the place of their symbols.

        All other wires become one symbol: only the form of the term is told.
        """
        return fold(term, lambda leaf: self._shape(self.wires[str(leaf.value)], _DEEPEST))

    def _shape(self, value: ir.Value, depth: int) -> Expr:
        op = defining_op(value)
        if op is None or op.name != "diag.map" or self._changes(value) or not depth:
            return symbol("wire")
        return read_map(op, lambda read: self._shape(read, depth - 1))

    def definitions(self, names: Sequence[str]) -> "dict[str, Wire]":
        """What symbols of elements and captured wires stand for, through maps that compute them.

        The wires that maps read get names of their own, `w0` ...
        """
        found: dict[str, Wire] = {}
        known: dict[ir.Value, str] = {}
        for name in names:
            alias = self._define(self.wires[name], found, known)
            found[name] = Wire(symbol(alias), True, True)
        return found

    def _define(self, value: ir.Value, found: "dict[str, Wire]", known: dict[ir.Value, str]) -> str:
        if value in known:
            return known[value]
        op = defining_op(value)
        term = None
        if op is not None and op.name == "diag.map" and not self._changes(value):
            term = read_map(op, lambda read: symbol(self._define(read, found, known)))
        name = known[value] = f"w{len(known)}"
        is_float = diag.is_float(diag.element_type(value))
        found[name] = Wire(term, is_float, self._graph.carries(value, self._axis))
        return name

    # ---- reading ------------------------------------------------------------------------------

    def _symbol(self, value: ir.Value, kind: str) -> Expr:
        if value not in self._names:
            number = sum(name[0] == kind for name in self.wires)
            self._names[value] = f"{kind}{number}"
            self.wires[self._names[value]] = value
        return symbol(self._names[value])

    def _changes(self, value: ir.Value) -> bool:
        op = defining_op(value)
        return op is not None and (op in self._number or op in self._dependent)

    def _term(self, value: ir.Value) -> Expr:
        if not self._graph.carries(value, self._axis):
            return self._symbol(value, "s" if self._changes(value) else "c")
        if not self._changes(value):
            return self._symbol(value, "x")
        op = defining_op(value)
        assert op is not None
        return read_map(op, self._term) if op.name == "diag.map" else self._linear(op)

    def _linear(self, op: ir.Operation) -> Expr:
        """A contraction or sum over another axis, of terms that a statistic scales: it is scaled.

        Written as an unknown element times the law's factor from 0 to the statistic.
        """
        inner = self.of(op)
        names = self.statistics(inner)
        law = laws.scale(inner, names, self.varying(op))
        axes = {*reduced_axes(op), *_renamed(op)}
        used = [name for name in names if law is not None and name in symbols(law)]
        if law is None or not laws.is_safe(law, names):
            raise Refusal("its result is not a multiple of a function of the statistics", op)
        if any(self.varies(name, axis) for name in used for axis in axes):
            raise Refusal("a statistic that it uses varies along an axis that it reduces", op)
        start: dict[str, Expr] = {name: constant(0.0) for name in names}
        start |= {name + laws.NEW: symbol(name) for name in names}
        return self._symbol(op.results[0], "x") * substitute(law, start)

    def _raw(self, value: ir.Value) -> Expr:
        op = defining_op(value)
        if op is not None and op in self._number:
            return self._result(op)
        if not self._changes(value):
            return self._symbol(value, "c")
        assert op is not None
        return read_map(op, self._raw)

    def _result(self, op: ir.Operation) -> Expr:
        name = f"r{self._number[op]}"
        self.wires.setdefault(name, op.results[0])
        return symbol(name)


def _renamed(op: ir.Operation) -> list[str]:
    return diag.strings(op.attributes["from"]) if op.name == "diag.relabel" else []


def monoid_of(op: ir.Operation) -> str:
    """The name of the monoid that a reduction reduces with."""
    return "add" if op.name == "diag.contract" else str(op.attributes["kind"].value)


def _guarded(expr: Expr, infinities: Collection[float]) -> Expr | None:
    """The u of a guard, `select(u == inf, number, u)` or `select(abs(u) == inf, number, u)`."""
    if expr.op != "select" or expr.args[0].op != "eq" or expr.args[1].op != CONSTANT:
        return None
    seen, empty = expr.args[0].args
    if empty.op != CONSTANT or empty.value not in INFINITIES:
        return None
    replaced = INFINITIES if seen.op == "abs" else (empty.value,)
    inner = seen.args[0] if seen.op == "abs" else seen
    return inner if inner == expr.args[2] and set(replaced) <= set(infinities) else None


def without_guards(expr: Expr, infinities: Collection[float] = INFINITIES) -> Expr:
    """The term with guards replaced by what they guard: they are for rows where nothing was seen.

    Only those guards count that replace nothing but numbers in `infinities`.
    """
    seen = _guarded(expr, infinities)
    if seen is not None:
        return without_guards(seen, infinities)
    args = tuple(without_guards(arg, infinities) for arg in expr.args)
    return Expr(expr.op, args, expr.value)


def _drop_guarded(expr: Expr) -> Expr:
    if _guarded(expr, INFINITIES) is not None:
        return constant(0.0)
    return Expr(expr.op, tuple(map(_drop_guarded, expr.args)), expr.value)
