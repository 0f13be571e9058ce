"""The schedules that a kernel may have, and the choice among them by estimated time.

`schedules.py` says by rule which axis goes along the lanes of vectors; how large tiles and chunks
are is a matter of cost: of registers, of what is computed beyond the end of an axis, of bytes.
"""

from collections.abc import Sequence
from dataclasses import replace

from diagc.cost import Device, Estimate, rank
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import array_ops
from diagc.passes.kernels.kernel_axes import analyze_kernel
from diagc.passes.kernels.schedules import (
    TILES,
    Schedule,
    alternatives,
    choose_schedule,
    decoration_of,
    vector_of,
)

__all__ = ["best_schedule", "compare_schedules", "ranked_schedules", "words"]

CHUNKS = (64, 32, 128, 256)
"""Positions of a streamed axis at a time; within 8 % of each other where they were measured."""


Ranking = Sequence[tuple[Schedule, Estimate]]


def compare_schedules(kernel: ir.Operation, device: Device) -> tuple[Schedule, Ranking]:
    """The schedule by rule, with the tile of lanes that is estimated to be the fastest.

    Beside it those that were compared, the fastest first; nothing where there is no choice.
    """
    preferred = choose_schedule(kernel, device)
    usual = TILES[device.registers][0] * vector_of(kernel, device)
    if preferred.mode != "lanes" or preferred.lane_tile != usual:
        return preferred, ()  # tiles of maps alone are long for another reason
    ranked = _ranked(kernel, _tiles(preferred, kernel, device), device)
    return ranked[0][0], ranked


def best_schedule(kernel: ir.Operation, device: Device) -> Schedule:
    """The choice of `compare_schedules` alone."""
    return compare_schedules(kernel, device)[0]


def ranked_schedules(kernel: ir.Operation, device: Device) -> Sequence[Schedule]:
    """Every schedule that the target could run, the fastest by estimate first, all different.

    The choice of `best_schedule` comes first: the model does not know what transposing costs, so
    that it ranks within a mode only.
    """
    found = [best_schedule(kernel, device)]
    for preferred in (choose_schedule(kernel, device), *alternatives(kernel, device)):
        tiles = _tiles(preferred, kernel, device)
        chunked = [
            replace(tile, chunk=tuple((axis, size) for axis, _ in tile.chunk))
            for tile in tiles
            for size in CHUNKS
        ]
        found += [schedule for schedule, _ in _ranked(kernel, [*tiles, *chunked], device)]
    if _adds_up_tiles(kernel):
        found = [s for s in found if (s.mode, s.lanes) == (found[0].mode, found[0].lanes)]
    return tuple(dict.fromkeys(found))


def _adds_up_tiles(kernel: ir.Operation) -> bool:
    """Whether a stream gives sums over its lanes chunk by chunk: no other axis will do for them."""
    return any(op.name == "diag.stream" and op.opview.emitted for op in array_ops(kernel))


def _tiles(schedule: Schedule, kernel: ir.Operation, device: Device) -> list[Schedule]:
    """The same with other tiles of lanes, its own first."""
    if schedule.mode != "lanes":
        return [schedule]
    vector = vector_of(kernel, device)
    sizes = [vectors * vector for vectors in TILES[device.registers]]
    return list(dict.fromkeys([schedule, *(replace(schedule, lane_tile=n) for n in sizes)]))


def _ranked(kernel: ir.Operation, schedules: Sequence[Schedule], device: Device) -> Ranking:
    vector = vector_of(kernel, device)
    sizes = dict(analyze_kernel(kernel).sizes)
    cuts = []
    for schedule in schedules:
        cut = decoration_of(schedule, vector, device.registers)
        if schedule.lanes is not None and sizes[schedule.lanes] == diag.DYNAMIC:
            cut = replace(cut, padded={})  # nobody knows how many lanes will be empty
        cuts.append((schedule, cut))
    return rank(kernel, cuts, device)


def words(schedule: Schedule) -> str:
    """A schedule for people."""
    chunks = ", ".join(f"{axis} = {size}" for axis, size in schedule.chunk)
    parts = [f"chunks {chunks}"] if chunks else []
    if schedule.lanes is not None:
        kind = "lanes" if schedule.mode == "lanes" else "rows"
        parts.insert(0, f"{schedule.lane_tile} {kind} of {schedule.lanes}")
    return ", ".join(parts) or f"vectors along {schedule.mode}"
