"""Splits the logarithm of a sum of exponentials off the exponents and differences that use it.

With z the sum of e = exp(a) along the row, exp(a - log z) is e / z, and a - log z stands alone: the
statistic z, which no stream could follow under an exponential, becomes a factor or a summand.

Only sums and differences of wires keep a logarithm, and no term is split in one place
only. Within a larger term, as in `exp(a - s) * (a - s)` with s the log-sum-exp c + log z, a split
would leave a term of the statistics c and z where there was one, and what keeps it in range
would be torn apart: such a term stays as it is.

The logarithm of a product with an exponential, log(exp(u) * c), is u + log c, wherever it stands:
so the entropy of weights, p * log p, is one of scores, which stays finite where p is too small.
"""

from collections.abc import Iterator

from diagc.algebra.dataflow import carries, defining_op
from diagc.algebra.expressions import SYMBOL, Expr, call, constant, log
from diagc.algebra.graph import Graph
from diagc.algebra.homogeneity import has_ops
from diagc.algebra.maps import map_expr, statistic_type
from diagc.algebra.scalars import is_exact
from diagc.algebra.wire_terms import WireTerms, linear_terms, sum_of
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.remarks import done

__all__ = ["exponent_of_sum", "replace_map", "split_logs"]

Term = tuple[bool, Expr]

_SPLIT_SUM = "the logarithm of a sum of exponentials became a division by that sum"
_SPLIT_PRODUCT = "the logarithm of a product with an exponential became a sum with its exponent"


def split_logs(graph: Graph, terms: WireTerms) -> None:
    """Rewrite the maps of a block that subtract the logarithm of a sum of exponentials."""
    for op in graph.ops:
        if op.name != "diag.map":
            continue
        old = terms.definition(op.results[0])
        assert old is not None
        opened = _without_log_products(old, terms)
        new = _Splitter(op, terms).split(opened)
        if new != old and has_ops(new) and is_exact(op):
            done(op, _SPLIT_SUM if old == opened else _SPLIT_PRODUCT)
            replace_map(op, new, terms)


def _without_log_products(expr: Expr, terms: WireTerms) -> Expr:
    """The term with u + log c for every log(exp(u) * c)."""
    if expr.op == "log":
        factors = list(_factors(expr.args[0], terms))
        exponents = [(inverse, f.args[0]) for inverse, f in factors if f.op == "exp"]
        rest = [(inverse, f) for inverse, f in factors if f.op != "exp"]
        if exponents and len(rest) <= 1:  # of more, each might be negative
            return _sum([*exponents, *((inverse, log(f)) for inverse, f in rest)])
    args = tuple(_without_log_products(arg, terms) for arg in expr.args)
    return Expr(expr.op, args, expr.value)


def _factors(expr: Expr, terms: WireTerms, inverse: bool = False) -> Iterator[Term]:
    """The factors of a product, each with whether it divides, also of those that other maps make.

    A reciprocal that is 0 where it would divide by 0 counts as one: of the weights of an empty row
    the logarithm is then NaN, as in eager torch, and not -inf.
    """
    if expr.op == SYMBOL:
        inner = terms.definition(terms.wire(expr))
        if inner is not None and inner.op in ("mul", "div", "exp", "select"):
            opened = list(_factors(inner, terms, inverse))
            is_product = inner.op == "exp" or [factor for _, factor in opened] != [inner]
            yield from opened if is_product else [(inverse, expr)]
            return
    if expr.op in ("mul", "div"):
        yield from _factors(expr.args[0], terms, inverse)
        yield from _factors(expr.args[1], terms, inverse != (expr.op == "div"))
    elif expr.op == "select" and _is_guarded_reciprocal(expr):
        yield from _factors(expr.args[2], terms, inverse)
    elif expr != constant(1.0):
        yield inverse, expr


def _is_guarded_reciprocal(expr: Expr) -> bool:
    condition, zero, value = expr.args
    is_reciprocal = value.op == "div" and value.args[0] == constant(1.0)
    return is_reciprocal and zero == constant(0.0) and condition == call("eq", value.args[1], 0.0)


def _logs(expr: Expr) -> set[Expr]:
    found = {expr} if expr.op == "log" else set()
    return found.union(*map(_logs, expr.args))


def replace_map(op: ir.Operation, expr: Expr, terms: WireTerms) -> None:
    """Put a map of another term in the place of map `op`; its wire keeps its symbol."""
    result = op.results[0]
    dtype = diag.element_type(result)
    with ir.InsertionPoint(op), op.location:
        made = map_expr(
            expr, terms.wires, statistic_type(dtype), dtype=dtype, result=diag.dims(result)
        )
    terms.move(result, made)
    result.replace_all_uses_with(made)
    op.erase()


class _Splitter:
    """Rewrites the term of one map."""

    def __init__(self, op: ir.Operation, terms: WireTerms) -> None:
        self._terms = terms
        self._result = op.results[0]

    def split(self, expr: Expr) -> Expr:
        """The term with every fitting logarithm split off, or as it is where one would stay."""
        new = self._split(expr)
        linear = all(term.op in (SYMBOL, "log") for _, term in linear_terms(expr))
        stays = not linear and (_logs(new) - _logs(expr) or self._reads_logs(new))
        return expr if stays else new

    def _reads_logs(self, expr: Expr) -> bool:
        """Whether a term reads a statistic that has a logarithm which can be split off."""
        if expr.op == SYMBOL:
            return self._opened(True, expr, False) != [(True, expr)]
        return any(map(self._reads_logs, expr.args))

    def _split(self, expr: Expr) -> Expr:
        if expr.op == "exp":
            found = self._find(expr.args[0], elements=True)
            if found is not None:
                rest, total, summand = found
                left = _sum(rest)
                return (summand if _exponent(summand, self._terms) == left else _exp(left)) / total
        if expr.op in ("add", "sub", "neg"):
            found = self._find(expr)
            if found is not None and any(not negative for negative, _ in found[0]):
                return _sum(found[0]) - log(found[1])
        return Expr(expr.op, tuple(map(self._split, expr.args)), expr.value)

    def _find(self, expr: Expr, elements: bool = False) -> tuple[list[Term], Expr, Expr] | None:
        """What is left of a sum without `- log z`, z, and the summand of z, if that is its exp.

        Summands that other maps compute are opened, those that vary along the row on request.
        """
        summed = [term for pair in linear_terms(expr) for term in self._opened(*pair, elements)]
        for number, (negative, term) in enumerate(summed):
            total = self._summed_in(term)
            if not negative or total is None:
                continue
            exponent = exponent_of_sum(total, self._terms)
            left = [] if exponent is None else list(linear_terms(exponent))
            if left and _same(left, [*summed[:number], *summed[number + 1 :]]):
                return left, term.args[0], self._terms.leaf(total.operands[0])
        return None

    def _summed_in(self, term: Expr) -> ir.Operation | None:
        """The sum of exponentials that a term is the logarithm of."""
        if term.op != "log" or term.args[0].op != SYMBOL:
            return None
        op = defining_op(self._terms.wire(term.args[0]))
        is_sum = op is not None and exponent_of_sum(op, self._terms) is not None
        return op if is_sum else None

    def _opened(self, negative: bool, term: Expr, elements: bool) -> list[Term]:
        """The summands of a term that another map computes, if a fitting logarithm is one."""
        if term.op != SYMBOL:
            return [(negative, term)]
        wire = self._terms.wire(term)
        inner = self._terms.definition(wire)
        varies = set(diag.labels(wire)) >= set(diag.labels(self._result))
        if inner is None or (varies and not elements):
            return [(negative, term)]
        summed = list(linear_terms(inner, negative))
        if varies:
            summed = [t for pair in summed for t in self._opened(*pair, False)]
        fits = any(self._summed_in(t) is not None for _, t in summed)
        return summed if fits else [(negative, term)]


def _exp(expr: Expr) -> Expr:
    return Expr("exp", (expr,))


def _sum(terms: list[Term]) -> Expr:
    total = sum_of(terms)
    assert total is not None
    return total


def _same(left: list[Term], right: list[Term]) -> bool:
    """Whether two sums have the same summands."""
    return len(left) == len(right) and all(left.count(t) == right.count(t) for t in left)


def _exponent(summand: Expr, terms: WireTerms) -> Expr | None:
    """The u of a wire that is exp(u)."""
    definition = terms.definition(terms.wire(summand))
    return definition.args[0] if definition is not None and definition.op == "exp" else None


def exponent_of_sum(op: ir.Operation, terms: WireTerms) -> Expr | None:
    """The u of an op that sums exp(u) along axes of u."""
    if op.name != "diag.reduce" or op.attributes["kind"].value != "add":
        return None
    varies = any(carries(op.operands[0], axis) for axis in diag.strings(op.attributes["over"]))
    return _exponent(terms.leaf(op.operands[0]), terms) if varies else None
