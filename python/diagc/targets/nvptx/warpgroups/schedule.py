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

# positions of a chunk and stages, the best first
_SHAPES = ((128, 2), (64, 3), (64, 2))
# registers for sums, scores and their words, besides addresses and statistics
_MOST_REGISTERS = 190


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
        if fits and _registers(plan, chunk) <= _MOST_REGISTERS:
            yield schedule


def _registers(plan: Plan, chunk: int) -> int:
    """Sums of all products and, for those over the streamed axis, the words of their rows."""
    sizes = {**plan.sizes, **dict.fromkeys(plan.streamed, chunk)}
    sums = sum(sizes[product.column] // 2 for product in plan.products.values())
    return sums + chunk // 4
