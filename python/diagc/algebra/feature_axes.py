"""Axes of open size that have to be fixed before a normalised contraction can be one kernel.

Between a product (scores), a normaliser, and a product that sums over the normalised axis, a stream
keeps no scores in memory; but then the depth of the first product, and the columns of the second,
are in the state of each row, whose size a kernel must know. Lengths, batches and heads stay open.
"""

from collections.abc import Iterator, Mapping

from diagc.algebra.dataflow import defining_op, inputs, reduced_axes
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["open_features"]

_VIEWS = ("diag.map", "diag.relabel", "diag.reindex")
_STATISTICS = ("diag.normalize", "diag.reduce")


def open_features(entry: ir.Operation) -> frozenset[str]:
    """Labels of such axes in a function as it was imported, by the labels of the ops that sum."""
    found: set[str] = set()
    for view in diag.function_body(entry).operations:
        if view.operation.name == "diag.contract":
            found.update(_features(view.operation))
    return frozenset(found)


def _features(op: ir.Operation) -> Iterator[str]:
    """Axes of open size of a contraction of normalised products, and of these products."""
    summed = set(reduced_axes(op))
    for weights in op.operands:
        sizes = diag.dims(weights)
        if not any(sizes.get(axis) == diag.DYNAMIC for axis in summed):
            continue
        for scores in _products(weights):
            depths = diag.dims(scores.operands[0])
            yield from _open(depths, set(reduced_axes(scores)))
            columns = diag.dims(op.results[0])
            yield from _open(columns, columns.keys() - sizes.keys())


def _open(sizes: Mapping[str, int], axes: set[str]) -> Iterator[str]:
    yield from (axis for axis in sorted(axes) if sizes.get(axis) == diag.DYNAMIC)


def _products(value: ir.Value) -> list[ir.Operation]:
    """The contractions behind a value, if a normaliser or reduction stands between."""
    found: list[ir.Operation] = []
    seen: set[tuple[ir.Value, bool]] = set()
    stack = [(value, False)]
    while stack:
        item = stack.pop()
        op = defining_op(item[0])
        if op is None or item in seen:
            continue
        seen.add(item)
        if op.name == "diag.contract":
            found += [op] if item[1] else []
        elif op.name in (*_VIEWS, *_STATISTICS):
            normalised = item[1] or op.name in _STATISTICS
            stack.extend((source, normalised) for source in inputs(op))
    return found
