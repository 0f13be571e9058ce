"""Lowering of one scheduled kernel, op by op, to an object file."""

from collections.abc import Mapping
from types import MappingProxyType

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.targets.cpu.abi import TaskContext, build_entry
from diagc.targets.cpu.code import Code, Index
from diagc.targets.cpu.features import CpuFeatures
from diagc.targets.cpu.frame import Frame, Span
from diagc.targets.cpu.places import Form, Memory
from diagc.targets.cpu.schedule import CpuSchedule, read_schedule
from diagc.targets.cpu.tasks import Task

__all__ = ["build_module", "kernel_signature", "vector_lanes"]


def kernel_signature(kernel: ir.Operation, symbol: str = "kernel") -> KernelSignature:
    """The calling convention of a kernel function; its labels become axes."""
    body = diag.function_body(kernel)
    returned = list(body.operations[len(body.operations) - 1].operation.operands)
    sizes: dict[str, int] = {}
    args = [_wire(f"arg{i}", value, {}, sizes) for i, value in enumerate(body.arguments)]
    names = _bound_names(kernel, frozenset(sizes))
    results = [_wire(f"result{i}", value, names, sizes) for i, value in enumerate(returned)]
    bound = set(sizes)
    for op in diag.walk_ops(kernel.regions[0]):
        for value in op.results:
            if diag.is_wire(value.type):
                _collect(value, sizes)
    # a dynamic axis inside only is another name of one of the arguments': `_bound_names`
    sizes = {x: n for x, n in sizes.items() if x in bound or n != diag.DYNAMIC}
    axes = [Axis(label, None if size == diag.DYNAMIC else size) for label, size in sizes.items()]
    return KernelSignature(symbol, tuple(args), tuple(results), tuple(axes))


def _wire(name: str, value: ir.Value, names: Mapping[str, str], sizes: dict[str, int]) -> Wire:
    _collect(value, sizes, names)
    labels = tuple(names.get(label, label) for label in diag.labels(value))
    return Wire(name, str(diag.element_type(value)), labels)


def _collect(
    value: ir.Value, sizes: dict[str, int], names: Mapping[str, str] = MappingProxyType({})
) -> None:
    for inner, size in diag.dims(value).items():
        label = names.get(inner, inner)
        known = sizes.get(label, diag.DYNAMIC)
        sizes[label] = size if known == diag.DYNAMIC else known


def _bound_names(kernel: ir.Operation, bound: frozenset[str]) -> Mapping[str, str]:
    """For every label that only relabels make: the label of an argument that it renames.

    But for axes of static size: they need no other name, and a result may have both.
    """
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for op in diag.walk_ops(kernel.regions[0]):
        for value in op.results:
            if diag.is_wire(value.type):
                _collect(value, sizes)
    for new, old in _aliases(kernel):
        if new not in bound and sizes.get(new, diag.DYNAMIC) == diag.DYNAMIC:
            names[new] = names.get(old, old)
    return names


def vector_lanes(kernel: ir.Operation, features: CpuFeatures) -> int:
    """Lanes per vector: half as many when anything is computed in f64."""
    for op in diag.walk_ops(kernel.regions[0]):
        for value in (*op.results, *op.operands):
            type_ = value.type
            element = type_.element_type if isinstance(type_, ir.RankedTensorType) else type_
            if isinstance(element, ir.F64Type):
                return max(features.lanes // 2, 2)
    return features.lanes


def build_module(kernel: ir.Operation, features: CpuFeatures) -> tuple[ir.Module, KernelSignature]:
    """A module of upstream ops that holds the kernel with its entry and workers."""
    lanes = vector_lanes(kernel, features)
    dots = features.bf16_dot and lanes == features.lanes
    schedule = read_schedule(kernel, lanes, bf16_dot=dots)
    signature = kernel_signature(kernel)
    with kernel.context, ir.Location.unknown():
        module = ir.Module.create()
        code = Code(lanes)

        def count(sizes: Mapping[str, ir.Value]) -> ir.Value:
            return _count_tasks(code, schedule, _with_aliases(kernel, sizes))

        build_entry(
            module, signature, count, lambda context: _emit(code, kernel, schedule, context)
        )
    return module, signature


def _lane_tiles(code: Code, schedule: CpuSchedule, sizes: Mapping[str, ir.Value]) -> Index:
    if schedule.tiled is None:
        return 1
    return arith.ceildivui(sizes[schedule.tiled], code.index(schedule.lane_tile))


def _count_tasks(code: Code, schedule: CpuSchedule, sizes: Mapping[str, ir.Value]) -> ir.Value:
    total = _lane_tiles(code, schedule, sizes)
    for label in schedule.grid:
        total = code.mul(total, sizes[label])
    return code.index(total)


def _emit(code: Code, kernel: ir.Operation, schedule: CpuSchedule, context: TaskContext) -> None:
    frame = _frame(code, kernel, schedule, context)
    body = diag.function_body(kernel)
    count = len(context.signature.args)
    wires = [
        _memory(buffer, wire, value)
        for buffer, wire, value in zip(
            context.memrefs,
            context.signature.wires,
            [*body.arguments, *body.operations[len(body.operations) - 1].operation.operands],
            strict=True,
        )
    ]
    places = dict(zip(body.arguments, wires[:count], strict=True))
    code.memory.begin()
    Task(frame, schedule, dict(places), wires[count:]).emit(kernel)
    code.memory.end()


def _memory(buffer: ir.Value, wire: Wire, value: ir.Value) -> Memory:
    forms = tuple(Form(((label, 1),)) for label in diag.labels(value))
    return Memory(buffer, forms, diag.element_type(value), wire.unit_stride)


def _frame(code: Code, kernel: ir.Operation, schedule: CpuSchedule, context: TaskContext) -> Frame:
    """Split the task number into grid positions and a lane tile."""
    static = {axis.label: axis.size for axis in context.signature.axes if axis.size is not None}
    values = _with_aliases(kernel, context.sizes)
    sizes: dict[str, Index] = {label: static.get(label, size) for label, size in values.items()}
    number: Index = context.task
    spans: dict[str, Span] = {}
    if schedule.tiled is not None:
        tiles = code.index(_lane_tiles(code, schedule, values))
        base = code.mul(arith.remui(number, tiles), schedule.lane_tile)
        left = code.sub(sizes[schedule.tiled], base)
        count = code.min(left, schedule.lane_tile)
        spans[schedule.tiled] = Span(base, count, schedule.lane_tile)
        number = arith.divui(number, tiles)
    grid: dict[str, ir.Value] = {}
    for label in reversed(schedule.grid):
        grid[label] = arith.remui(number, values[label])
        number = arith.divui(number, values[label])
    padded = frozenset(spans) if _multiplies(kernel) else frozenset()
    return Frame(code, grid, static, sizes, spans, padded)


def _multiplies(kernel: ir.Operation) -> bool:
    """Whether there is a contraction, whose register blocks want tiles of one shape."""
    return any(op.name == "diag.contract" for op in diag.walk_ops(kernel.regions[0]))


def _with_aliases(kernel: ir.Operation, sizes: Mapping[str, ir.Value]) -> Mapping[str, ir.Value]:
    """Sizes of all labels, those that relabels make too."""
    known = dict(sizes)
    for new, old in _aliases(kernel):
        known.setdefault(new, known[old])
    return known


def _aliases(kernel: ir.Operation) -> list[tuple[str, str]]:
    """(new label, old label) of every relabel, in order."""
    return [
        (new, old)
        for op in diag.walk_ops(kernel.regions[0])
        if op.name == "diag.relabel"
        for old, new in op.opview.names.items()
    ]
