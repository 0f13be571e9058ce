"""Emits the further sums of a stream: sums D_1, D_2 ... that let D_0 follow a statistic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

from diagc.algebra.dataflow import reduced_axes
from diagc.algebra.expressions import Expr, symbol, symbols
from diagc.algebra.maps import map_expr
from diagc.algebra.streams import FurtherSums
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Part", "add_parts", "sum_dims", "sum_term"]


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
    """The sums D_0, D_1 ... of a part of the axis; with `scale` and `step` they move first."""

    sums: Sequence[ir.Value]
    scale: ir.Value | None = None
    step: ir.Value | None = None


def add_parts(parts: Sequence[Part], number: int) -> ir.Value:
    """Sum number `number` of all parts together, in one map.

    A part that moves by t gives the sum over k of t^k / k! * D_(number + k), times its scale.
    """
    wires: dict[str, ir.Value] = {}
    total: Expr | None = None
    for index, part in enumerate(parts):
        moved = _moved(part, number, f"p{index}_", wires)
        total = moved if total is None else total + moved
    assert total is not None
    first = parts[0].sums[number]
    return map_expr(total, wires, diag.element_type(first), result=diag.dims(first))


def _moved(part: Part, number: int, prefix: str, wires: dict[str, ir.Value]) -> Expr:
    """The term of one part; the wires that it reads are added to `wires`."""

    def read(name: str, wire: ir.Value) -> Expr:
        wires[prefix + name] = wire
        return symbol(prefix + name)

    total = read(f"d{number}", part.sums[number])
    if part.step is not None:
        power: Expr | None = None
        for k, wire in enumerate(part.sums[number + 1 :], start=1):
            step = read("t", part.step)
            power = step if power is None else power * step
            factor = power if k == 1 else power * (1.0 / factorial(k))
            total = total + factor * read(f"d{number + k}", wire)
    return total if part.scale is None else total * read("r", part.scale)
