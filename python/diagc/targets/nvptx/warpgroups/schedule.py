"""Tile sizes of kernels on warpgroups: two groups of 64 rows, chunks and stages that fit."""

from collections.abc import Iterator

from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.tiles.plan import Plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.arena import lay_out
from diagc.targets.nvptx.warpgroups.fit import check_fit, streamed_tiles

__all__ = ["CONSUMER_REGISTERS", "PRODUCER_REGISTERS", "warpgroup_schedules"]

PRODUCER_REGISTERS, CONSUMER_REGISTERS = 24, 240
"""Of a thread, after the warpgroups have shared them out: 128 * 24 + 256 * 240 of 65536."""

_WARPS, _PRODUCERS = 8, 4
_PANEL = 64  # elements of 16 bits

# positions of a chunk and stages, the best first
_SHAPES = ((128, 2), (112, 2), (96, 2), (64, 3), (64, 2))
# of sums and words; ptxas 13 did not spill at 204 (d = 128, chunks of 112), at 224 it did
_MOST_REGISTERS = 215


def warpgroup_schedules(plan: Plan, arch: GpuArch) -> Iterator[TileSchedule]:
    """Schedules that fit, the best first; none for another architecture.

    Raises:
        UnsupportedError: warpgroups do not suit the kernel.
    """
    if not arch.has_warpgroups:
        return
    check_fit(plan)
    for chunk, stages in _SHAPES:
        schedule = TileSchedule(
            row_blocks=1, warps=_WARPS, chunk=chunk, stages=stages, producers=_PRODUCERS
        )
        fits = lay_out(plan, schedule, streamed_tiles(plan)).size <= arch.block_shared_bytes
        if fits and _fills_panels(plan, chunk) and _registers(plan, chunk) <= _MOST_REGISTERS:
            yield schedule


def _fills_panels(plan: Plan, chunk: int) -> bool:
    """Whether chunks that go along the lines are panels of 128 bytes."""
    along = any(staged.inner == staged.streamed for staged in plan.staged)
    return not along or chunk % _PANEL == 0


def _registers(plan: Plan, chunk: int) -> int:
    """Sums of all products, again of those that run ahead, and words of rows made in the stream."""
    sizes = {**plan.sizes, **dict.fromkeys(plan.streamed, chunk)}
    sums = sum(sizes[product.column] // 2 for product in plan.products.values())
    ahead = [p for p in plan.products.values() if p.inner not in plan.streamed]
    return sums + sum(sizes[product.column] // 2 for product in ahead) + chunk // 4
