"""Finds an exponential whose scale no result depends on, and what has to change with the scale.

A `Scale` is the plan for one exponential: the row's maximum, and new terms for the maps that the
scale reaches. Nothing is changed before `apply`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from diagc.algebra.dataflow import depends_on, reduced_axes
from diagc.algebra.expressions import (
    CONSTANT,
    Expr,
    constant,
    equal,
    exp,
    maximum,
    select,
    symbol,
    symbols,
)
from diagc.algebra.graph import Graph
from diagc.algebra.homogeneity import Degree, Rescaling, UnbalancedError, has_ops
from diagc.algebra.maps import map_expr, statistic_type
from diagc.algebra.scalars import is_exact
from diagc.algebra.simplification import simplified
from diagc.algebra.wire_terms import WireTerms, cancelled, linear_terms, sum_of
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.remarks import done
from diagc.passes.scales.log_splits import replace_map
from diagc.passes.scales.nonpositive import own_maximum

__all__ = ["Scale", "find_scales"]

_NEW_EXPONENT, _NEW_SHIFT, _NEW_MAXIMUM = "u_new", "c_new", "m_new"
_INF = float("inf")
_READ_TOO = ("math.exp2",)
"""Ops whose meaning stays: 2^u is exp(u log 2)."""


@dataclass
class Scale:
    """The plan for one exponential.

    Args:
        op: the map that computes it.
        over: the axes of the row.
        exponent: what varies along the row, -inf where it does not count.
        fixed: what is added to it and does not vary.
        rescaling: what the new scale asks for.
        changed: new terms of maps, `op` among them, in order.
        terms: symbols of the wires.
    """

    op: ir.Operation
    over: Sequence[str]
    exponent: Expr
    fixed: Expr | None
    rescaling: Rescaling
    changed: Sequence[tuple[ir.Operation, Expr]]
    terms: WireTerms

    def apply(self) -> None:
        """Emit the maximum, and replace the maps."""
        done(self.op, "the row's maximum is subtracted from exponents: it cancels in all results")
        wires, type_ = self.terms.wires, statistic_type(diag.element_type(self.op.results[0]))
        with ir.InsertionPoint(self.op), self.op.location:
            exponent = map_expr(self.exponent, wires, type_, result=self._dims())
            wires[_NEW_EXPONENT] = exponent
            wires[_NEW_MAXIMUM] = diag.reduce(exponent, self.over, "max")
            wires[_NEW_SHIFT] = map_expr(self._shift(), wires, type_)
        for op, expr in self.changed:
            replace_map(op, expr, self.terms)

    def _dims(self) -> dict[str, int]:
        used = [self.terms.wires[name] for name in symbols(self.exponent)]
        known = {label for wire in used for label in diag.labels(wire)}
        sizes = diag.dims(self.op.results[0])
        return {label: size for label, size in sizes.items() if label in known}

    def _shift(self) -> Expr:
        """The maximum, a number even where it is infinite; at least that where E is 1."""
        m = symbol(_NEW_MAXIMUM)
        if self.rescaling.divided:
            return maximum(m, constant(0.0) if self.fixed is None else -self.fixed)
        return select(equal(m, -_INF), 0.0, m)


def find_scales(graph: Graph, terms: WireTerms) -> Scale | None:
    """The first exponential of the block that can be balanced and is not yet."""
    for op in graph.ops:
        if op.name != "diag.map":
            continue
        term = terms.definition(op.results[0])
        assert term is not None
        for atom in dict.fromkeys(_exponentials(term)):
            plan = _Search(graph, terms, op, term, atom).plan()
            if plan is not None:
                return plan
    return None


def _exponentials(expr: Expr) -> Iterator[Expr]:
    if _exponent_of(expr) is not None:
        yield expr
        return
    for arg in expr.args:
        yield from _exponentials(arg)


def _exponent_of(expr: Expr) -> Expr | None:
    """The u of exp(u), also where it is written as a power of a positive number."""
    if expr.op == "exp":
        return simplified(expr.args[0])
    if expr.op == "pow" and expr.args[0].op == CONSTANT and float(expr.args[0].value or 0.0) > 0.0:
        return simplified(expr.args[1] * math.log(float(expr.args[0].value or 1.0)))
    return None


class _Search:
    """Looks for a plan for `atom`, an exponential in the term of map `op`."""

    def __init__(
        self, graph: Graph, terms: WireTerms, op: ir.Operation, term: Expr, atom: Expr
    ) -> None:
        self._graph, self._terms = graph, terms
        self._op, self._term, self._atom = op, term, atom
        exponent = _exponent_of(atom)
        assert exponent is not None
        self._exponent = exponent
        self._axes = self._labels(exponent)

    def plan(self) -> Scale | None:
        """The plan, or None where the scale shows in a result, or no sum needs one."""
        over = self._summed_axes()
        if not over or not has_ops(self._exponent):
            return None
        varying = [t for t in linear_terms(self._exponent) if set(over) & self._labels(t[1])]
        fixed = sum_of([t for t in linear_terms(self._exponent) if t not in varying])
        exponent = sum_of(varying)
        if exponent is None or self._has_own_maximum(over, exponent, fixed):
            return None
        whole, exponent = self._counted(self._term, exponent, over)
        scale = symbol(_NEW_SHIFT) if fixed is None else symbol(_NEW_SHIFT) + fixed
        row = self._axes - set(over)
        degrees: dict[str, Degree] = {}
        rescaling = Rescaling(
            self._atom,
            exp(symbol(_NEW_EXPONENT) - symbol(_NEW_SHIFT)),
            scale,
            degrees,
            equal(symbol(_NEW_MAXIMUM), _INF),
            lambda term: not set(over) & self._labels(term),
        )
        try:
            changed = list(self._follow(rescaling, degrees, row, whole))
        except UnbalancedError:
            return None
        if any(not has_ops(new) or not is_exact(op, _READ_TOO) for op, new in changed):
            return None
        return Scale(self._op, over, exponent, fixed, rescaling, changed, self._terms)

    # ---- the row ------------------------------------------------------------------------------

    def _labels(self, expr: Expr) -> set[str]:
        wires = [self._terms.wires[name] for name in symbols(expr) if name in self._terms.wires]
        return {label for wire in wires for label in diag.labels(wire)}

    def _summed_axes(self) -> tuple[str, ...]:
        """The axes of the exponent over which the map is summed first."""
        for user in self._graph.users(self._op.results[0]):
            if user.name == "diag.reduce" and user.attributes["kind"].value == "add":
                over = reduced_axes(user)
                return tuple(over) if set(over) <= self._axes else ()
        return ()

    def _has_own_maximum(self, over: Sequence[str], varying: Expr, fixed: Expr | None) -> bool:
        """Whether the row's maximum is subtracted already, with any guard but one for +inf.

        With such a guard exponents may be above 0 as far as anybody can tell.
        """
        guarded = own_maximum(self._exponent, self._terms, (_INF, -_INF))
        if guarded is not None and set(reduced_axes(guarded)) == set(over):
            return own_maximum(self._exponent, self._terms) is not None
        wires = [self._terms.wires[name] for name in symbols(fixed)] if fixed is not None else []
        return any(
            depends_on(wire, lambda op: self._is_maximum(op, set(over), varying)) for wire in wires
        )

    def _is_maximum(self, op: ir.Operation, over: set[str], of: Expr) -> bool:
        if op.name != "diag.reduce" or op.attributes["kind"].value != "max":
            return False
        source = op.operands[0]
        found = (self._terms.leaf(source), self._terms.definition(source))
        return set(reduced_axes(op)) == over and of in found

    def _counted(self, term: Expr, exponent: Expr, over: Sequence[str]) -> tuple[Expr, Expr]:
        """The term of the map and the exponent, -inf where another factor makes the product 0."""
        if term.op == "select" and term.args[1:] == (self._atom, constant(0.0)):
            return self._atom, select(term.args[0], exponent, -_INF)
        if term.op != "mul" or self._atom not in term.args:
            return term, exponent
        factor = term.args[1 - term.args.index(self._atom)]
        if not set(over) & self._labels(factor):
            return term, exponent
        kept = _condition(factor)
        if kept is not None:
            return self._atom, select(kept, exponent, -_INF)
        return term, select(equal(factor, 0.0), -_INF, exponent)

    # ---- what the scale reaches ---------------------------------------------------------------

    def _follow(
        self, rescaling: Rescaling, degrees: dict[str, Degree], row: set[str], term: Expr
    ) -> Iterator[tuple[ir.Operation, Expr]]:
        """New terms of all maps that change, in order; fills in the degrees of wires.

        Raises:
            UnbalancedError: the scale shows in something that is no map, sum or product.
        """
        start = self._graph.position[self._op]
        for op in self._graph.ops[start:]:
            if op.name == "diag.map":
                old = term if op == self._op else self._terms.definition(op.results[0])
                assert old is not None
                degree, new = rescaling.of(old)
                if new != old or op == self._op:
                    yield op, cancelled(new)
            else:
                degree = self._degree_of(op, degrees, row)
            if degree:
                degrees[str(self._terms.leaf(op.results[0]).value)] = degree

    def _degree_of(self, op: ir.Operation, degrees: dict[str, Degree], row: set[str]) -> Degree:
        names = [self._terms.leaf(value) for value in self._graph.reads[op]]
        read = [degrees[str(n.value)] for n in names if str(n.value) in degrees]
        if not any(read):
            return None
        linear = op.name == "diag.contract" or (
            op.name == "diag.reduce" and op.attributes["kind"].value in ("add", "max", "min")
        )
        if not linear or row & set(reduced_axes(op)):
            raise UnbalancedError(f"'{op.name}' of a term that depends on the scale")
        total = sum(self._of_operands(op, degrees), start=Fraction(0))
        if total < 0:
            raise UnbalancedError("a sum of terms that grow where the scale falls")
        return total

    def _of_operands(self, op: ir.Operation, degrees: dict[str, Degree]) -> list[Fraction]:
        leaves = [str(self._terms.leaf(value).value) for value in op.operands]
        return [degree for name in leaves if (degree := degrees.get(name)) is not None]


def _condition(factor: Expr) -> Expr | None:
    """The condition of a factor that is 1 where it holds, else 0."""
    if factor.op == "select" and factor.args[1:] == (constant(1.0), constant(0.0)):
        return factor.args[0]
    return None
