"""Lowering of one scheduled kernel, op by op, to an object file."""

from collections.abc import Mapping, Sequence

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.kernels.schedules import is_uniform
from diagc.runtime.cpu_features import CpuFeatures
from diagc.runtime.signature import KernelSignature, Wire
from diagc.targets.cpu.abi import TaskContext, build_entry
from diagc.targets.cpu.code import Code, Index
from diagc.targets.cpu.frame import Frame, Span
from diagc.targets.cpu.packing import copy
from diagc.targets.cpu.places import Constant, Form, Memory
from diagc.targets.cpu.schedule import CpuSchedule, read_schedule
from diagc.targets.cpu.task_grid import TaskGrid
from diagc.targets.cpu.tasks import Task
from diagc.targets.cpu.tiles import emit_tile
from diagc.targets.kernel_signature import kernel_signature, with_aliases

__all__ = ["build_module", "vector_lanes"]


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
        code = Code(lanes, scales=features.isa == "avx512")

        def count(sizes: Mapping[str, ir.Value]) -> ir.Value:
            return TaskGrid(code, schedule, with_aliases(kernel, sizes)).count_tasks()

        build_entry(
            module,
            signature,
            count,
            lambda context: _emit(code, kernel, schedule, context),
            _joined_axes(kernel, schedule, signature),
        )
    return module, signature


def _joined_axes(
    kernel: ir.Operation, schedule: CpuSchedule, signature: KernelSignature
) -> tuple[str, ...]:
    """Axes of a kernel of maps that may run as one: all, when sizes are open and tiles suit any."""
    labels = signature.args[0].labels if signature.args else ()
    is_open = all(signature.static_sizes[label] is None for label in labels)
    joins = bool(labels) and is_open and schedule.tiled == labels[-1]
    return labels if joins and is_uniform(kernel) else ()


def _emit(code: Code, kernel: ir.Operation, schedule: CpuSchedule, context: TaskContext) -> None:
    """The body of a task: every position that it works on."""
    body = diag.function_body(kernel)
    returned = body.operations[len(body.operations) - 1].operation.operands
    wires = [
        _memory(buffer, wire, value)
        for buffer, wire, value in zip(
            context.memrefs,
            context.signature.wires,
            [*body.arguments, *returned],
            strict=True,
        )
    ]
    count = len(context.signature.args)
    places = dict(zip(body.arguments, wires[:count], strict=True))
    static = {axis.label: axis.size for axis in context.signature.axes if axis.size is not None}
    values = with_aliases(kernel, context.sizes)
    sizes: dict[str, Index] = {label: static.get(label, size) for label, size in values.items()}
    vectors = schedule.tiles or filter(None, [schedule.tiled] if _multiplies(kernel) else [])
    padded = frozenset(vectors)
    positions = TaskGrid(code, schedule, values)
    code.memory.begin()

    def emit(digits: Sequence[ir.Value]) -> None:
        grid, spans = positions.grid(digits), positions.spans(digits)

        def task(spans: dict[str, Span]) -> Task:
            frame = Frame(code, grid, static, sizes, spans, padded)
            return Task(frame, schedule, dict(places), wires[count:])

        if schedule.tiles:
            emit_tile(code, kernel, spans, task)
        else:
            task(spans).emit(kernel)

    if schedule.serial:
        grid = positions.grid(positions.grid_digits(context.task))
        frame = Frame(code, grid, static, sizes)
        for value, memory in zip(returned, wires[count:], strict=True):
            if diag.is_emitted(value):  # tiles are added to it
                copy(frame, Constant(0.0, memory.element), memory)
    positions.each_position(context.task, emit)
    code.memory.end()


def _memory(buffer: ir.Value, wire: Wire, value: ir.Value) -> Memory:
    forms = tuple(Form(((label, 1),)) for label in diag.labels(value))
    return Memory(buffer, forms, diag.element_type(value), wire.unit_stride)


def _multiplies(kernel: ir.Operation) -> bool:
    """Whether there is a contraction, whose register blocks want tiles of one shape."""
    return any(op.name == "diag.contract" for op in diag.walk_ops(kernel.regions[0]))
