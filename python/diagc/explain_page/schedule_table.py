"""The schedules of kernels as a table that needs no knowledge of the IR."""

from collections.abc import Sequence
from dataclasses import dataclass

from diagc.cost import resident_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.kernels.schedules import Schedule, read_schedule

__all__ = ["AxisRow", "KernelSchedule", "schedules_of"]


@dataclass(frozen=True)
class AxisRow:
    """What a kernel does with one axis; `size` is that of the axis, where it is known."""

    label: str
    size: int | None
    role: str
    piece: str


@dataclass(frozen=True)
class KernelSchedule:
    """A kernel and what it does with each axis, the cut ones first.

    `resident` is M in bytes: the most that one task holds at once, where sizes are known.
    """

    name: str
    axes: Sequence[AxisRow]
    resident: int | None


def schedules_of(module: ir.Module) -> list[KernelSchedule]:
    """The schedules of all kernels of a module at the stage `schedules`."""
    kernels = (op for op in diag.functions(module) if diag.is_kernel(op))
    return [_schedule(kernel) for kernel in kernels]


def _schedule(kernel: ir.Operation) -> KernelSchedule:
    schedule = read_schedule(kernel)
    roles: dict[str, tuple[str, str]] = {}
    if schedule is not None:
        for label in schedule.grid:
            roles[label] = ("one task for each position", f"g_{label} = 1")
        if schedule.lanes is not None:
            tile = f"g_{schedule.lanes} = {schedule.lane_tile}"
            how = "one vector lane a position" if schedule.mode == "lanes" else "cut into groups"
            roles[schedule.lanes] = (f"shared out to tasks, {how}", tile)
        for label in schedule.rows:
            roles[label] = ("kept together, because a stream is read once for all", "whole")
        for label, size in schedule.chunk:
            roles[label] = ("read in chunks, with a state kept", f"s_{label} = {size}")
    sizes = _sizes(kernel)
    order = [*roles, *(label for label in sizes if label not in roles)]
    rows = [
        AxisRow(label, sizes.get(label), *roles.get(label, ("inside a task", "whole")))
        for label in order
    ]
    name = diag.symbol_of(kernel)
    return KernelSchedule(name, rows, None if schedule is None else _resident(kernel, schedule))


def _resident(kernel: ir.Operation, schedule: Schedule) -> int | None:
    groups = dict.fromkeys(schedule.grid, 1)
    if schedule.lanes is not None:
        groups[schedule.lanes] = schedule.lane_tile
    return resident_bytes(kernel, groups, dict(schedule.chunk))


def _sizes(kernel: ir.Operation) -> dict[str, int | None]:
    values = [*diag.function_body(kernel).arguments]
    values += [result for op in diag.walk_ops(kernel.regions[0]) for result in op.results]
    found: dict[str, int | None] = {}
    for value in values:
        for label, size in diag.dims(value).items() if diag.is_wire(value.type) else ():
            known = None if size == diag.DYNAMIC else size
            found[label] = found.get(label) or known
    return found
