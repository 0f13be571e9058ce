"""Builds, from ops and those that replace them, the two functions that validation compares."""

from collections.abc import Iterator, Mapping, Sequence

from diagc.algebra.dataflow import defining_op
from diagc.algebra.graph import Graph
from diagc.algebra.validate import AFTER, BEFORE, validate_rewrite
from diagc.dialects import diag
from diagc.mlir import func, ir
from diagc.passes.cloning import clone_all, nested_ops, used_values

__all__ = ["validate"]

_COPIED = ("diag.index", "diag.constant", "arith.constant")
"""Ops that are part of both functions instead of arguments."""

_SIZES = (5, 3, 2, 4, 7, 6)
"""Sizes of axes in order of appearance."""


def validate(
    graph: Graph,
    old: Sequence[ir.Value],
    new_ops: Sequence[ir.Operation],
    new: Sequence[ir.Value],
) -> None:
    """Compare the values `old` of the block with `new`, which `new_ops` give.

    All axes are opened and given small sizes, so that long ones cost nothing.

    Raises:
        InternalError: they differ by more than rounding, or no evaluator is registered.
    """
    ops = _slice(graph, old, set(_outer(new_ops)))
    outer = list(_outer([*ops, *new_ops]))
    arguments = [value for value in outer if not _is_copied(value)]
    copied = [value.owner.operation for value in outer if _is_copied(value)]
    labels = dict.fromkeys(a for value in [*arguments, *old] for a in diag.labels(value))
    sizes = {label: _SIZES[n % len(_SIZES)] for n, label in enumerate(labels)}
    for op in copied:
        sizes |= diag.dims(op.results[0]) if op.name == "diag.constant" else {}
    for op in [*ops, *new_ops]:
        sizes |= _sizes_of_copies(op, sizes)
    module = ir.Module.create(ir.Location.unknown())
    with ir.InsertionPoint(module.body), ir.Location.unknown():
        _function(BEFORE, arguments, [*copied, *ops], old, sizes)
        _function(AFTER, arguments, [*copied, *new_ops], new, sizes)
    validate_rewrite(module, sizes)


def _slice(graph: Graph, values: Sequence[ir.Value], known: set[ir.Value]) -> list[ir.Operation]:
    """The ops that give `values` from values that the new ops read too, in order."""
    found: set[ir.Operation] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        op = defining_op(value)
        if op is None or op in found or value in known:
            continue
        found.add(op)
        stack.extend(graph.reads[op])
    return graph.in_order(found)


def _sizes_of_copies(op: ir.Operation, sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes of labels that relabels, in `op` or below it, make from others; reindexed axes stay."""
    found: dict[str, int] = {}
    for nested in nested_ops(op):
        if nested.name == "diag.reindex":
            dims = (*diag.dims(nested.operands[0]).items(), *diag.dims(nested.results[0]).items())
            found |= {label: size for label, size in dims if size != diag.DYNAMIC}
        if nested.name == "diag.relabel":
            old, new = (diag.strings(nested.attributes[name]) for name in ("from", "to"))
            found |= {b: {**sizes, **found}[a] for a, b in zip(old, new, strict=True)}
    return found


def _outer(ops: Sequence[ir.Operation]) -> Iterator[ir.Value]:
    """Values that `ops` use and do not give, once each."""
    made = {result for op in ops for result in op.results}
    used = dict.fromkeys(value for op in ops for value in used_values(op))
    return (value for value in used if value not in made)


def _is_copied(value: ir.Value) -> bool:
    return not isinstance(value.owner, ir.Block) and value.owner.operation.name in _COPIED


def _open(type_: ir.Type) -> ir.Type:
    """The wire type with all sizes open."""
    if not diag.is_wire(type_):
        return type_
    return diag.wire(dict.fromkeys(diag.labels(type_), diag.DYNAMIC), diag.element_type(type_))


def _function(
    name: str,
    arguments: Sequence[ir.Value],
    ops: Sequence[ir.Operation],
    results: Sequence[ir.Value],
    sizes: Mapping[str, int],
) -> None:
    """A function of `arguments`, and of one wire for each axis, which says how long it is."""
    index = ir.IndexType.get()
    axes = [diag.wire({label: diag.DYNAMIC}, index) for label in sizes]
    inputs = [*(_open(value.type) for value in arguments), *axes]
    made = func.FuncOp(name, (inputs, [_open(value.type) for value in results]))
    block = made.add_entry_block()
    values = dict(zip(arguments, block.arguments, strict=False))
    with ir.InsertionPoint(block):
        clone_all(ops, values)
        for op in nested_ops(made.operation):
            if op.name != "diag.constant":
                _open_values(op)
        func.ReturnOp([values[value] for value in results])


def _open_values(op: ir.Operation) -> None:
    for result in op.results:
        result.set_type(_open(result.type))
    for region in op.regions:
        for block in region.blocks:
            for argument in block.arguments:
                argument.set_type(_open(argument.type))
