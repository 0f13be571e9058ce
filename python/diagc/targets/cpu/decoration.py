"""How a CPU kernel's schedule cuts it, as the cost model sees it."""

from collections.abc import Mapping

from diagc.cost import Decoration
from diagc.mlir import ir
from diagc.passes.kernels.schedules import decoration_of, read_schedule
from diagc.runtime.cpu_features import selected_features
from diagc.targets.cpu.lower import vector_lanes

__all__ = ["decoration"]


def decoration(kernel: ir.Operation, _loaded: object, _sizes: Mapping[str, int]) -> Decoration:
    """Groups and chunks of one task; a kernel without a schedule is one task."""
    schedule = read_schedule(kernel)
    if schedule is None:
        return Decoration({}, {})
    features = selected_features()
    return decoration_of(schedule, vector_lanes(kernel, features), features.vector_registers)
