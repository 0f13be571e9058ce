"""Axes of open size that have to be fixed before a normalised contraction can be one kernel.

Between a product (scores), a normaliser, and a product that sums over the normalised axis, a stream
keeps no scores in memory; but then the depth of the first product, and the columns of the second,
are in the state of each row, whose size a kernel must know. Lengths, batches and heads stay open.
"""

from collections.abc import Iterator

from diagc.algebra.dataflow import defining_op, inputs, reduced_axes
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["feature_axes", "open_features"]

_VIEWS = ("diag.map", "diag.relabel", "diag.reindex")
_STATISTICS = ("diag.normalize", "diag.reduce")


def open_features(entry: ir.Operation) -> frozenset[str]:
    """Labels of such axes in a function as it was imported, by the labels of the ops that sum."""
    found: set[str] = set()
    for view in diag.function_body(entry).operations:
        op = view.operation
        if op.name != "diag.contract":
            continue
        for weights in op.operands:
            sizes = diag.dims(weights)
            if any(sizes.get(axis) == diag.DYNAMIC for axis in reduced_axes(op)):
                found.update(axis for axis, size in _features(op, weights) if size == diag.DYNAMIC)
    return frozenset(found)


def feature_axes(entry: ir.Operation) -> frozenset[str]:
    """Labels of all axes, of any size, that such a kernel keeps in the state of a row."""
    ops = [view.operation for view in diag.function_body(entry).operations]
    products = [op for op in ops if op.name == "diag.contract"]
    features = (_features(op, weights) for op in products for weights in op.operands)
    return frozenset(axis for found in features for axis, _ in found)


def _features(op: ir.Operation, weights: ir.Value) -> Iterator[tuple[str, int]]:
    """Axes, with sizes, of a contraction of normalised products, and of these products."""
    for scores in _products(weights):
        depths = diag.dims(scores.operands[0])
        yield from ((axis, depths[axis]) for axis in sorted(reduced_axes(scores)))
        columns, sizes = diag.dims(op.results[0]), diag.dims(weights)
        yield from ((axis, columns[axis]) for axis in sorted(columns.keys() - sizes.keys()))


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
