"""Units of a module at the stage `kernels`: what is computed together, and for which calls.

A kernel is a unit, and so is an op that the entry function keeps. Two of which one feeds the other
are one unit if some contraction or reduction went into both: a rewrite has mixed what the calls
were. Maps do not count: a mask that many layers share is made again in each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import networkx as nx

from diagc.algebra.dataflow import defining_op, inputs, is_parameter
from diagc.compiler import find_entry
from diagc.dialects import diag
from diagc.errors import SourceLocation
from diagc.mlir import ir

__all__ = ["Unit", "kept_places", "linear_places", "places_of", "units", "working_places"]

_VIEWS = ("diag.relabel", "diag.reindex")
_SUMS = ("diag.contract", "diag.reduce")
_WORK = (*_SUMS, "diag.map", "diag.stream")


@dataclass(frozen=True)
class Unit:
    """Kernels and ops that belong together.

    Args:
        kernels: names of the kernels.
        places: lines of the ops' locations.
        streams: whether a kernel streams an axis.
        mixed: whether several kernels or ops are one unit.
        sums: whether it sums or multiplies.
    """

    kernels: tuple[str, ...]
    places: frozenset[int]
    streams: bool
    mixed: bool
    sums: bool

    @property
    def fuses(self) -> bool:
        """Whether it is a kernel that more than one call goes into."""
        return bool(self.kernels) and len(self.places) > 1


def units(module: ir.Module) -> list[Unit]:
    """All units, in the order of the entry function; products of linear layers are left out."""
    entry = find_entry(module)
    functions = {diag.symbol_of(op): op for op in diag.functions(module)}
    parts = [_part(op, functions) for op in _working(entry, functions)]
    graph = nx.Graph()
    graph.add_nodes_from(range(len(parts)))
    makers = {part.op: number for number, part in enumerate(parts)}
    for number, part in enumerate(parts):
        for value in inputs(part.op):
            source = makers.get(defining_op(_origin(value)))
            if source is not None and parts[source].sums & part.sums:
                graph.add_edge(source, number)
    components = sorted(map(sorted, nx.connected_components(graph)))
    return [_unit([parts[number] for number in component]) for component in components]


@dataclass(frozen=True)
class _Part:
    op: ir.Operation
    kernel: str | None
    places: frozenset[int]
    sums: frozenset[int]
    """Places of contractions and reductions."""
    streams: bool


def _part(op: ir.Operation, functions: dict[str, ir.Operation]) -> _Part:
    kernel, ops = None, [op]
    if op.name == "func.call":
        kernel = diag.callee_of(op)
        ops = list(diag.walk_ops(functions[kernel].regions[0]))
    sums = places_of([o for o in ops if o.name in _SUMS])
    return _Part(op, kernel, places_of(ops), sums, any(o.name == "diag.stream" for o in ops))


def _unit(parts: list[_Part]) -> Unit:
    return Unit(
        tuple(part.kernel for part in parts if part.kernel),
        frozenset().union(*(part.places for part in parts)),
        any(part.streams for part in parts),
        len(parts) > 1,
        any(part.sums or part.streams for part in parts),
    )


def _working(entry: ir.Operation, functions: dict[str, ir.Operation]) -> Iterator[ir.Operation]:
    """Calls of kernels and ops of the entry function that compute, but for linear layers."""
    for view in diag.function_body(entry).operations:
        op = view.operation
        is_kernel = op.name == "func.call" and diag.is_kernel(functions[diag.callee_of(op)])
        if is_kernel or (op.name in _WORK and not _is_linear(op)):
            yield op


def linear_places(module: ir.Module) -> frozenset[int]:
    """Places of products with matrices of weights that the entry function keeps."""
    ops = [view.operation for view in diag.function_body(find_entry(module)).operations]
    return places_of([op for op in ops if _is_linear(op)])


def kept_places(module: ir.Module) -> frozenset[int]:
    """Places of all ops but views, which may be those of the operands of a product that is gone."""
    ops = diag.walk_ops(module.operation.regions[0])
    return places_of([op for op in ops if op.name not in _VIEWS])


def working_places(module: ir.Module) -> frozenset[int]:
    """Places of all that is more than a map or a view: sums, streams, calls of externs."""
    functions = {diag.symbol_of(op): op for op in diag.functions(module)}
    return places_of(
        [
            op
            for op in diag.walk_ops(module.operation.regions[0])
            if op.name in (*_SUMS, "diag.stream")
            or (op.name == "func.call" and diag.is_extern(functions[diag.callee_of(op)]))
        ]
    )


def _is_linear(op: ir.Operation) -> bool:
    if op.name != "diag.contract":
        return False
    sources = [_origin(value) for value in op.operands]
    return any(isinstance(s.owner, ir.Block) and is_parameter(s) for s in sources)


def _origin(value: ir.Value) -> ir.Value:
    """What a value is a view of."""
    op = defining_op(value)
    while op is not None and op.name in _VIEWS:
        value = op.operands[0]
        op = defining_op(value)
    return value


def places_of(ops: list[ir.Operation]) -> frozenset[int]:
    """Lines of the ops' locations, from 0."""
    found = (SourceLocation.of(op.location) for op in ops)
    return frozenset(place.line - 1 for place in found if place is not None)
