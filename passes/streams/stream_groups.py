"""Groups the reductions over one axis into streams, and decides which groups are worth one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod

from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.graph import Graph
from diagc.algebra.refusal import Refusal
from diagc.algebra.streams import Derivation, derive
from diagc.cost import elements as element_count
from diagc.cost import value_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.kernels.fusion_rules import LARGEST_ROW
from diagc.passes.kernels.library_products import is_library, is_library_product, is_widening
from diagc.passes.streams.absorption import absorbable, contraction_depth, is_layer, woven_axes

__all__ = ["Group", "Note", "axes_by_state", "derivation", "groups"]

LARGEST_PRIVATE = 512
"""Up to this size, an axis that one operand alone brings to a result is kept whole in a state."""

SHORTEST_AXIS = 8
"""A static axis below this is not worth a loop."""

MOST_STORED = 256 << 20
"""Bytes that pass between products of the library before they are cut into blocks."""

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


def axes_by_state(graph: Graph) -> list[str]:
    """All axes that something reduces, those with small states first, else in order of appearance.

    Where one op reduces two axes, only one of them can be streamed.
    """
    states: dict[str, int] = {}
    joint: set[str] = set()
    for op in graph.ops:
        axes = reduced_axes(op)
        joint.update(axes if len(axes) > 1 else ())
        for axis in axes:
            states[axis] = max(states.get(axis, 0), element_count(op.results[0]))
    ranked = iter(sorted((axis for axis in states if axis in joint), key=states.__getitem__))
    return [next(ranked) if axis in joint else axis for axis in states]


def groups(graph: Graph, axis: str, limit: int, notes: list[Note]) -> list[Group]:
    """Reductions over `axis`, in groups that are worth a stream; refusals are added to `notes`."""
    found: list[Group] = []
    for op in graph.ops:
        if axis not in reduced_axes(op) or not _may_stream(graph, op, axis, limit):
            continue
        if not _join(graph, axis, op, found, notes):
            alone = derivation(graph, axis, [op], notes)
            found.extend([Group([op], alone)] if alone is not None else [])
    together = _with_counts(graph, axis, found)
    return [
        group
        for group in together
        if is_worth_it(graph, group, axis, limit) and not _is_librarys(group, axis, notes)
    ]


def _may_stream(graph: Graph, op: ir.Operation, axis: str, limit: int) -> bool:
    """Whether a reduction could be part of a stream that is worth it: cheap to ask, often false.

    A product with parameters (a linear layer) never is: the library does it as well.
    """
    if op.name == "diag.contract":
        fits = not is_library(op) and not _has_wide_state(op)
        return fits and not any(map(graph.from_parameters, op.operands))
    is_long = _is_long(axis_size([op], axis), limit) or _is_long_row([op])
    return is_long or _reads_contraction(graph, op, axis)


def _reads_contraction(graph: Graph, op: ir.Operation, axis: str) -> bool:
    """Whether a contraction of no parameters, or what is like one, feeds `op` through maps."""
    stack, seen = list(op.operands), set()
    while stack:
        value = stack.pop()
        producer = defining_op(value)
        if value in seen or producer is None or not graph.carries(value, axis):
            continue
        seen.add(value)
        if producer.name == "diag.contract":
            if not is_library(producer) and not is_layer(graph, producer, axis):
                return True
        elif _is_pairing(graph, producer, axis):
            return True
        elif producer.name in ("diag.map", "diag.relabel"):
            stack.extend(graph.reads[producer])
    return False


def _is_pairing(graph: Graph, op: ir.Operation, axis: str) -> bool:
    """Whether a reduction makes scores of pairs, as a contraction does: distances, for example.

    It is one whose result is larger than every wire that its maps read.
    """
    if op.name != "diag.reduce" or not graph.carries(op.results[0], axis):
        return False
    stack, seen = list(op.operands), set()
    while stack:
        value = stack.pop()
        producer = defining_op(value)
        if value in seen:
            continue
        seen.add(value)
        if producer is not None and producer.name == "diag.map":
            stack.extend(graph.reads[producer])
        elif element_count(value) >= element_count(op.results[0]):
            return False
    return True


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
    return not any(graph.carries(value, axis) and value not in made for value in reads)


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


def _join(graph: Graph, axis: str, op: ir.Operation, found: list[Group], notes: list[Note]) -> bool:
    """Add `op` to the last group that it depends on, else to the last that reads the same wire.

    Counts of positions that `op` depends on come along: with them a mean is a running mean.
    """
    counts = [g for g in found if _reads_nothing(graph, axis, g) and _depends(graph, axis, op, g)]
    for related in (_depends, _shares):
        others = (g for g in reversed(found) if g not in counts)
        group = next((g for g in others if related(graph, axis, op, g)), None)
        if group is None or not _same_tasks(op, group):
            continue
        counted = [count for other in counts for count in other.reductions]
        reductions = graph.in_order([*counted, *group.reductions])
        joined = derivation(graph, axis, [*reductions, op], notes)
        if joined is not None:
            found[:] = [g for g in found if g not in counts]
            group.reductions = [*reductions, op]
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
    together = [op, *group.reductions]
    repeated = absorbable(graph, axis, together)
    mine, *others = (_sources(graph, axis, each, repeated) for each in together)
    theirs = set().union(*others)
    return any(_covers(graph, value, axis, together) for value in mine if value in theirs)


def _sources(
    graph: Graph, axis: str, op: ir.Operation, repeated: Collection[ir.Operation]
) -> list[ir.Value]:
    """The wires with the axis that a reduction reads, directly and through what is repeated."""
    found: dict[ir.Value, None] = {}
    stack = [op]
    while stack:
        for value in graph.reads[stack.pop()]:
            if graph.carries(value, axis) and value not in found:
                found[value] = None
                producer = defining_op(value)
                stack.extend([producer] if producer in repeated else [])
    return list(found)


def _covers(graph: Graph, value: ir.Value, axis: str, reductions: Sequence[ir.Operation]) -> bool:
    """Whether a wire has the axes that reductions weave, but for those of a second operand.

    Where one reduction weaves fewer axes than the others, its own will do: theirs are features.
    """
    axes = {*graph.labels(value), axis}
    if all(woven_axes([op]) <= axes or value in op.operands for op in reductions):
        return True
    woven = [woven_axes([op]) for op in reductions]
    fewest = min(woven, key=len)
    return bool(fewest) and fewest <= axes and all(fewest <= each for each in woven)


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


def is_worth_it(graph: Graph, group: Group, axis: str, limit: int) -> bool:
    """Whether streaming saves memory traffic, or is the only way to lower the reductions.

    It is when a contraction or distances of pairs are computed inside, so that the result is never
    stored (without a statistic only when that is larger than what it reads, and the axis longer
    than the inner one), when something but contractions reduces a long axis, and when contractions
    give matrices that are small against what they read, and several read the same wire or one has a
    wider result than its operands, which the library would copy.
    """
    size = axis_size(group.reductions, axis)
    is_long = _is_long(size, limit) or _is_long_row(group.reductions)
    has_statistic = any(op.name == "diag.reduce" for op in group.reductions)
    inside = [op for op in group.derivation.body if op not in group.reductions]
    contractions = [
        op for op in inside if op.name == "diag.contract" or _is_pairing(graph, op, axis)
    ]
    if contractions and (is_long or has_statistic):
        return is_long or size >= SHORTEST_AXIS
    if contractions:
        return any(map(_is_larger, contractions)) and size > max(
            map(contraction_depth, contractions)
        )
    if has_statistic:
        return is_long
    if len(group.reductions) == 1 and not is_widening(group.reductions[0]):
        return False
    return all(_is_small_matrix(op, size) for op in group.reductions)


def _is_larger(op: ir.Operation) -> bool:
    """Whether the result of a contraction is larger than either operand."""
    return element_count(op.results[0]) > max(map(element_count, op.operands))


def _is_librarys(group: Group, axis: str, notes: list[Note]) -> bool:
    """Whether a group is products of the library around maps: cutting it would only add up blocks.

    Where what passes between them is very large, blocks save memory.
    """
    if not all(op.name == "diag.contract" and is_library_product(op) for op in group.reductions):
        return False
    inside = [op for op in group.derivation.body if op not in group.reductions]
    products = [op for op in inside if op.name == "diag.contract" and is_library_product(op)]
    if not products or sum(value_bytes(op.results[0]) for op in products) > MOST_STORED:
        return False
    text = (
        f'axis "{axis}" is not streamed: only large products make and reduce it, which the library '
        f"computes whole with less traffic than in blocks, whose sums are read and written again"
    )
    notes.append(Note(group.reductions[-1], text))
    return True


def _is_small_matrix(op: ir.Operation, size: int) -> bool:
    """Whether a contraction over `size` positions gives little against what it reads."""
    for value in op.operands:
        free = [n for a, n in diag.dims(value).items() if a in _free_axes(op)]
        if diag.DYNAMIC in free or (size != diag.DYNAMIC and size < _GRAM_RATIO * prod(free)):
            return False
    return True


def _free_axes(op: ir.Operation) -> set[str]:
    """Axes that one operand of a contraction alone brings to the result."""
    left, right = (set(diag.labels(value)) for value in op.operands)
    return (left ^ right) & set(diag.labels(op.results[0]))


def axis_size(reductions: Sequence[ir.Operation], axis: str) -> int:
    """The size of the streamed axis: static when some wire says so."""
    return max(diag.dims(value)[axis] for op in reductions for value in op.operands)


def _is_long(size: int, limit: int) -> bool:
    return size == diag.DYNAMIC or size > limit


def _is_long_row(reductions: Sequence[ir.Operation]) -> bool:
    """Whether what is reduced at one position of the rest, over all axes, fits no task."""
    sizes = [diag.dims(op.operands[0])[axis] for op in reductions[:1] for axis in reduced_axes(op)]
    return diag.DYNAMIC not in sizes and prod(sizes) > LARGEST_ROW
