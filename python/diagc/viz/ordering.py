"""Which operation stands in which column, and in which order from top to bottom.

Columns are those of a layered graph drawing: an operation stands behind all that it reads, arrays
that are read later go past. Orders follow barycentres, forwards and backwards, and the one with the
fewest crossings is kept.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import networkx

from diagc.viz.formulas import FIRST_LETTER
from diagc.viz.model import Array, Kind, Operation, Picture

__all__ = ["Node", "arrange", "columns_of"]

_FAR = 4
"""An array that is read only so many columns behind the edge of a frame enters through a tag."""
_SWEEPS = 12
_SOURCES = (Kind.INPUT, Kind.CONSTANT, Kind.STATE, Kind.PORT)


@dataclass(eq=False)
class Node:
    """Something in a column: an operation, or (without one) the array of `ins` that goes past."""

    operation: Operation | None
    ins: list[Array] = field(default_factory=list)
    outs: list[Array] = field(default_factory=list)

    @property
    def is_source(self) -> bool:
        """Whether wires begin here, so that it may as well stand in a later row."""
        return self.operation is not None and not self.ins and self.operation.kind in _SOURCES


Columns: TypeAlias = list[list[Node]]


def columns_of(picture: Picture) -> Columns:
    """All columns of a picture, each from top to bottom, with what goes past."""
    operations = [*map(_entry, picture.inputs), *picture.operations, *map(_exit, picture.outputs)]
    operations = _beginnings_late(operations)
    places = _places(operations)
    for twin in _tags_for_far_ports(operations, places):
        operations.append(twin)
    places = _places(operations)
    columns: Columns = [[] for _ in range(1 + max(places.values(), default=0))]
    for operation in operations:
        node = Node(operation, operation.inputs, operation.outputs)
        columns[places[operation]].append(node)
    _add_passing(columns, places)
    return _ordered(columns)


def _entry(array: Array) -> Operation:
    return Operation(Kind.PORT, outputs=[array])


def _exit(array: Array) -> Operation:
    return Operation(Kind.PORT, inputs=[array])


def _beginnings_late(operations: Sequence[Operation]) -> list[Operation]:
    """Each beginning right before its first reader: the first guess at an order from the top."""
    makers = {op.outputs[0]: op for op in operations if op.outputs and not op.inputs}
    found: dict[Operation, None] = {}
    for operation in operations:
        for array in operation.inputs:
            if array in makers:
                found.setdefault(makers[array])
        if operation.inputs or not operation.outputs:
            found.setdefault(operation)
    return [*found, *(op for op in operations if op not in found)]


# ---- columns -----------------------------------------------------------------------------------


def _places(operations: Sequence[Operation]) -> dict[Operation, int]:
    """The column of each operation: as early as can be, but late where that carries less."""
    graph = _graph(operations)
    order = list(networkx.topological_sort(graph))
    place: dict[Operation, int] = {}
    for operation in order:
        place[operation] = 1 + max((place[p] for p in graph.predecessors(operation)), default=-1)
    last = max(place.values(), default=0)
    readers = _readers(operations)
    for operation in reversed(order):
        later = [place[reader] for reader in graph.successors(operation)]
        if _is_end(operation):
            place[operation] = _end_place(operation, place[operation], last)
        elif later and not _stands_first(operation) and _lighter_late(operation, graph, readers):
            place[operation] = min(later) - 1
    return place


def _graph(operations: Sequence[Operation]) -> "networkx.DiGraph[Operation]":
    graph = networkx.DiGraph()
    graph.add_nodes_from(operations)
    makers = {array: op for op in operations for array in op.outputs}
    for operation in operations:
        for array in operation.inputs:
            graph.add_edge(makers[array], operation)
    return graph


def _readers(operations: Sequence[Operation]) -> dict[Array, int]:
    readers: dict[Array, int] = defaultdict(int)
    for operation in operations:
        for array in set(operation.inputs):
            readers[array] += 1
    return readers


def _is_end(operation: Operation) -> bool:
    return not operation.outputs and operation.kind in (Kind.OUTPUT, Kind.PORT)


def _end_place(operation: Operation, first: int, last: int) -> int:
    """The edge of a frame is at its end; a result that is ready long before ends where it is."""
    ends_early = operation.kind is Kind.OUTPUT and last - first > _FAR
    return first if ends_early else last


def _stands_first(operation: Operation) -> bool:
    return operation.kind is Kind.PORT and not operation.inputs and not operation.text


def _lighter_late(
    operation: Operation, graph: "networkx.DiGraph[Operation]", readers: dict[Array, int]
) -> bool:
    """Whether fewer wires go past when the operation stands as late as it can."""
    makers = {array: p for p in graph.predecessors(operation) for array in p.outputs}
    free = [a for a in operation.inputs if readers[a] == 1 and not makers[a].inputs]
    last_used = [a for a in set(operation.inputs) if a not in free]
    carried = sum(array.lanes for array in last_used)
    return carried <= sum(array.lanes for array in operation.outputs)


def _tags_for_far_ports(
    operations: list[Operation], places: dict[Operation, int]
) -> list[Operation]:
    """Let an array that enters a frame long before it is read break off and begin again."""
    made: list[Operation] = []
    for port in [op for op in operations if _stands_first(op)]:
        (array,) = port.outputs
        readers = [op for op in operations if array in op.inputs]
        if not readers or min(places[op] for op in readers) <= _FAR:
            continue
        twin = replace(array)
        for reader in readers:
            reader.inputs[:] = [twin if a is array else a for a in reader.inputs]
        made.append(Operation(Kind.TAG, [array], text=array.name))
        made.append(Operation(Kind.PORT, outputs=[twin], text=array.name))
    return made


def _add_passing(columns: Columns, places: dict[Operation, int]) -> None:
    for operation, place in places.items():
        for array in operation.outputs:
            reads = [places[op] for op in places if array in op.inputs]
            for between in range(place + 1, max(reads, default=place)):
                columns[between].append(Node(None, [array], [array]))


# ---- order -------------------------------------------------------------------------------------


def _ordered(columns: Columns) -> Columns:
    best, fewest = columns, _crossings(columns)
    for sweep in range(_SWEEPS):
        columns = _forwards(columns) if sweep % 2 == 0 else _backwards(columns)
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = columns, crossings
    return [[_flipped(node, column) for node in nodes] for column, nodes in _with_before(best)]


def _with_before(columns: Columns) -> list[tuple[list[Node], list[Node]]]:
    return list(zip([[], *columns[:-1]], columns, strict=True))


def _outs(nodes: Sequence[Node]) -> dict[Array, float]:
    """Where arrays leave a column, from top to bottom."""
    return {
        array: row + (n + 1) / (len(node.outs) + 1)
        for row, node in enumerate(nodes)
        for n, array in enumerate(node.outs)
    }


def _ins(nodes: Sequence[Node]) -> dict[Array, list[float]]:
    found: dict[Array, list[float]] = defaultdict(list)
    for row, node in enumerate(nodes):
        for n, array in enumerate(node.ins):
            found[array].append(row + (n + 1) / (len(node.ins) + 1))
    return found


def _forwards(columns: Columns) -> Columns:
    done = columns[:1]
    for nodes in columns[1:]:
        outs = _outs(done[-1])
        keys = {node: _mean([outs[a] for a in node.ins], row) for row, node in enumerate(nodes)}
        done.append(sorted(nodes, key=keys.__getitem__))
    return done


def _backwards(columns: Columns) -> Columns:
    done = columns[-1:]
    for nodes in reversed(columns[:-1]):
        ins = _ins(done[0])
        keys = {
            node: _mean([x for a in node.outs for x in ins.get(a, ())], row)
            for row, node in enumerate(nodes)
        }
        done.insert(0, sorted(nodes, key=keys.__getitem__))
    return done


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(columns: Columns) -> int:
    """How many pairs of arrays cross, each weighted with its number of wires."""
    total = 0
    for before, nodes in _with_before(columns):
        outs = _outs(before)
        links = [
            (outs[array], row + (n + 1) / (len(node.ins) + 1), array.lanes)
            for row, node in enumerate(nodes)
            for n, array in enumerate(_sorted_inputs(node, outs))
        ]
        total += sum(a[2] * b[2] for a in links for b in links if a[0] < b[0] and a[1] > b[1])
    return total


def _sorted_inputs(node: Node, outs: dict[Array, float]) -> list[Array]:
    if node.operation is None or node.operation.kind not in (Kind.MAP, Kind.CONTRACT):
        return node.ins
    return sorted(node.ins, key=outs.__getitem__)


def _flipped(node: Node, before: Sequence[Node]) -> Node:
    """The node with its inputs in the order in which they come, where the order is free."""
    outs = _outs(before)
    order = sorted(range(len(node.ins)), key=lambda n: outs[node.ins[n]])
    free = node.operation is not None and node.operation.kind in (Kind.MAP, Kind.CONTRACT)
    if not free or order == sorted(order):
        return node
    assert node.operation is not None
    operation = arrange(node.operation, order)
    return Node(operation, operation.inputs, operation.outputs)


def arrange(operation: Operation, order: Sequence[int]) -> Operation:
    """The operation with its inputs in another order."""
    new = {old: place for place, old in enumerate(order)}
    inputs = [operation.inputs[n] for n in order]
    text = "".join(
        chr(FIRST_LETTER + new[ord(c) - FIRST_LETTER]) if ord(c) - FIRST_LETTER in new else c
        for c in operation.text
    )
    sources = [[None if s is None else (new[s[0]], s[1]) for s in ss] for ss in operation.sources]
    pairs = [(b, a) for a, b in operation.pairs] if list(order) == [1, 0] else operation.pairs
    missing = [operation.missing[n] for n in order] if operation.missing else ()
    over = [operation.acted(n) for n in order]
    return replace(
        operation,
        inputs=inputs,
        text=text,
        sources=sources,
        pairs=pairs,
        missing=missing,
        over=over,
    )
