"""Groups the reductions over one axis into streams, and decides which groups are worth one."""

from collections.abc import Sequence
from dataclasses import dataclass

from diagc.algebra.dataflow import carries, reduced_axes
from diagc.algebra.graph import Graph
from diagc.algebra.refusal import Refusal
from diagc.algebra.streams import Derivation, derive
from diagc.cost import elements as element_count
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.absorption import absorbable, contraction_depth, woven_axes

__all__ = ["Group", "Note", "derivation", "groups", "is_worth_it", "reduced_axes_of"]

LARGEST_PRIVATE = 512
"""Up to this size, an axis that one operand alone brings to a result is kept whole in a state."""

SHORTEST_AXIS = 8
"""A static axis below this is not worth a loop."""

_GRAM_RATIO = 2
"""A Gram matrix is streamed when the axis is this many times as long as the matrix is wide."""


@dataclass(frozen=True)
class Note:
    """Why a reduction was not streamed, or not together with an earlier one."""

    op: ir.Operation
    text: str


@dataclass
class Group:
    """Reductions of one stream, in order, with the derivation that computes them."""

    reductions: list[ir.Operation]
    derivation: Derivation


def reduced_axes_of(graph: Graph) -> list[str]:
    """All axes that something reduces, in order of appearance."""
    return list(dict.fromkeys(axis for op in graph.ops for axis in reduced_axes(op)))


def groups(graph: Graph, axis: str, notes: list[Note]) -> list[Group]:
    """Reductions over `axis`, in groups that stream together; refusals are added to `notes`."""
    found: list[Group] = []
    for op in graph.ops:
        if axis not in reduced_axes(op) or _has_wide_state(op):
            continue
        if not _join(graph, axis, op, found, notes):
            alone = derivation(graph, axis, [op], notes)
            found.extend([Group([op], alone)] if alone is not None else [])
    return _with_counts(graph, axis, found)


def _with_counts(graph: Graph, axis: str, found: list[Group]) -> list[Group]:
    """Let reductions that read no data (the size of an axis, counted) ride in the first stream."""
    counts = [group for group in found if _reads_nothing(graph, axis, group)]
    others = [group for group in found if group not in counts]
    if not counts or not others:
        return found
    riders = [op for group in counts for op in group.reductions]
    reductions = graph.in_order([*riders, *others[0].reductions])
    joined = derivation(graph, axis, reductions, [])
    if joined is None:
        return found
    return [Group(reductions, joined), *others[1:]]


def _reads_nothing(graph: Graph, axis: str, group: Group) -> bool:
    body = group.derivation.body
    made = {result for op in body for result in op.results}
    reads = (value for op in body for value in graph.reads[op])
    return not any(carries(value, axis) and value not in made for value in reads)


def derivation(
    graph: Graph, axis: str, reductions: list[ir.Operation], notes: list[Note]
) -> Derivation | None:
    """The stream over `axis` that computes `reductions`, or None and a note."""
    try:
        return derive(graph, axis, reductions, absorbable(graph, axis, reductions))
    except Refusal as refusal:
        if refusal.by_law:
            text = f'axis "{axis}" is not streamed together with earlier reductions: {refusal}'
            notes.append(Note(reductions[-1], text))
        return None


def _join(
    graph: Graph, axis: str, op: ir.Operation, found: Sequence[Group], notes: list[Note]
) -> bool:
    """Add `op` to the last group that it depends on, else to the last that reads the same wire."""
    for related in (_depends, _shares):
        group = next((g for g in reversed(found) if related(graph, axis, op, g)), None)
        if group is None or not _same_tasks(op, group):
            continue
        joined = derivation(graph, axis, [*group.reductions, op], notes)
        if joined is not None:
            group.reductions.append(op)
            group.derivation = joined
            return True
    return False


def _depends(graph: Graph, _axis: str, op: ir.Operation, group: Group) -> bool:
    """Whether `op` uses a result of the group."""
    return op in graph.after(group.reductions)


def _shares(graph: Graph, axis: str, op: ir.Operation, group: Group) -> bool:
    """Whether both are computed from a wire that has the axis and all axes of the results.

    A mask that several attentions share lacks their batch axes: it does not bring them together.
    """
    return any(
        _covers(value, axis, [op, *group.reductions])
        for value in _sources(graph, axis, [op]) & _sources(graph, axis, group.reductions)
    )


def _sources(graph: Graph, axis: str, reductions: list[ir.Operation]) -> set[ir.Value]:
    """The wires with the axis that reductions read, directly and through what pays to repeat."""
    repeated = absorbable(graph, axis, reductions)
    reads = (value for op in [*reductions, *repeated] for value in graph.reads[op])
    return {value for value in reads if carries(value, axis)}


def _covers(value: ir.Value, axis: str, reductions: Sequence[ir.Operation]) -> bool:
    """Whether a wire has the axes that reductions weave, but for those of a second operand."""
    axes = {*diag.labels(value), axis}
    return all(woven_axes([op]) <= axes or value in op.operands for op in reductions)


def _same_tasks(op: ir.Operation, group: Group) -> bool:
    """Whether the open axes of the states agree, so that both fit one splitting into tasks."""
    mine = _open_axes(op.results[0])
    others = (_open_axes(other.results[0]) for other in group.reductions)
    return all(not mine or not other or mine == other for other in others)


def _open_axes(value: ir.Value) -> set[str]:
    return {label for label, size in diag.dims(value).items() if size == diag.DYNAMIC}


# ---- what is worth a stream ---------------------------------------------------------------------


def _private_axes(op: ir.Operation) -> dict[str, int]:
    """Axes, with sizes, that only the smaller operand of a contraction brings to the result."""
    if op.name != "diag.contract":
        return {}
    small, large = sorted(op.operands, key=element_count)
    skipped = (*diag.labels(large), *reduced_axes(op))
    return {label: size for label, size in diag.dims(small).items() if label not in skipped}


def _has_wide_state(op: ir.Operation) -> bool:
    """Whether the state could not stay inside one task."""
    sizes = _private_axes(op).values()
    return any(size == diag.DYNAMIC or size > LARGEST_PRIVATE for size in sizes)


def is_worth_it(group: Group, axis: str, limit: int) -> bool:
    """Whether streaming saves memory traffic, or is the only way to lower the reductions.

    It is when a contraction is computed inside, so that its result is never stored (without a
    statistic only when the axis is longer than the inner one), when something but contractions
    reduces a long axis, and when several contractions read the same wire and give matrices that
    are small against it.
    """
    size = axis_size(group, axis)
    is_long = size == diag.DYNAMIC or size > limit
    has_statistic = any(op.name == "diag.reduce" for op in group.reductions)
    inside = [op for op in group.derivation.body if op not in group.reductions]
    depths = [contraction_depth(op) for op in inside if op.name == "diag.contract"]
    if depths:
        return is_long or size >= (SHORTEST_AXIS if has_statistic else max(depths) + 1)
    if has_statistic:
        return is_long
    widths = [width for op in group.reductions for width in _free_axes(op).values()]
    return len(group.reductions) > 1 and all(
        w != diag.DYNAMIC and (size == diag.DYNAMIC or size >= _GRAM_RATIO * w) for w in widths
    )


def _free_axes(op: ir.Operation) -> dict[str, int]:
    """Axes, with sizes, that one operand of a contraction alone brings to the result."""
    left, right = map(diag.dims, op.operands)
    both = {**left, **right}
    kept = diag.labels(op.results[0])
    return {a: size for a, size in both.items() if a in kept and not (a in left and a in right)}


def axis_size(group: Group, axis: str) -> int:
    """The size of the streamed axis: static when some wire says so."""
    sizes = [
        diag.dims(value)[axis]
        for op in group.reductions
        for value in op.operands
        if carries(value, axis)
    ]
    return max(sizes)
