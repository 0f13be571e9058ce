"""Read a report off the IR that the passes left: streams with laws, notes, schedules, costs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diagc.cost import (
    UNKNOWN_BATCH,
    UNKNOWN_SIZE,
    Device,
    Estimate,
    Traffic,
    estimate,
    kernel_cost,
    sizes_of_call,
)
from diagc.dialects import diag
from diagc.errors import SourceLocation
from diagc.mlir import ir
from diagc.passes.kernels.kernel_names import ORIGIN
from diagc.passes.kernels.library_products import is_library
from diagc.passes.kernels.ranking import read_ranking
from diagc.passes.remarks import DONE, REMARKS
from diagc.report.data import (
    EstimateReport,
    KernelReport,
    LevelReport,
    Note,
    OutsideReport,
    RankedSchedule,
    Report,
    StreamReport,
)
from diagc.targets import Target, get_target

__all__ = ["CompiledKernel", "notes_of", "predicted", "program_report", "stream_report"]

_LIBRARY = "the library's matrix product is as good as a kernel here"
_BLOCKS = "the library's matrix product, block by block, is faster than a kernel here"
_ONE_OPERATION = "one operation that nothing fuses with is as good in the library"
_NO_MEANING = "has no meaning as a diagram"
_MOVES = ("diag.concat", "diag.pad")


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel function with what it was compiled to; `cache` and `fall_back` as in the report."""

    name: str
    function: ir.Operation
    kernel: Any
    cache: str
    seconds: float
    fall_back: str | None = None


def program_report(
    module: ir.Module,
    entry: ir.Operation,
    kernels: Sequence[CompiledKernel],
    name: str,
    target: str,
    device: Device | None = None,
) -> Report:
    """Describe a module at the stage `general` whose kernels have been compiled.

    Costs are told for a device, or not at all.
    """
    calls: dict[str, list[ir.Operation]] = {}
    functions = {diag.symbol_of(op): op for op in diag.functions(module)}
    host = [entry, *(op for op in functions.values() if diag.is_blocks(op))]
    for view in (view for function in host for view in diag.function_body(function).operations):
        if view.operation.name == "func.call":
            calls.setdefault(diag.callee_of(view.operation), []).append(view.operation)
    return Report(
        name,
        target,
        [_kernel_report(kernel, calls.get(kernel.name, []), target, device) for kernel in kernels],
        _outside(host, functions),
        notes_of(module, DONE),
        notes_of(module, REMARKS),
    )


def _kernel_report(
    compiled: CompiledKernel,
    calls: Sequence[ir.Operation],
    target: str,
    device: Device | None,
) -> KernelReport:
    kernel = compiled.function
    ops = list(diag.walk_ops(kernel.regions[0]))
    flops, moved = _cost(kernel, calls)
    traffic = _traffic(compiled, calls, target)
    return KernelReport(
        name=compiled.name,
        target=target,
        calls=len(calls),
        streams=tuple(stream_report(op) for op in ops if op.name == "diag.stream"),
        ops=_counts(ops),
        origins=_strings(kernel, ORIGIN),
        schedule=_schedule(compiled, target),
        cache=compiled.cache,
        seconds=compiled.seconds,
        flops=flops,
        bytes=moved,
        fall_back=compiled.fall_back,
        read_bytes=None if traffic is None else traffic.read,
        written_bytes=None if traffic is None else traffic.written,
        estimate=_estimate(compiled, calls, target, device),
        ranking=tuple(RankedSchedule(x.text, x.seconds, x.bound) for x in read_ranking(kernel)),
        forms=_forms(compiled, target),
    )


def _schedule(compiled: CompiledKernel, target: str) -> Mapping[str, Any]:
    """As a target that has one of its own says, else as the kernel carries it."""
    describe = getattr(get_target(target).load(), "describe_schedule", None)
    if describe is not None and compiled.fall_back is None:
        found: Mapping[str, Any] = describe(compiled.function, compiled.kernel)
        return found
    attributes = compiled.function.attributes
    return _plain(attributes["diag.schedule"]) if "diag.schedule" in attributes else {}


def _strings(op: ir.Operation, name: str) -> tuple[str, ...]:
    if name not in op.attributes:
        return ()
    attr = op.attributes[name]
    if isinstance(attr, ir.StringAttr):
        return (str(attr.value),)
    return tuple(diag.strings(attr))


def stream_report(op: ir.Operation) -> StreamReport:
    """Axis, law and properties of a `diag.stream`."""
    axis = str(ir.StringAttr(op.attributes["axis"]).value)
    return StreamReport(axis, _strings(op, "law"), _strings(op, "properties"))


_ARRAY_OPS = ("contract", "map", "reduce", "stream", "concat", "pad", "index", "reindex")


def _counts(ops: list[ir.Operation]) -> Mapping[str, int]:
    names = (op.name.removeprefix("diag.") for op in ops if op.name.startswith("diag."))
    return dict(Counter(name for name in names if name in _ARRAY_OPS))


def _cost(kernel: ir.Operation, calls: Sequence[ir.Operation]) -> tuple[int | None, int | None]:
    """FLOPs and bytes of one call, when its sizes are all known."""
    sizes = _sizes(kernel, calls[:1])
    if sizes is None:
        return None, None
    cost = kernel_cost(kernel, sizes)
    return cost.flops, cost.bytes


def _sizes(kernel: ir.Operation, calls: Sequence[ir.Operation]) -> dict[str, int] | None:
    """Sizes at all of some calls; None when they differ, or some are open."""
    found = [sizes_of_call(call, kernel) for call in calls]
    if not found or any(sizes != found[0] for sizes in found):
        return None
    arguments = diag.function_body(kernel).arguments
    open_sizes = {label for value in arguments for label, n in diag.dims(value).items() if n < 0}
    return found[0] if open_sizes <= found[0].keys() else None


def _traffic(
    compiled: CompiledKernel, calls: Sequence[ir.Operation], target: str
) -> Traffic | None:
    """What the target predicts for one call."""
    predict = getattr(get_target(target).load(), "predict_traffic", None)
    sizes = _sizes(compiled.function, calls)
    if predict is None or sizes is None or compiled.fall_back is not None:
        return None
    found: Traffic | None = predict(compiled.function, compiled.kernel, sizes)
    return found


def _forms(compiled: CompiledKernel, target: str) -> tuple[str, ...]:
    describe = getattr(get_target(target).load(), "describe_forms", None)
    if describe is None or compiled.fall_back is not None:
        return ()
    return tuple(describe(compiled.function, compiled.kernel))


def _estimate(
    compiled: CompiledKernel, calls: Sequence[ir.Operation], target: str, device: Device | None
) -> EstimateReport | None:
    """What the cost model says about the first call."""
    if device is None or compiled.fall_back is not None or not calls:
        return None
    sizes = sizes_of_call(calls[0], compiled.function)
    return predicted(compiled.function, compiled.kernel, sizes, get_target(target), device)


def predicted(
    function: ir.Operation,
    kernel: Any,
    sizes: Mapping[str, int],
    target: Target,
    device: Device,
) -> EstimateReport | None:
    """What the cost model says about one call of a kernel.

    Args:
        function: at the stage `general`.
        kernel: what the target made of it.
        sizes: of the axes that are open, by label; of others a usual one is assumed.
        target: that compiled it.
        device: that it is to run on.

    Returns:
        The estimate, or None where the target does not say how it cuts kernels.
    """
    decorate = getattr(target.load(), "decoration", None)
    if decorate is None:
        return None
    cut = decorate(function, kernel, sizes)
    arguments = diag.function_body(function).arguments
    open_sizes = {label for value in arguments for label, n in diag.dims(value).items() if n < 0}
    batch = {label for label, step in cut.groups.items() if step == 1}
    assumed = {
        label: UNKNOWN_BATCH if label in batch else UNKNOWN_SIZE
        for label in sorted(open_sizes - sizes.keys())
    }
    found = estimate(function, cut, device, {**sizes, **assumed})
    return _estimate_report(found, device, assumed)


def _estimate_report(found: Estimate, device: Device, assumed: Mapping[str, int]) -> EstimateReport:
    names = [level.name for level in device.levels]
    levels = [
        LevelReport(
            use.level,
            use.traffic.read if number or use.traffic.total else None,
            use.traffic.written if number or use.traffic.total else None,
            use.held,
            use.capacity,
            found.resources.get(use.level, 0.0),
        )
        for number, use in enumerate(found.levels)
    ]
    pipes = {name: time for name, time in found.resources.items() if name not in names}
    return EstimateReport(
        *(found.device, found.seconds, found.bound, found.intensity, pipes, tuple(levels)),
        assumed,
    )


def _plain(attr: Any) -> Any:
    """An attribute as Python data."""
    if isinstance(attr, ir.DictAttr):
        return {entry.name: _plain(entry.attr) for entry in attr}
    if isinstance(attr, ir.ArrayAttr):
        return [_plain(item) for item in attr]
    if isinstance(attr, ir.UnitAttr):
        return True
    return attr.value if hasattr(attr, "value") else str(attr)


def notes_of(module: ir.Module, name: str) -> list[Note]:
    """What passes noted under an attribute of functions; equal texts are one note, counted."""
    found: dict[tuple[str, str], Note] = {}
    for function in diag.functions(module):
        for entry in function.attributes.get(name, ()):
            op, text, at = (str(entry[key].value) for key in ("op", "text", "at"))
            first = found.get((op, text), Note(op, text, at or None, 0))
            found[op, text] = replace(first, count=first.count + 1)
    return list(found.values())


def _outside(
    host: Sequence[ir.Operation], functions: Mapping[str, ir.Operation]
) -> list[OutsideReport]:
    """What functions of the host leave to the library and to the host framework."""
    groups: dict[tuple[str, str], list[ir.Operation]] = {}
    for view in (view for function in host for view in diag.function_body(function).operations):
        key = _reason(view.operation, functions)
        if key is not None:
            groups.setdefault(key, []).append(view.operation)
    return [
        OutsideReport(what, len(ops), reason, _places(ops))
        for (what, reason), ops in groups.items()
    ]


def _reason(op: ir.Operation, functions: Mapping[str, ir.Operation]) -> tuple[str, str] | None:
    if op.name == "diag.contract":
        return "diag.contract", _BLOCKS if is_library(op) else _LIBRARY
    if op.name == "diag.map":
        return None if "diag.absorbed" in op.attributes else (op.name, _ONE_OPERATION)
    if op.name in _MOVES:
        return op.name, "moves data, computes nothing"
    if op.name != "func.call":
        return None
    callee = functions[diag.callee_of(op)]
    if not diag.is_extern(callee):
        return None
    reasons = _strings(callee, "diag.reason")
    return _strings(callee, diag.EXTERN)[0], reasons[0] if reasons else _NO_MEANING


def _places(ops: list[ir.Operation]) -> tuple[str, ...]:
    places = (SourceLocation.of(op.location) for op in ops)
    return tuple(dict.fromkeys(str(place) for place in places if place is not None))[:3]
