"""Which producers of a reduced wire a stream computes again, chunk by chunk.

Computing a wire inside the stream saves writing and reading it. It costs when the wire lacks an
axis that the stream weaves (then every task computes it), or when somebody else needs it anyway.
"""

from collections.abc import Collection, Iterable, Sequence
from math import prod

from diagc.algebra.dataflow import carries, defining_op, reduced_axes
from diagc.algebra.graph import Graph
from diagc.cost import elements as element_count
from diagc.cost import recompute_pays
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import nested_ops
from diagc.passes.kernels.library_products import is_library, is_library_product

__all__ = ["GRADIENT", "LARGEST_DEPTH", "absorbable", "contraction_depth", "is_layer", "woven_axes"]

GRADIENT = "diag.gradient"
"""Attribute of a function that the pass differentiate made."""

LONGEST_STORED = 4096
"""What a layer with parameters gives is stored up to this size of the axis that is streamed."""

LARGEST_DEPTH = 512
"""The longest contraction that is computed inside a stream: its operand rows stay in cache."""

LARGEST_FEATURES = 128
"""Up to this size an axis may be one of features."""


def woven_axes(reductions: Sequence[ir.Operation]) -> set[str]:
    """Axes along which all reductions are independent, so that tasks may be split there."""
    common: set[str] | None = None
    for op in reductions:
        axes = set(diag.labels(op.results[0]))
        if op.name == "diag.contract":
            larger = max(op.operands, key=element_count)
            axes &= set(diag.labels(larger))
        if axes:
            common = axes if common is None else common & axes
    return common or set()


def absorbable(graph: Graph, axis: str, reductions: Sequence[ir.Operation]) -> set[ir.Operation]:
    """The producers of the wires that `reductions` reduce over `axis` which pay to repeat."""
    key = ("absorbable", axis, tuple(reductions))
    if key not in graph.answers:
        graph.answers[key] = _absorbable(graph, axis, reductions)
    return set(graph.answers[key])


def _absorbable(
    graph: Graph, axis: str, reductions: Sequence[ir.Operation]
) -> frozenset[ir.Operation]:
    refused: set[ir.Operation] = set()
    while True:
        found = _cone(graph, axis, reductions, refused)
        outside = _outside(graph, found, axis, reductions)
        later = graph.after(reductions)  # statistics: in the body in any case
        needed = {op for op in outside if op not in later and not _may_repeat(op)}
        if not needed:
            return frozenset(found)
        refused |= needed


def _cone(
    graph: Graph, axis: str, reductions: Sequence[ir.Operation], refused: Iterable[ir.Operation]
) -> set[ir.Operation]:
    """All candidates that are reached from the reductions through candidates."""
    sizes = diag.join_dims(diag.dims(op.results[0]) for op in reductions)
    woven = {axis: sizes[axis] for axis in woven_axes(reductions)}
    later = graph.after(reductions)
    found: set[ir.Operation] = set()
    stack = [(value, 0) for op in reductions for value in graph.reads[op]]
    while stack:
        value, depth = stack.pop()
        op = defining_op(value)
        if op is None or op in found or op in reductions or op in refused:
            continue
        follows = op in later  # a statistic: then it is in the body in any case
        if not follows and not (carries(value, axis) and _pays(graph, op, axis, woven, depth)):
            continue
        found.add(op)
        stack.extend((read, depth + (op.name == "diag.contract")) for read in graph.reads[op])
    return found


def _pays(graph: Graph, op: ir.Operation, axis: str, woven: diag.Dims, depth: int) -> bool:
    """Whether `op` costs less inside the stream than as a wire in memory."""
    repeated = not woven.keys() <= set(diag.labels(op.results[0]))
    if op.name == "diag.map":
        return not repeated or recompute_pays(op) or _grows(op)
    if op.name == "diag.contract":
        fits = _may_absorb(graph, op, axis)
        once = depth == 0 and not (repeated and _is_shared(op, woven))
        return fits and (once or _grows(op)) and axis not in reduced_axes(op)
    if op.name == "diag.reduce":
        return not repeated and contraction_depth(op) <= LARGEST_DEPTH
    if op.name == "diag.relabel":
        return axis not in diag.strings(op.attributes["to"])
    return False


def _is_shared(op: ir.Operation, woven: diag.Dims) -> bool:
    """Whether many tasks would compute a product: those along axes that its result lacks.

    Few positions of such an axis are features, worked on in one task.
    """
    own = [size for axis, size in diag.dims(op.results[0]).items() if axis in woven]
    lacking = [size for axis, size in woven.items() if axis not in diag.labels(op.results[0])]
    if diag.DYNAMIC in own:
        return False
    return diag.DYNAMIC in lacking or prod(lacking) > max(LARGEST_FEATURES, prod(own))


def _may_absorb(graph: Graph, op: ir.Operation, axis: str) -> bool:
    """Whether a stream over `axis` computes a contraction, itself or by blocks of the library."""
    if is_library(op) or is_layer(graph, op, axis):
        return False
    return contraction_depth(op) <= LARGEST_DEPTH or is_library_product(op)


def is_layer(graph: Graph, op: ir.Operation, axis: str) -> bool:
    """Whether a contraction multiplies by parameters and is better left whole to the library.

    It is not where `axis` is so long that its result should never be stored, and the product is
    cut into blocks, or `axis` is the parameters' own (classes), or they are a vector (scores).
    """
    held = [value for value in op.operands if graph.from_parameters(value)]
    if not held:
        return False
    size = diag.dims(op.results[0]).get(axis, 0)
    if size != diag.DYNAMIC and size <= LONGEST_STORED:
        return True
    labels = {label for value in held for label in diag.labels(value)}
    return not (is_library_product(op) or axis in labels or labels <= set(reduced_axes(op)))


def contraction_depth(op: ir.Operation) -> int:
    """Positions that a contraction or reduction sums over; a dynamic axis counts as too many."""
    sizes = diag.dims(op.operands[0])
    depth = 1
    for axis in reduced_axes(op):
        depth *= LARGEST_DEPTH + 1 if sizes[axis] == diag.DYNAMIC else sizes[axis]
    return depth


def _grows(op: ir.Operation) -> bool:
    """Whether the result has more elements than all that is read."""
    read = [o.operands[0] for o in nested_ops(op) if o.name == "diag.element"] or op.operands
    return element_count(op.results[0]) > sum(map(element_count, dict.fromkeys(read)))


def _may_repeat(op: ir.Operation) -> bool:
    """Whether an op that is needed outside of the stream may be computed inside, too."""
    return op.name == "diag.map" and recompute_pays(op)


def _outside(
    graph: Graph, found: Collection[ir.Operation], axis: str, reductions: Sequence[ir.Operation]
) -> set[ir.Operation]:
    """The ops of the body that are computed outside of it too: others read what they lead to."""
    inside = {*found, *reductions, *_of_other_streams(graph, axis, reductions)}
    needed: set[ir.Operation] = set()
    for op in reversed(graph.in_order(found)):
        users = graph.users(op.results[0])
        if any(user in needed or user not in inside for user in users):
            needed.add(op)
    return needed


def _of_other_streams(
    graph: Graph, axis: str, reductions: Sequence[ir.Operation]
) -> set[ir.Operation]:
    """Maps, sums and products that another stream computes from what it repeats itself.

    Such as the sums over queries of attention's weights: their stream computes the scores again, so
    that nobody stores them. In gradients all sums and products are taken to stream, the statistics
    of a row too; elsewhere one that does not would store the scores all the same, and statistics of
    scores that were summed in another order would not fit them.
    """
    if reductions[0].parent.attributes.get(GRADIENT) is None:
        return _of_later_streams(graph, axis, reductions)
    woven = woven_axes(reductions)
    found: set[ir.Operation] = set()
    for op in reversed(graph.ops):
        if op.name == "diag.map":
            users = graph.users(op.results[0])
            repeated = graph.carries(op.results[0], axis) and bool(users)
            if repeated and all(user in found or user in reductions for user in users):
                found.add(op)
        elif op not in reductions and _streams_too(graph, op, axis, woven):
            found.add(op)
    return found


def _of_later_streams(
    graph: Graph, axis: str, reductions: Sequence[ir.Operation]
) -> set[ir.Operation]:
    """Maps, and sums over another axis, that a later stream computes from what it repeats."""
    found: set[ir.Operation] = set()
    for op in reversed(graph.in_order(graph.after(reductions))):
        if op.name == "diag.map":
            users = graph.users(op.results[0])
            repeated = graph.carries(op.results[0], axis) and bool(users)
            if repeated and all(user in found for user in users):
                found.add(op)
        elif op.name == "diag.reduce" and axis not in reduced_axes(op):
            along = reduced_axes(op)
            woven = len(along) == 1 and along[0] in woven_axes(reductions)
            if woven and graph.carries(op.results[0], axis):
                found.add(op)
    return found


def _streams_too(graph: Graph, op: ir.Operation, axis: str, woven: set[str]) -> bool:
    """Whether a sum or product runs over `axis` for the same tasks, or over the tasks' axes.

    Over several at once where queries of grouped heads share a key.
    """
    along = reduced_axes(op)
    if not along or is_library(op) or any(map(graph.from_parameters, op.operands)):
        return False
    if axis in along:
        return bool(woven & set(graph.labels(op.results[0])))
    return woven.issuperset(along) and graph.carries(op.results[0], axis)
