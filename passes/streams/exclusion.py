"""Analysis: whether positions that a mask excludes leave a stream as it is; changes nothing.

The body is evaluated at one excluded position, over constants and "anything". Every reduction along
the streamed axis must then get its identity, a product that is given of the chunk 0: `select(keep,
s, -inf)` through max, or through exp and a sum, does; adding a large negative number does not,
because a row whose positions are all excluded would come out different.

An excluded position counts as absent, so `0 * v` is 0 there whatever v holds, and `-inf - m` is
-inf for every m.
"""

import math
from collections.abc import Callable

from diagc.dialects import diag
from diagc.mlir import arith, ir

__all__ = ["excludes"]

Known = float | bool | int | None
"""The value at an excluded position, None where it may be anything."""

_INF = math.inf


def excludes(stream: ir.Operation, mask: ir.Operation) -> bool:
    """Whether positions where map `mask` (i1, in the stream's body) is false change nothing."""
    axis = ir.StringAttr(stream.attributes["axis"]).value
    labels = set(diag.labels(mask.results[0]))
    known: dict[ir.Value, Known] = {mask.results[0]: False}
    ops = [op.operation for op in stream.regions[1].blocks[0].operations]
    emitted = diag.emitted_ops(stream)
    try:
        for op in ops:
            if len(op.results) and op != mask:
                value = _evaluate(op, known, axis)
                if op in emitted and not _is_zero(value):
                    return False
                holds = labels <= set(diag.labels(op.results[0]))
                known[op.results[0]] = value if holds else None
    except _ChangedError:
        return False
    return True


class _ChangedError(Exception):
    """A reduction along the stream sees something else than its identity."""


def _evaluate(op: ir.Operation, known: dict[ir.Value, Known], axis: str) -> Known:
    if op.name == "diag.map":
        return _map_value(op, known)
    if op.name == "diag.reduce":
        return _reduce_value(op, known.get(op.operands[0]), axis)
    if op.name == "diag.contract":
        zero = any(_is_zero(known.get(operand)) for operand in op.operands)
        if not zero and axis in diag.strings(op.attributes["over"]):
            raise _ChangedError
        return 0.0 if zero else None
    return None


def _is_zero(value: Known) -> bool:
    return value is not None and value == 0


def _reduce_value(op: ir.Operation, value: Known, axis: str) -> Known:
    kind = ir.StringAttr(op.attributes["kind"]).value
    with op.location:
        identity = diag.identity_attr(kind, diag.element_type(op.operands[0])).value
    if axis in diag.strings(op.attributes["over"]) and value != identity:
        raise _ChangedError
    return value if value == identity or kind not in ("add", "mul") else None


# ---- scalar bodies -----------------------------------------------------------------------------


def _map_value(op: ir.Operation, known: dict[ir.Value, Known]) -> Known:
    scalars: dict[ir.Value, Known] = {}
    for nested in op.regions[0].blocks[0].operations:
        inner = nested.operation
        if inner.name == "diag.yield":
            return scalars.get(inner.operands[0])
        if inner.name == "diag.element":
            scalars[inner.results[0]] = known.get(inner.operands[0])
        else:
            values = [scalars.get(operand, _constant(operand)) for operand in inner.operands]
            scalars[inner.results[0]] = _scalar_value(inner, values)
    return None


def _constant(value: ir.Value) -> Known:
    """A constant from outside of the body."""
    if isinstance(value.owner, ir.Block) or value.owner.operation.name != "arith.constant":
        return None
    return _literal(value.owner.operation)


def _literal(op: ir.Operation) -> Known:
    attr = op.attributes["value"]
    return attr.value if isinstance(attr, (ir.FloatAttr, ir.IntegerAttr)) else None


def _scalar_value(op: ir.Operation, values: list[Known]) -> Known:
    if op.name == "arith.constant":
        return _literal(op)
    if op.name == "arith.cmpf":
        return _compare(op, values)
    rule = _RULES.get(op.name)
    return None if rule is None else rule(*values)


def _compare(op: ir.Operation, values: list[Known]) -> Known:
    lhs, rhs = values
    predicate = arith.CmpFPredicate(ir.IntegerAttr(op.attributes["predicate"]).value)
    if lhs is None or rhs is None or predicate != arith.CmpFPredicate.OEQ:
        return None
    return lhs == rhs


def _select(condition: Known, chosen: Known, other: Known) -> Known:
    if condition is None:
        return chosen if chosen == other else None
    return chosen if condition else other


def _add(lhs: Known, rhs: Known) -> Known:
    if -_INF in (lhs, rhs) and _INF not in (lhs, rhs):
        return -_INF
    return None if lhs is None or rhs is None else lhs + rhs


def _subtract(lhs: Known, rhs: Known) -> Known:
    return _add(lhs, None if rhs is None else -rhs)


def _multiply(lhs: Known, rhs: Known) -> Known:
    if _is_zero(lhs) or _is_zero(rhs):
        return 0.0
    return None if lhs is None or rhs is None else lhs * rhs


def _divide(lhs: Known, rhs: Known) -> Known:
    if _is_zero(rhs):
        return None
    if _is_zero(lhs):
        return 0.0
    return None if lhs is None or rhs is None else lhs / rhs


def _both(function: Callable[[float, float], float]) -> Callable[[Known, Known], Known]:
    def apply(lhs: Known, rhs: Known) -> Known:
        return None if lhs is None or rhs is None else function(lhs, rhs)

    return apply


def _and(lhs: Known, rhs: Known) -> Known:
    if lhs is False or rhs is False:
        return False
    return True if lhs and rhs else None


def _applied(function: Callable[[float], float]) -> Callable[[Known], Known]:
    def apply(value: Known) -> Known:
        return None if value is None else function(value)

    return apply


def _same(value: Known) -> Known:
    return value


_RULES: dict[str, Callable[..., Known]] = {
    "arith.addf": _add,
    "arith.andi": _and,
    "arith.divf": _divide,
    "arith.extf": _same,
    "arith.maximumf": _both(max),
    "arith.minimumf": _both(min),
    "arith.mulf": _multiply,
    "arith.negf": _applied(lambda value: -value),
    "arith.select": _select,
    "arith.subf": _subtract,
    "arith.truncf": _same,
    "math.absf": _applied(abs),
    "math.exp": _applied(lambda value: math.exp(min(value, 700.0))),
    "math.exp2": _applied(lambda value: 2.0 ** min(value, 1000.0)),
}
