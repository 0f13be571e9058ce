"""Shifts that cancel in every result, as the maximum that a safe softmax subtracts.

Let c be a wire that stands for a shift. A term is *scaled* by k when it is exp(k c) times something
that does not depend on c, *shifted* by s when it is s c plus such a thing. exp turns a shift into a
scale, log a scale into a shift, products add scales, sums add shifts; sums and linear ops need
terms of one scale. When all results are scaled and shifted by 0, they do not depend on c: its
gradient is exactly 0, and c may be taken for a constant.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from diagc.algebra.dataflow import defining_op, inputs, reduced_axes
from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr, call, constant
from diagc.algebra.graph import Graph
from diagc.algebra.wire_terms import WireTerms
from diagc.mlir import ir

__all__ = ["cancelling_shifts", "needed_extrema"]


@dataclass(frozen=True)
class Dependence:
    """How a term depends on c: `exp(scale c)` times, `shift c` plus something else."""

    scale: float = 0.0
    shift: float = 0.0
    literal: str = ""


_NONE = Dependence()
_ANY_SCALE = Dependence(literal="0")
"""Of 0, which is 0 at any scale."""
_ANYTHING = Dependence(literal="inf")
"""Of an infinity, which no finite c changes."""


class _UnknownError(Exception):
    """A term depends on c in another way."""


def cancelling_shifts(graph: Graph) -> set[ir.Value]:
    """Maxima and minima, and maps of them, that no result of a block depends on.

    A map may read more: `max(m, sink)` cancels where a row has a sink, and m alone does not.
    """
    terms = WireTerms()
    return {shift for shift in _candidates(graph) if _cancels(graph, terms, shift)}


def needed_extrema(graph: Graph) -> set[ir.Value]:
    """Maxima and minima that results depend on by more than a shift that cancels."""
    fixed = cancelling_shifts(graph)
    needed = set(graph.reads[graph.ops[-1]]) - fixed
    for op in reversed(graph.ops[:-1]):
        if any(result in needed for result in op.results):
            needed.update(value for value in graph.reads[op] if value not in fixed)
    return {value for value in needed if _is_extremum(defining_op(value))}


def _is_extremum(op: ir.Operation | None) -> bool:
    is_reduce = op is not None and op.name == "diag.reduce"
    return op is not None and is_reduce and op.attributes["kind"].value in ("max", "min")


def _candidates(graph: Graph) -> list[ir.Value]:
    found: list[ir.Value] = []
    for op in graph.ops:
        if _is_extremum(op) or (op.name == "diag.map" and _is_of_rows(graph, op, found)):
            found.append(op.results[0])
    return found


def _is_of_rows(graph: Graph, op: ir.Operation, extrema: Sequence[ir.Value]) -> bool:
    """Whether a map reads extrema, or maps of them, and nothing along the axes of their rows."""
    read = [value for value in inputs(op) if value in extrema]
    sources = [defining_op(value) for value in read]
    rows = {a for source in sources if source is not None for a in reduced_axes(source)}
    return bool(read) and not rows & set(graph.labels(op.results[0]))


def _cancels(graph: Graph, terms: WireTerms, shift: ir.Value) -> bool:
    known = {str(terms.leaf(shift).value): Dependence(shift=1.0)}
    axes = set(graph.labels(shift))
    source = defining_op(shift)
    assert source is not None
    try:
        for op in graph.ops[graph.position[source] + 1 :]:
            read = [known.get(str(terms.leaf(v).value), _NONE) for v in graph.reads[op]]
            if all(dependence == _NONE for dependence in read):
                continue
            found = _of_op(op, terms, known, axes)
            for result in op.results:
                known[str(terms.leaf(result).value)] = found
    except _UnknownError:
        return False
    return True


def _of_op(
    op: ir.Operation, terms: WireTerms, known: Mapping[str, Dependence], axes: set[str]
) -> Dependence:
    """The dependence of the result; what is returned must not depend on c."""
    if op.name == "diag.map":
        term = terms.definition(op.results[0])
        assert term is not None
        return _of(term, known)
    read = [known.get(str(terms.leaf(value).value), _NONE) for value in op.operands]
    if axes & set(reduced_axes(op)):
        raise _UnknownError
    if op.name == "diag.contract":
        return _product(read[0], read[1])
    if op.name == "diag.reduce":
        kind = op.attributes["kind"].value
        if kind in ("max", "min") or (kind == "add" and not read[0].shift):
            return read[0]
    raise _UnknownError


def _of(expr: Expr, known: Mapping[str, Dependence]) -> Dependence:
    """The dependence of a term.

    Raises:
        _UnknownError: it has none of this kind.
    """
    if expr.op == SYMBOL:
        return known.get(str(expr.value), _NONE)
    if expr.op == CONSTANT:
        value = float(expr.value or 0.0)
        infinite = value in (float("inf"), float("-inf"))
        return _ANYTHING if infinite else _NONE if value else _ANY_SCALE
    args = [_of(arg, known) for arg in expr.args]
    if all(arg == _NONE or arg.literal for arg in args):
        return _NONE
    if expr.op not in _RULES:
        raise _UnknownError
    return _RULES[expr.op](expr, args)


# ---- functions ---------------------------------------------------------------------------------


def _alike(args: Sequence[Dependence]) -> Dependence:
    """The one dependence that all of them have."""
    found = {arg for arg in args if not arg.literal}
    if len(found) != 1 or (_ANY_SCALE in args and any(arg.shift for arg in found)):
        raise _UnknownError
    return found.pop()


def _sum(sign: float) -> Callable[[Expr, list[Dependence]], Dependence]:
    def rule(_expr: Expr, args: list[Dependence]) -> Dependence:
        if any(arg.scale for arg in args):
            return _alike(args)
        return Dependence(shift=args[0].shift + sign * args[1].shift)

    return rule


def _product(x: Dependence, y: Dependence, sign: float = 1.0) -> Dependence:
    """Of terms that are scaled only."""
    if x == _ANY_SCALE or (y == _ANY_SCALE and sign > 0):
        return _ANY_SCALE
    if y == _ANY_SCALE or x.shift or y.shift:
        raise _UnknownError
    return Dependence(scale=x.scale + sign * y.scale)


def _multiplied(expr: Expr, args: list[Dependence]) -> Dependence:
    for number, arg in zip(expr.args, reversed(args), strict=True):
        if number.op == CONSTANT and arg.shift:
            return Dependence(shift=arg.shift * float(number.value or 0.0))
    return _product(args[0], args[1])


def _divided(expr: Expr, args: list[Dependence]) -> Dependence:
    number = expr.args[1]
    if number.op == CONSTANT and number.value and args[0].shift:
        return Dependence(shift=args[0].shift / float(number.value))
    return _product(args[0], args[1], -1.0)


def _compared(_expr: Expr, args: list[Dependence]) -> Dependence:
    _alike(args)
    return _NONE


def _selected(expr: Expr, args: list[Dependence]) -> Dependence:
    if args[0] != _NONE:
        raise _UnknownError
    if expr.args[:2] == (call("eq", expr.args[2], float("-inf")), constant(0.0)):
        return args[2]  # the maximum of a row of -inf, of which no finite c changes anything
    return _alike(args[1:])


def _exponential(_expr: Expr, args: list[Dependence]) -> Dependence:
    if args[0].scale:
        raise _UnknownError
    return Dependence(scale=args[0].shift)


def _logarithm(_expr: Expr, args: list[Dependence]) -> Dependence:
    if args[0].shift:
        raise _UnknownError
    return Dependence(shift=args[0].scale)


def _scaled(_expr: Expr, args: list[Dependence]) -> Dependence:
    if args[0].shift:
        raise _UnknownError
    return args[0]


def _root(_expr: Expr, args: list[Dependence]) -> Dependence:
    return Dependence(scale=_scaled(_expr, args).scale / 2)


def _power(expr: Expr, args: list[Dependence]) -> Dependence:
    if expr.args[1].op != CONSTANT:
        raise _UnknownError
    return Dependence(scale=_scaled(expr, args).scale * float(expr.args[1].value or 0.0))


def _negative(_expr: Expr, args: list[Dependence]) -> Dependence:
    return Dependence(args[0].scale, -args[0].shift)


_RULES: dict[str, Callable[[Expr, list[Dependence]], Dependence]] = {
    "abs": _scaled,
    "add": _sum(1.0),
    "div": _divided,
    "eq": _compared,
    "exp": _exponential,
    "le": _compared,
    "log": _logarithm,
    "lt": _compared,
    "max": lambda _expr, args: _alike(args),
    "min": lambda _expr, args: _alike(args),
    "mul": _multiplied,
    "neg": _negative,
    "pow": _power,
    "select": _selected,
    "sqrt": _root,
    "sub": _sum(-1.0),
}
