"""Axes along which a function computes every position alone: they may be cut into shards."""

from collections.abc import Iterator

from diagc.algebra.dataflow import reduced_axes
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["independent_axes"]


def independent_axes(function: ir.Operation) -> tuple[str, ...]:
    """Axes of the arguments whose positions never meet, and whose number is never asked.

    Args:
        function: as a front end made it, with normalisers whole.
    """
    body = diag.function_body(function)
    found = {label: None for value in body.arguments for label in diag.labels(value)}
    for view in body.operations:
        for label in _mixed(view.operation):
            found.pop(label, None)
    return tuple(found)


def _mixed(op: ir.Operation) -> Iterator[str]:
    """Axes that an op does more with than to work at each position."""
    if op.name in ("diag.contract", "diag.reduce"):
        yield from reduced_axes(op)
    elif op.name in ("diag.normalize", "diag.normalize_with"):
        yield from diag.strings(op.attributes["along"])
    elif op.name == "diag.map":
        # an axis that the map makes has a size of its own
        known = {label for value in _operands(op) for label in diag.labels(value)}
        yield from set(diag.labels(op.results[0])) - known
    elif op.name != "func.return":
        # views, positions, constants, calls of the host: any axis may be renamed, cut or asked
        for value in (*op.operands, *op.results):
            yield from diag.labels(value) if diag.is_wire(value.type) else ()


def _operands(op: ir.Operation) -> Iterator[ir.Value]:
    for inner in diag.walk_ops(op.regions[0]):
        if inner.name == "diag.element":
            yield inner.operands[0]
