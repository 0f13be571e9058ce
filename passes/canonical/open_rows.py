"""Open the sizes of rows, batches and heads, so that nothing is decided by how many there are.

Before (option `batch_invariant`; q has 1 batch, 3 heads and 5 rows):

    func @main(%q: tensor<3x5x24xf32, ["h", "n", "d"]>, %k: tensor<3x65x24xf32, ["h", "m", "d"]>)
        {dims of %q are [], [h], [n], [d]}
      %s = "diag.contract"(%q, %k) {over = ["d"]}           // 3x5x65, h n m

After:

    func @main(%q: tensor<?x?x?x24xf32, ["r2", "h", "n", "d"]>, ...)
        {dims of %q are [r2], [h], [n], [d]}
      %s = "diag.contract"(%q, %k) {over = ["d"]}           // ?x?x?x65, r2 h n m
      ...
      %y = "diag.reindex"(%o) {map = (h, n, e) -> (0, h, n, e)}

What follows sees open sizes only, so a row is computed by the same kernels in every batch. A dim of
one position has no axis in an imported function; it gets one where the same dim of every other
argument, counted from the end, has one position too or an axis that is no row's. Results are those
at its one position.

An axis of rows is one that no op sums over, splits or joins, that is no parameter's, and that is no
feature of attention (see `diagc.algebra.feature_axes`).

Requires: views are simplified; run on functions, with `batch_invariant` only.

Declines: axes that views, tables or the host's callables treat apart keep their sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import networkx as nx

from diagc.algebra.dataflow import argument_attribute, inputs, is_parameter
from diagc.algebra.feature_axes import feature_axes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.canonical.axis_renaming import rename_axes
from diagc.passes.canonical.lifting import dims_of, lift
from diagc.passes.cloning import array_ops

__all__ = ["OpenRowsPass", "row_axes"]

_APART = ("diag.constant", "diag.concat", "diag.pad", "func.call")


@dataclass(frozen=True)
class OpenRowsPass(Pass):
    """open the sizes of rows, batches and heads, so that nothing is decided by them."""

    name: ClassVar[str] = "open-rows"

    def run(self, op: ir.Operation) -> None:
        """Give dims of one position axes, then open all axes of rows."""
        with op.context, op.location:
            groups = [_dims(argument) for argument in diag.function_body(op).arguments]
            for place in range(1, max(map(len, groups), default=0)):
                lift(op, _lacking(op, place), _fresh(op, place), place)
            rename_axes(op, {label: label for label in _labels(op)}, set(row_axes(op)))


def row_axes(function: ir.Operation) -> frozenset[str]:
    """Labels of axes along which all positions are computed alike and apart from each other."""
    arguments = diag.function_body(function).arguments
    given = {label for value in arguments for label in _of(value)}
    kept = set(feature_axes(function))
    kept.update(label for value in arguments if is_parameter(value) for label in _of(value))
    same: list[tuple[str, str]] = []
    for view in diag.function_body(function).operations:
        kept.update(_told_apart(view.operation))
        same += _renamed(view.operation)
    graph = nx.Graph(same)
    graph.add_nodes_from(_labels(function))
    parts = nx.connected_components(graph)
    rows = [part for part in parts if part & given and not part & kept]
    return frozenset().union(*rows)


def _told_apart(op: ir.Operation) -> set[str]:
    """Axes of which an op does not treat every position alike, or that others know."""
    if op.name in _APART:
        return {label for value in (*inputs(op), *op.results) for label in _of(value)}
    if op.name == "diag.reindex":
        exprs = ir.AffineMapAttr(op.attributes["map"]).value.results
        pairs = zip(_of(op.operands[0]), exprs, strict=True)
        moved = {label for label, expr in pairs if dims_of(expr)}  # others are read at one position
        return (moved | {*_of(op.results[0])}) - {label for pair in _renamed(op) for label in pair}
    names = [name for name in ("over", "along") if name in op.attributes]
    return {label for name in names for label in diag.strings(op.attributes[name])}


def _renamed(op: ir.Operation) -> list[tuple[str, str]]:
    """Pairs of an axis that an op reads and the axis that it is in the result."""
    if op.name == "diag.relabel":
        return list(op.opview.names.items())
    if op.name != "diag.reindex":
        return []
    exprs = list(ir.AffineMapAttr(op.attributes["map"]).value.results)
    result = diag.dims(op.results[0])
    return [
        (old, new)
        for (old, size), expr in zip(diag.dims(op.operands[0]).items(), exprs, strict=True)
        for number, new in enumerate(result)
        if expr == ir.AffineExpr.get_dim(number) and size == result[new]
        if sum(number in dims_of(other) for other in exprs) == 1
    ]


def _lacking(function: ir.Operation, place: int) -> list[ir.Value]:
    """Arguments of one position in a dim, counted from the end; none if it is others' rows."""
    found: list[ir.Value] = []
    rows = row_axes(function)
    for argument in diag.function_body(function).arguments:
        dims = _dims(argument)
        if place >= len(dims) or is_parameter(argument):
            continue
        labels = dims[-1 - place]
        if not labels:
            found.append(argument)
        elif rows.intersection(labels):
            return []
    return found


def _dims(argument: ir.Value) -> list[list[str]]:
    """The labels of each dim of the tensor that an argument is; none without a front end."""
    dims = argument_attribute(argument, "diag.dims")
    return [] if dims is None else [diag.strings(dim) for dim in dims]


def _fresh(function: ir.Operation, place: int) -> str:
    """A label that no wire has."""
    taken = _labels(function)
    names = ("r" * times + str(place) for times in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _labels(function: ir.Operation) -> set[str]:
    ops = array_ops(function)
    arguments = diag.function_body(function).arguments
    return {label for v in (*arguments, *(r for op in ops for r in op.results)) for label in _of(v)}


def _of(value: ir.Value) -> Sequence[str]:
    return diag.labels(value) if diag.is_wire(value.type) else ()
