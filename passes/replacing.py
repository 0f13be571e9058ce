"""Puts new values in the place of several ops, at the last of them; the block stays in order."""

from collections.abc import Callable, Sequence

from diagc.algebra.graph import Graph
from diagc.mlir import ir
from diagc.options import current
from diagc.passes.rewrite_validation import validate

__all__ = ["replace_ops", "unneeded"]


def unneeded(
    graph: Graph, ops: Sequence[ir.Operation], candidates: Sequence[ir.Operation]
) -> set[ir.Operation]:
    """`ops`, and those of `candidates` that only these read, directly or by each other."""
    gone = set(ops)
    for op in reversed(graph.in_order(candidates)):
        if all(user in gone for result in op.results for user in graph.users(result)):
            gone.add(op)
    return gone


def replace_ops(
    graph: Graph,
    ops: Sequence[ir.Operation],
    gone: set[ir.Operation],
    old: Sequence[ir.Value],
    build: Callable[[], Sequence[ir.Value]],
) -> Graph:
    """Replace the values `old` by what `build` emits at the last of `ops`, and erase `gone`.

    Users of `old` that stand before the last of `ops` are moved behind what is built. Gives the
    graph of the block as it is then.

    Args:
        graph: the block, not changed since.
        ops: the ops whose place is taken, in order.
        gone: ops that are erased; nobody else uses their results but through `old`.
        old: values that live on.
        build: emits the new values, one for each of `old`.

    Raises:
        InternalError: the option `validate` is in force, and the new values are not the old ones.
    """
    last = ops[-1]
    known = graph.unchanged(gone, old)
    erased = graph.in_order(gone)
    end = graph.position[last]
    users = graph.in_order(graph.after(ops) - gone)
    moved = [op for op in users if graph.position[op] < end]
    with ir.InsertionPoint(last), last.location:
        new = build()
    if current().validate:
        before = set(graph.ops)
        made = [v.operation for v in graph.block.operations if v.operation not in before]
        validate(graph, old, made, new)
    for before, after in zip(old, new, strict=True):
        before.replace_all_uses_with(after)
    for op in moved:
        op.move_before(last)
    for op in reversed(erased):
        op.erase()
    return Graph(graph.block, known)
