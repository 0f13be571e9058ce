"""Products that a stream gives chunk by chunk, from what its body computes anyway.

In the gradients of attention dS = f(Q K^T, dO V^T) is summed over queries for dK and over keys for
dQ. The stream over queries, whose tasks split the keys, holds a chunk of rows of dS for a tile of
keys. So it also gives, for the rows of each chunk, the sum over keys: 5 products in all, where two
streams that both compute dS take 7. A target adds up the parts of the tiles; in one order, when one
task has all tiles.

Only where enough tasks are left when the tiles of one axis make one task, and where that axis is
open or the longest of those that tasks split: then it is the one that lies along the lanes of
vectors.
"""

from math import prod

from diagc.algebra.dataflow import reduced_axes
from diagc.algebra.graph import Graph
from diagc.algebra.streams import Derivation
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.kernels.library_products import is_library
from diagc.passes.streams.absorption import woven_axes

__all__ = ["emissions"]

SHORTEST = 16
"""Axes up to the length of the longest vectors are not split along lanes."""


def emissions(graph: Graph, derivation: Derivation, tasks: int) -> list[ir.Operation]:
    """The products that the stream of `derivation` may give too; no more than it has sums.

    Args:
        graph: the block.
        derivation: of the stream.
        tasks: that must be left at least.
    """
    reductions = [state.op for state in derivation.states]
    woven = woven_axes(reductions)
    made = {result for op in derivation.body if op not in reductions for result in op.results}
    found = [
        op
        for op in graph.ops
        if op.name == "diag.contract" and _is_emitted(graph, op, derivation, made, woven)
    ]
    axes = {label for op in found for label in reduced_axes(op)}
    if len(axes) != 1 or len(found) > len(reductions) or graph.after(found) & set(found):
        return []
    return found if _is_split_well(reductions, axes.pop(), woven, tasks) else []


def _is_split_well(
    reductions: list[ir.Operation], summed: str, woven: set[str], tasks: int
) -> bool:
    """Whether `summed` is open or the longest, and the others are known to make enough tasks."""
    dims = diag.join_dims(diag.dims(op.results[0]) for op in reductions)
    if any(not woven <= set(diag.labels(op.results[0])) for op in reductions):
        return False
    others = [dims[label] for label in woven - {summed}]
    if diag.DYNAMIC in others or prod(others) < tasks:
        return False
    return dims[summed] == diag.DYNAMIC or dims[summed] > max(SHORTEST, *others)


def _is_emitted(
    graph: Graph,
    op: ir.Operation,
    derivation: Derivation,
    made: set[ir.Value],
    woven: set[str],
) -> bool:
    """Whether a product sums what the body has over one axis of its tasks, for each position."""
    result, along = op.results[0], reduced_axes(op)
    if op in derivation.body or is_library(op) or any(map(graph.from_parameters, op.operands)):
        return False
    if len(along) != 1 or along[0] not in woven or not graph.carries(result, derivation.axis):
        return False
    if not diag.is_wide_float(diag.element_type(result)):
        return False  # parts would be rounded one by one
    if graph.after([op]) & set(derivation.body):
        return False  # the stream would need what it gives
    mine = [value for value in op.operands if value in made]
    other = [value for value in op.operands if value not in made]
    if len(mine) != 1 or not graph.carries(mine[0], derivation.axis):
        return False
    if graph.carries(other[0], derivation.axis) or _later(graph, derivation) & set(op.operands):
        return False
    return woven - set(along) <= set(graph.labels(result))


def _later(graph: Graph, derivation: Derivation) -> set[ir.Value]:
    """What is computed from the sums of the stream, which are not complete in its chunks."""
    ops = graph.after([state.op for state in derivation.states])
    return {result for op in ops for result in op.results}
