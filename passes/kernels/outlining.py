"""Moves clusters of ops into private kernel functions that the old place calls."""

import heapq
from collections.abc import Iterable
from itertools import chain, count

from diagc.dialects import diag
from diagc.mlir import arith, func, ir
from diagc.passes.cloning import Mapping, array_ops, clone, used_values
from diagc.passes.kernels.kernel_axes import LEAVES, VIEWS, is_leaf
from diagc.passes.kernels.kernel_clusters import KernelPlan
from diagc.passes.kernels.kernel_names import ORIGIN, kernel_name, origins

__all__ = ["AXES", "outline_kernels", "unique_symbol"]

_RELABEL = "diag.relabel"

AXES = "diag.axes"
"""Function attribute with facts about labels; a kernel keeps those of its own labels."""

Unit = tuple[int, ...]
"""Places of ops that stand together: a kernel, or one op that stays."""


def outline_kernels(function: ir.Operation, plan: KernelPlan) -> list[ir.Operation]:
    """Make a private function of every kernel of `plan` and call it from `function`.

    Arguments are in order of first use, results are the values used elsewhere. Kernels go to the
    end of the module. Gives the kernel functions in the order of their calls.
    """
    terminator = list(diag.function_body(function).operations)[-1].operation
    wiring = _Wiring(plan, terminator)
    made = []
    for unit in wiring.ordered_units():
        ops = [plan.ops[place] for place in unit]
        if unit not in plan.kernels:
            ops[0].move_before(terminator)
        elif results := wiring.results(unit):
            made.append(_outline(function, ops, results, terminator))
    for place, op in reversed(list(enumerate(plan.ops))):
        if place in wiring.homes or (op.name in (*LEAVES, _RELABEL) and not _is_read(op)):
            op.erase()
    return made


def _is_read(op: ir.Operation) -> bool:
    return any(True for result in op.results for _ in result.uses)


# ---- who reads what ----------------------------------------------------------------------------


class _Wiring:
    """Readers and writers of all values, by place; the terminator's place comes last."""

    def __init__(self, plan: KernelPlan, terminator: ir.Operation) -> None:
        self.plan = plan
        self.homes: dict[int, set[int]] = {}
        for number, kernel in enumerate(plan.kernels):
            for place in kernel:
                self.homes.setdefault(place, set()).add(number)
        self.uses = [used_values(op) for op in (*plan.ops, terminator)]
        self.readers: dict[ir.Value, list[int]] = {}
        for place, values in enumerate(self.uses):
            for value in values:
                self.readers.setdefault(value, []).append(place)

    def results(self, kernel: Unit) -> list[ir.Value]:
        """Values of the kernel that others read, unless these compute them again."""

        def is_outside(reader: int, place: int) -> bool:
            return reader not in self.homes or bool(self.homes[reader] - self.homes[place])

        pairs = [(place, value) for place in kernel for value in self.plan.ops[place].results]
        return [
            value
            for place, value in pairs
            if any(is_outside(reader, place) for reader in self.readers.get(value, ()))
        ]

    def ordered_units(self) -> list[Unit]:
        """Kernels and lone ops so that producers come first, else in program order.

        Fused ops move next to each other, so the order of the rest may have to change.
        """
        places = range(len(self.plan.ops))
        units: list[Unit] = [*self.plan.kernels, *((n,) for n in places if n not in self.homes)]
        units.sort(key=max)
        waiting, readers = self._dependences(units)
        ready = [number for number in range(len(units)) if not waiting[number]]
        heapq.heapify(ready)
        ordered = []
        while ready:
            number = heapq.heappop(ready)
            ordered.append(units[number])
            for reader in readers[number]:
                waiting[reader].discard(number)
                if not waiting[reader]:
                    heapq.heappush(ready, reader)
        return ordered

    def _dependences(self, units: list[Unit]) -> tuple[list[set[int]], list[list[int]]]:
        """For every unit, the units it needs and those that need it."""
        writers: dict[ir.Value, list[int]] = {}
        for number, unit in enumerate(units):
            for value in (value for place in unit for value in self.plan.ops[place].results):
                writers.setdefault(value, []).append(number)
        needs: list[set[int]] = []
        readers: list[list[int]] = [[] for _ in units]
        for number, unit in enumerate(units):
            wires = [value for place in unit for value in self.uses[place] if value in writers]
            needs.append({writers[v][0] for v in wires if number not in writers[v]})
            for producer in needs[number]:
                readers[producer].append(number)
        return needs, readers


# ---- one kernel --------------------------------------------------------------------------------


def _outline(
    function: ir.Operation, ops: list[ir.Operation], results: list[ir.Value], before: ir.Operation
) -> ir.Operation:
    loc = ir.Location.fused(list(dict.fromkeys(op.location for op in ops)))
    with ir.InsertionPoint(before), loc:
        inputs = _inputs(ops)
    views = _own_views(inputs, ops, results)
    inputs = list(dict.fromkeys(_source(x) if x in views else x for x in inputs))
    kernel = _make_function(function, inputs, results, loc)
    mapping: Mapping = dict(zip(inputs, diag.function_body(kernel).arguments, strict=True))
    with ir.InsertionPoint(diag.function_body(kernel)):
        for value in views:
            clone(value.owner.operation, mapping)
        for op in ops:
            _copy_leaves(op, mapping)
            clone(op, mapping)
        func.ReturnOp([mapping[value] for value in results], loc=loc)
    kernel.attributes[ORIGIN] = diag.string_array(origins(ops))
    name = unique_symbol(kernel_name(kernel), kernel)
    kernel.attributes["sym_name"] = ir.StringAttr.get(name)
    with ir.InsertionPoint(before):
        types = [value.type for value in results]
        call = func.CallOp(types, ir.FlatSymbolRefAttr.get(name), inputs, loc=loc)
    for old, new in zip(results, call.results, strict=True):
        old.replace_all_uses_with(new)
    return kernel


def unique_symbol(name: str, op: ir.Operation) -> str:
    """`name`, with a number behind it when another symbol of the module has that name."""
    siblings = [other.operation for other in op.parent.regions[0].blocks[0].operations]
    taken = {
        ir.StringAttr(other.attributes["sym_name"]).value
        for other in siblings
        if other != op and "sym_name" in other.attributes
    }
    candidates = chain([name], (f"{name}_{number}" for number in count(1)))
    return next(text for text in candidates if text not in taken)


def _inputs(ops: list[ir.Operation]) -> list[ir.Value]:
    """Values that the kernel needs from outside; it makes its own copies of literals.

    An open size that no wire brings comes with an index along that axis.
    """
    defined = {value for op in ops for value in op.results}
    used = dict.fromkeys(value for op in ops for value in used_values(op))
    inputs = [value for value in used if value not in defined and not _is_leaf(value)]
    known = {label for value in inputs if diag.is_wire(value.type) for label in diag.labels(value)}
    return inputs + [diag.index(label) for label in _open_axes(ops, used) if label not in known]


def _own_views(
    inputs: list[ir.Value], ops: list[ir.Operation], results: list[ir.Value]
) -> list[ir.Value]:
    """Inputs that are another one with other names for axes that the kernel sums over.

    It makes them, and reads one array. An axis that tasks share, or that streams, keeps its name.
    """
    streams = [op for outer in ops for op in array_ops(outer) if op.name == "diag.stream"]
    outside = {ir.StringAttr(op.attributes["axis"]).value for op in streams}
    outside.update(label for value in results for label in diag.labels(value))
    views = [x for x in inputs if not isinstance(x.owner, ir.Block) and _is_view(x)]
    own = [x for x in views if _source(x) in inputs and _source(x) not in views]
    return [x for x in own if not outside & (set(diag.labels(x)) ^ set(diag.labels(_source(x))))]


def _is_view(value: ir.Value) -> bool:
    return bool(value.owner.operation.name == _RELABEL)


def _source(view: ir.Value) -> ir.Value:
    return view.owner.operation.operands[0]


def _open_axes(ops: list[ir.Operation], used: Iterable[ir.Value]) -> list[str]:
    """Axes of open size of ops, of what they read, and of what their regions make of nothing.

    An axis that a view inside a region renames another to has the size of that one.
    """
    nested = [inner for op in ops for inner in array_ops(op)]
    made = [value for inner in nested for value in inner.results]
    types = dict.fromkeys(value.type for value in (*used, *made))
    sizes = diag.join_dims(diag.dims(type_) for type_ in types if diag.is_wire(type_))
    views = [inner for inner in nested if inner.name in VIEWS]
    renamed = {label for view in views for label in diag.labels(view.results[0])}
    renamed -= {label for view in views for label in diag.labels(view.operands[0])}
    return [x for x, size in sizes.items() if size == diag.DYNAMIC and x not in renamed]


def _is_leaf(value: ir.Value) -> bool:
    return not isinstance(value.owner, ir.Block) and is_leaf(value.owner.operation)


def _copy_leaves(op: ir.Operation, mapping: Mapping) -> None:
    for value in used_values(op):
        if value not in mapping and _is_leaf(value):
            _copy_leaf(value.owner.operation, mapping)


def _copy_leaf(op: ir.Operation, mapping: Mapping) -> None:
    """Clone a literal; one with axes as a map, because constants cannot have open sizes."""
    if op.name != "diag.constant" or not diag.dims(op.results[0]):
        clone(op, mapping)
        return
    value = ir.DenseElementsAttr(op.attributes["value"])

    def fill() -> ir.Value:
        return arith.constant(value.type.element_type, value.get_splat_value())

    sizes, element = diag.dims(op.results[0]), value.type.element_type
    mapping[op.results[0]] = diag.map_([], fill, result=sizes, dtype=element, loc=op.location)


def _make_function(
    function: ir.Operation, inputs: list[ir.Value], results: list[ir.Value], loc: ir.Location
) -> ir.Operation:
    """An empty private kernel function at the end of the module; its symbol is set later."""
    types = [value.type for value in inputs], [value.type for value in results]
    with ir.InsertionPoint(function.parent.operation.regions[0].blocks[0]):
        made = func.FuncOp("kernel", types, visibility="private", loc=loc)
    kernel: ir.Operation = made.operation
    kernel.regions[0].blocks.append(*types[0], arg_locs=[value.location for value in inputs])
    kernel.attributes[diag.KERNEL] = ir.UnitAttr.get()
    facts = _facts(function, [*inputs, *results])
    if facts:
        kernel.attributes[AXES] = ir.DictAttr.get(facts)
    return kernel


def _facts(function: ir.Operation, values: list[ir.Value]) -> dict[str, ir.Attribute]:
    if AXES not in function.attributes:
        return {}
    known = ir.DictAttr(function.attributes[AXES])
    labels = dict.fromkeys(label for value in values for label in diag.labels(value))
    return {label: known[label] for label in labels if label in known}
