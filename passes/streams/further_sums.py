"""Emits the sums that together let a state of a stream follow its statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diagc.algebra.dataflow import reduced_axes
from diagc.algebra.expressions import Expr, constant, substitute, symbol, symbols
from diagc.algebra.finite_rank import Form
from diagc.algebra.maps import map_expr
from diagc.algebra.streams import FurtherSums
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Part", "add_parts", "sum_dims", "sum_term", "weighed"]


def _term_dims(
    op: ir.Operation, further: FurtherSums, term: Expr, wires: Mapping[str, ir.Value]
) -> dict[str, int]:
    """Labelled sizes of a term: the axes that it varies along, and those that are summed."""
    axes = {axis for name in symbols(term) for axis in diag.labels(wires[name])}
    axes.update(reduced_axes(op))
    operand = op.operands[further.operand]
    return {label: size for label, size in diag.dims(operand).items() if label in axes}


def sum_dims(
    op: ir.Operation, further: FurtherSums, term: Expr, wires: Mapping[str, ir.Value]
) -> dict[str, int]:
    """Labelled sizes of the sum of a term."""
    dims = _term_dims(op, further, term, wires)
    if op.name == "diag.contract":
        dims = diag.join_dims((dims, diag.dims(op.operands[1 - further.operand])))
    return {label: size for label, size in dims.items() if label not in reduced_axes(op)}


def sum_term(
    op: ir.Operation,
    further: FurtherSums,
    term: Expr,
    operands: Sequence[ir.Value],
    wires: Mapping[str, ir.Value],
    type_: ir.Type,
) -> ir.Value:
    """The sum of a term over the current chunk.

    Args:
        op: the reduction; of its `operands` the one that `further` names is replaced.
        further: the sums.
        term: the term.
        operands: what the reduction reads in the body.
        wires: what the symbols of the term stand for in the body.
        type_: element type of the sum.
    """
    sizes = diag.dims(operands[further.operand])
    result = {label: sizes[label] for label in _term_dims(op, further, term, wires)}
    made = map_expr(term, {n: wires[n] for n in sorted(symbols(term))}, type_, result=result)
    if op.name == "diag.reduce":
        return diag.reduce(made, reduced_axes(op), "add")
    both = list(operands)
    both[further.operand] = made
    return diag.contract(both[0], both[1], reduced_axes(op), dtype=type_)


@dataclass(frozen=True)
class Part:
    """The sums of a part of the axis, and what they move by first, if they do.

    Args:
        sums: one wire for each.
        scale: a factor or shift of the only sum.
        factors: what the moves of a form read.
    """

    sums: Sequence[ir.Value]
    scale: ir.Value | None = None
    factors: Sequence[ir.Value] | None = None


def add_parts(parts: Sequence[Part], form: Form, number: int) -> ir.Value:
    """Sum number `number` of all parts together, in one map."""
    wires: dict[str, ir.Value] = {}
    total: Expr | None = None
    for index, part in enumerate(parts):
        moved = _moved(part, form, number, f"p{index}_", wires)
        total = moved if total is None else total + moved
    assert total is not None
    first = parts[0].sums[number]
    return map_expr(total, wires, diag.element_type(first), result=diag.dims(first))


def _moved(part: Part, form: Form, number: int, prefix: str, wires: dict[str, ir.Value]) -> Expr:
    """The term of one part; the wires that it reads are added to `wires`."""

    def read(name: str, wire: ir.Value) -> Expr:
        wires[prefix + name] = wire
        return symbol(prefix + name)

    if part.factors is None:
        return read(f"d{number}", part.sums[number])
    total: Expr | None = None
    for source, coefficient in form.moves[number]:
        names = sorted(symbols(coefficient))
        factors = {n: read(n, part.factors[int(n[1:])]) for n in names}
        moved = read(f"d{source}", part.sums[source])
        if coefficient != constant(1.0):
            moved = substitute(coefficient, factors) * moved
        total = moved if total is None else total + moved
    assert total is not None
    return total


def weighed(
    op: ir.Operation, form: Form, sums: Sequence[ir.Value], wires: Mapping[str, ir.Value]
) -> ir.Value:
    """The value of a state from its sums.

    Args:
        op: the reduction.
        form: the sums.
        sums: one wire for each.
        wires: the statistics as they are now, by name.
    """
    total: Expr | None = None
    read: dict[str, ir.Value] = {}
    for number, weight in enumerate(form.weights):
        if weight == constant(0.0):
            continue
        read[f"d{number}"] = sums[number]
        read |= {name: wires[name] for name in sorted(symbols(weight))}
        part = symbol(f"d{number}")
        part = part if weight == constant(1.0) else weight * part
        total = part if total is None else total + part
    assert total is not None
    type_ = diag.element_type(sums[0])
    return map_expr(total, read, type_, result=diag.dims(op.results[0]))
