"""Products that a stream gives chunk by chunk, from what its body computes anyway.

In the gradients of attention dS = f(Q K^T, dO V^T) is summed over queries for dK and over keys for
dQ. The stream over queries, whose tasks split the keys, holds a chunk of rows of dS for a tile of
keys. So it also gives, for the rows of each chunk, the sum over keys: 5 products in all, where two
streams that both compute dS take 7. A target adds up the parts of the tiles; in one order, when one
task has all tiles.

Only where there are enough tasks without the axis that is summed: batch and heads are static.
"""

from collections.abc import Sequence
from math import prod

from diagc.algebra.dataflow import reduced_axes
from diagc.algebra.graph import Graph
from diagc.algebra.streams import Derivation
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.absorption import woven_axes
from diagc.passes.library_products import is_library

__all__ = ["emissions"]

LEAST_TASKS = 8
"""Tasks that are left when the tiles of one axis make one task."""


def emissions(
    graph: Graph, derivation: Derivation, reductions: Sequence[ir.Operation]
) -> list[ir.Operation]:
    """The products that the stream of `derivation` may give too; no more than it has sums."""
    woven = woven_axes(reductions)
    made = {result for op in derivation.body if op not in reductions for result in op.results}
    found = [
        op
        for op in graph.ops
        if op.name == "diag.contract" and _is_emitted(graph, op, derivation, made, woven)
    ]
    axes = {label for op in found for label in reduced_axes(op)}
    states = [op.results[0] for op in reductions]
    if len(axes) != 1 or len(found) > len(reductions):
        return []
    batch = [diag.dims(value) for value in states]
    others = woven - axes
    sizes = [dims[label] for dims in batch[:1] for label in others]
    enough = diag.DYNAMIC not in sizes and prod(sizes) >= LEAST_TASKS
    return found if enough and all(others <= dims.keys() for dims in batch) else []


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
    if not isinstance(diag.element_type(result), (ir.F32Type, ir.F64Type)):
        return False  # parts would be rounded one by one
    mine = [value for value in op.operands if value in made]
    other = [value for value in op.operands if value not in made]
    if len(mine) != 1 or not graph.carries(mine[0], derivation.axis):
        return False
    if graph.carries(other[0], derivation.axis) or other[0] in _later(graph, derivation):
        return False
    sizes = (diag.dims(mine[0])[derivation.axis], diag.dims(mine[0])[along[0]])
    return diag.DYNAMIC not in sizes and woven - set(along) <= set(graph.labels(result))


def _later(graph: Graph, derivation: Derivation) -> set[ir.Value]:
    """What is computed from the results of the stream."""
    ops = graph.after([state.op for state in derivation.states])
    return {result for op in ops for result in op.results}
