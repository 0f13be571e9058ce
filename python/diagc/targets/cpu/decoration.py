"""How a CPU kernel's schedule cuts it, as the cost model sees it."""

from collections.abc import Mapping

from diagc.cost import Decoration
from diagc.mlir import ir
from diagc.passes.schedules import decoration_of, read_schedule

__all__ = ["decoration"]


def decoration(kernel: ir.Operation, _loaded: object, _sizes: Mapping[str, int]) -> Decoration:
    """Groups and chunks of one task; a kernel without a schedule is one task."""
    schedule = read_schedule(kernel)
    return Decoration({}, {}) if schedule is None else decoration_of(schedule)
