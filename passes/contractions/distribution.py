"""Lets a contraction or sum act on the summands of its operand, where each alone can be fused.

    sum of (e1 * r1 - e2 * r2) * v   =  sum of e1 * r1 * v  -  sum of e2 * r2 * v
    sum of p * (a + l)               =  sum of p * a  +  l * sum of p

with r1, r2 and l statistics of the summed axis. The first is done when every summand has a factor
of its own that leaves the sum; each is rounded as it is, so nothing is lost that was there before.
The second is done only where a and l have one sign and p has one, so that the two sums cannot
cancel: p log p of a softmax, not the square of a distance from a mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from diagc.algebra.dataflow import defining_op, depends_on, erase_dead, reduced_axes
from diagc.algebra.expressions import SYMBOL, Expr, constant, symbol, symbols
from diagc.algebra.homogeneity import has_ops
from diagc.algebra.maps import map_expr, statistic_type
from diagc.algebra.scalars import is_exact
from diagc.algebra.wire_terms import WireTerms, linear_terms, sum_of
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.contractions.linear_ops import apply_linear
from diagc.passes.remarks import done
from diagc.passes.scales.nonpositive import own_maximum
from diagc.passes.scales.signs import sign_of

__all__ = ["distribute"]

Term = tuple[bool, Expr]


@dataclass(frozen=True)
class _Share:
    """One of the sums: a term of the operand, and the factor of the row that its sum gets."""

    term: Expr
    factor: Expr


def distribute(op: ir.Operation, number: int) -> list[ir.Operation]:
    """Split linear op `op` by the summands of operand `number`; gives the new linear ops.

    Nothing is changed, and the list empty, where that does not pay or could lose digits.
    """
    terms = WireTerms()
    source = op.operands[number]
    producer, definition = defining_op(source), terms.definition(source)
    if producer is None or definition is None or not is_exact(producer):
        return []
    row = _Row(op, terms)
    shares = row.split_sum(definition) or row.split_factor(definition)
    if not shares or not all(has_ops(share.term) and has_ops(share.factor) for share in shares):
        return []
    done(op, "the sum of two terms with statistics of their own became two sums")
    with ir.InsertionPoint(op), op.location:
        return _emit(op, number, shares, terms)


class _Row:
    """What varies along the axes that a linear op reduces, and what is a statistic of them."""

    def __init__(self, op: ir.Operation, terms: WireTerms) -> None:
        self._over = set(reduced_axes(op))
        self._terms = terms

    def split_sum(self, expr: Expr) -> list[_Share]:
        """A sum of products, each with a statistic that the others lack."""
        summed = list(linear_terms(expr))
        found = [self._statistics(term) for _, term in summed]
        if len(summed) < 2 or not all(found) or len(set(map(frozenset, found))) < len(found):
            return []
        return [_Share(term, constant(-1.0 if minus else 1.0)) for minus, term in summed]

    def split_factor(self, expr: Expr) -> list[_Share]:
        """A product with one sum of elements and statistics, all of one sign."""
        factors = list(_factors(expr))
        for place, factor in enumerate(factors):
            parts = self._parts(factor)
            others = factors[:place] + factors[place + 1 :]  # an equal factor stays
            if parts is None or not others:
                continue
            elements, statistic = parts
            rest = _product(others)
            signs = [sign_of(e, self._terms) for e in (elements, statistic, rest)]
            if None not in signs and signs[0] == signs[1]:
                one = constant(1.0)
                return [_Share(rest * elements, one), _Share(rest, statistic)]
        return []

    def _parts(self, expr: Expr) -> tuple[Expr, Expr] | None:
        """A sum as elements, with the maximum that is subtracted from them, and the rest."""
        summed = list(linear_terms(expr))
        elements = [t for t in summed if self._varies(t[1])]
        rest = [t for t in summed if t not in elements]
        for place, term in enumerate(rest):
            whole = sum_of([*elements, term])
            if whole is not None and own_maximum(whole, self._terms) is not None:
                left = sum_of(rest[:place] + rest[place + 1 :])
                is_statistic = left is not None and self._is_statistic(left)
                return (whole, left) if is_statistic and left is not None else None
        return None

    def _statistics(self, term: Expr) -> set[str]:
        """Names of the statistics that multiply elements in a term; none without elements."""
        if not self._varies(term):
            return set()
        free = [factor for factor in self._opened(term) if not self._varies(factor)]
        return {name for factor in free if self._is_statistic(factor) for name in symbols(factor)}

    def _opened(self, term: Expr) -> list[Expr]:
        """The factors of a term, also of products that other maps compute."""
        found: list[Expr] = []
        for factor in _factors(term):
            inner = self._terms.definition(self._terms.wire(factor)) if _is_wire(factor) else None
            product = inner is not None and inner.op in ("mul", "div") and self._varies(factor)
            found += self._opened(inner) if inner is not None and product else [factor]
        return found

    def _varies(self, term: Expr) -> bool:
        wires = (self._terms.wires[name] for name in symbols(term))
        return any(axis in self._over for wire in wires for axis in diag.labels(wire))

    def _is_statistic(self, term: Expr) -> bool:
        wires = (self._terms.wires[name] for name in symbols(term))
        return any(depends_on(w, lambda o: bool(self._over & set(reduced_axes(o)))) for w in wires)


def _factors(expr: Expr) -> Sequence[Expr]:
    """The factors of a product; of a quotient, its dividend's and the reciprocal."""
    if expr.op == "mul":
        return [*_factors(expr.args[0]), *_factors(expr.args[1])]
    if expr.op == "div" and expr.args[0] != constant(1.0):
        return [*_factors(expr.args[0]), 1.0 / expr.args[1]]
    if expr.op == "neg":
        return [constant(-1.0), *_factors(expr.args[0])]
    return [expr]


def _is_wire(expr: Expr) -> bool:
    return expr.op == SYMBOL


def _product(factors: Sequence[Expr]) -> Expr:
    total = factors[0]
    for factor in factors[1:]:
        divides = factor.op == "div" and factor.args[0] == constant(1.0)
        total = total / factor.args[1] if divides else total * factor
    return total


def _emit(
    op: ir.Operation, number: int, shares: Sequence[_Share], terms: WireTerms
) -> list[ir.Operation]:
    """The linear op applied to every share, and their sum in its place."""
    source, result = op.operands[number], op.results[0]
    element, sizes = diag.element_type(source), diag.dims(source)
    compute = statistic_type(element)
    made: list[ir.Operation] = []
    wires, total = dict(terms.wires), constant(0.0)
    for index, share in enumerate(shares):
        part = map_expr(share.term, terms.wires, compute, dtype=element, result=sizes)
        summed = apply_linear(op, number, part)
        made.append(summed.owner.operation)
        wires[f"part{index}"] = summed
        term = symbol(f"part{index}") * share.factor
        total = term if index == 0 else total + term
    type_ = statistic_type(diag.element_type(result))
    dtype, dims = diag.element_type(result), diag.dims(result)
    whole = map_expr(total, wires, type_, dtype=dtype, result=dims)
    result.replace_all_uses_with(whole)
    producer = defining_op(source)
    op.erase()
    if producer is not None:
        erase_dead(producer)
    return made
