"""Tile sizes of kernels on warpgroups: groups of 64 rows, chunks and stages that fit."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.tiles.packing import pack, packed_positions, walked_product
from diagc.targets.nvptx.tiles.parts import splittable
from diagc.targets.nvptx.tiles.plan import Plan, Product
from diagc.targets.nvptx.tiles.reads import find_reads
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.shared_tile import ROW_BYTES
from diagc.targets.nvptx.warpgroups.arena import lay_out
from diagc.targets.nvptx.warpgroups.fit import check_fit, column_tile, is_turned, streamed_tiles

__all__ = ["PRODUCER_REGISTERS", "consumer_registers", "warpgroup_schedules"]

PRODUCER_REGISTERS = 24
"""Of a thread, after the warpgroups have shared out the registers of a multiprocessor."""

_PRODUCERS = 4
_NARROW_PANELS = (32, 64)  # bytes of a line

# positions of a chunk and stages, the best first
_SHAPES = ((128, 2), (112, 2), (96, 2), (64, 3), (64, 2))
# few rows wait for memory: short chunks, so that two blocks have room
_FEW_ROWS = ((64, 3), (64, 2))
# columns of a tile, positions of a chunk and stages, where blocks share columns
_TILES = ((256, 64, 4), (128, 64, 4), (64, 64, 4), (256, 64, 3), (128, 64, 3), (256, 64, 2))
# positions of a chunk, of the summed axis at a time, and stages, where rows are too long to stay
_WALKS = ((256, 64, 4), (128, 64, 4), (64, 64, 4))
# where chunks of 64 may spill
_SHORT = (32, 3)
_TIGHT = 200
# the same where blocks stay: what depends on a stage is then in registers of threads, not of warps;
# ptxas 13 did not spill at 192 (d = 64, chunks of 128), at 204 it did
_MOST_STAYING_REGISTERS = 195
# of sums and words; ptxas 13 did not spill at 204 (d = 128, chunks of 112), at 224 it did
_MOST_REGISTERS = 215
_BLOCK_RESERVE = 1024  # bytes of shared memory that every block takes besides its own


def consumer_registers(schedule: TileSchedule) -> int:
    """Of a thread that computes: 128 * 24 + 256 * 240 of 65536, or half of them for one group."""
    return 240 if schedule.warps > 4 else 232


def warpgroup_schedules(plan: Plan, arch: GpuArch) -> Iterator[TileSchedule]:
    """Schedules that fit, in no order but that of chunks; none for another architecture.

    Raises:
        UnsupportedError: warpgroups do not suit the kernel.
    """
    if not arch.has_warpgroups:
        return
    check_fit(plan)
    found = list(_fitting(plan, arch, _shapes(plan)))
    yield from found or _fitting(plan, arch, _walks(plan))


def _fitting(
    plan: Plan, arch: GpuArch, shapes: Iterable[tuple[int, int, int, int]]
) -> Iterator[TileSchedule]:
    """Of shapes of columns, chunks, depth and stages, those that fit."""
    warps, packed = _rows(plan)
    for columns, chunk, depth, stages in shapes:
        schedule = TileSchedule(
            row_blocks=1,
            warps=warps,
            chunk=chunk,
            stages=stages,
            producers=_PRODUCERS,
            packed=packed,
            columns=columns,
            depth=depth,
        )
        shared = lay_out(pack(plan, schedule), schedule, streamed_tiles(plan)).size
        fits = shared <= arch.block_shared_bytes and _fills_panels(plan, chunk)
        if fits and _registers(plan, schedule) <= _MOST_REGISTERS:
            several = warps == 4 and 2 * (shared + _BLOCK_RESERVE) <= arch.sm_shared_bytes
            yield replace(schedule, blocks_per_sm=2 if several else 1)
            if _may_stay(plan, schedule):
                yield replace(schedule, stays=True)


def _may_stay(plan: Plan, schedule: TileSchedule) -> bool:
    """Whether blocks may take several tiles each: results have a place beside the next tiles."""
    schedule = replace(schedule, stays=True)
    walks = schedule.columns or schedule.depth
    if schedule.warps <= 4 or walks or _registers(plan, schedule) > _MOST_STAYING_REGISTERS:
        return False
    try:
        return bool(lay_out(pack(plan, schedule), schedule, streamed_tiles(plan)).fixed)
    except UnsupportedError:
        return False


def _shapes(plan: Plan) -> Iterator[tuple[int, int, int, int]]:
    """(columns of a tile or 0, positions of a chunk, 0, stages)."""
    if plan.tiled is not None:
        yield from ((columns, chunk, 0, stages) for columns, chunk, stages in _TILES)
        return
    warps, _ = _rows(plan)
    shapes = _SHAPES if warps > 4 else _FEW_ROWS
    tight = _registers(plan, TileSchedule(chunk=64)) > _TIGHT
    more = (*shapes, _SHORT) if tight else shapes
    yield from ((0, chunk, 0, stages) for chunk, stages in more)


def _walks(plan: Plan) -> Iterator[tuple[int, int, int, int]]:
    """(0, positions of a chunk, of the summed axis at a time, stages)."""
    if walked_product(plan) is not None:
        yield from ((0, *shape) for shape in _WALKS)


def _rows(plan: Plan) -> tuple[int, int]:
    """Warps that compute, and positions of another axis that rows are of, too."""
    rows = plan.sizes[plan.row]
    # what joins parts copies tiles of one axis of rows alone
    alone = splittable(plan) is not None and bool(find_reads(plan, (0, 2, 3)).staged)
    for warps in (4, 8):
        packed = 1 if alone else packed_positions(plan, 16 * warps)
        if rows != diag.DYNAMIC and rows * packed <= 16 * warps:
            break
    return warps, packed


def _fills_panels(plan: Plan, chunk: int) -> bool:
    """Whether chunks that go along the lines are panels that a copy, or a product, can swizzle."""
    turned = [column_tile(plan, p) for p in plan.products.values() if is_turned(plan, p)]
    along = [staged for staged in plan.staged if staged.inner == staged.streamed]
    sizes = (chunk * DTYPES[plan.signature.args[x.argument].dtype] for x in (*along, *turned))
    return all(size % ROW_BYTES == 0 or size in _NARROW_PANELS for size in sizes)


def _registers(plan: Plan, schedule: TileSchedule) -> int:
    """Sums of all products, again of those that run ahead, and words of rows made in the stream."""

    def sums(product: Product) -> int:
        streams = product.column in plan.streamed
        return (schedule.chunk if streams else plan.extent(product.column, schedule)) // 2

    products = plan.products.values()
    stay = [p for p in products if p.inner not in plan.streamed]
    ahead = stay if not schedule.depth else []
    # sums with scaled rows begin at 0, beside what they are added to
    apart = [p for p in products if p not in stay and "mul" in p.op.attributes]
    return sum(map(sums, (*products, *ahead, *apart))) + schedule.chunk // 4
