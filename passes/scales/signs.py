"""Signs of terms over wires, proved from their forms: exponentials, maxima, sums of them."""

from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr
from diagc.algebra.wire_terms import WireTerms
from diagc.mlir import ir
from diagc.passes.scales.log_splits import exponent_of_sum
from diagc.passes.scales.nonpositive import own_maximum

__all__ = ["sign_of"]

_ZERO, _POSITIVE, _NEGATIVE = 0, 1, -1


def sign_of(expr: Expr, terms: WireTerms) -> int | None:
    """1 for a term that is 0 or more, -1 for 0 or less, 0 for the number 0; None when unknown."""
    if own_maximum(expr, terms) is not None:
        return _NEGATIVE
    if expr.op == SYMBOL:
        return _sign_of_wire(terms.wire(expr), terms)
    if expr.op == CONSTANT:
        value = float(expr.value or 0.0)
        return (value > 0) - (value < 0)
    if expr.op in ("exp", "abs", "sqrt") or (expr.op == "mul" and expr.args[0] == expr.args[1]):
        return _POSITIVE
    if expr.op == "log":
        return _POSITIVE if _is_at_least_one(expr.args[0], terms) else None
    if expr.op not in _COMBINED:
        return None
    signs = [sign_of(arg, terms) for arg in expr.args[expr.op == "select" :]]
    if None in signs:
        return None
    return _combined(expr.op, [sign for sign in signs if sign is not None])


_COMBINED = ("add", "sub", "mul", "div", "neg", "select")


def _combined(op: str, signs: list[int]) -> int | None:
    if op in ("mul", "div"):
        return signs[0] * signs[1]
    if op == "neg":
        return -signs[0]
    if op == "sub":
        signs = [signs[0], -signs[1]]
    found = {sign for sign in signs if sign}
    if len(found) > 1:
        return None
    return found.pop() if found else _ZERO


def _sign_of_wire(wire: ir.Value, terms: WireTerms) -> int | None:
    definition = terms.definition(wire)
    if definition is not None:
        return sign_of(definition, terms)
    op = defining_op(wire)
    if op is None or op.name != "diag.reduce" or op.attributes["kind"].value not in ("add", "max"):
        return None
    return _sign_of_wire(op.operands[0], terms)


def _is_at_least_one(expr: Expr, terms: WireTerms) -> bool:
    """Whether a term is the sum of exp(a - max a) over the row: one summand is 1."""
    op = defining_op(terms.wire(expr)) if expr.op == SYMBOL else None
    exponent = None if op is None else exponent_of_sum(op, terms)
    found = None if exponent is None else own_maximum(exponent, terms)
    return op is not None and found is not None and reduced_axes(found) == reduced_axes(op)
