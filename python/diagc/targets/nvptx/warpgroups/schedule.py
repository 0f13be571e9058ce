"""Tile sizes of kernels on warpgroups: groups of 64 rows, chunks and stages that fit."""

from collections.abc import Iterator
from dataclasses import replace

from diagc.dialects import diag
from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.tiles.packing import pack, packed_positions
from diagc.targets.nvptx.tiles.parts import splittable
from diagc.targets.nvptx.tiles.plan import Plan, Staged
from diagc.targets.nvptx.tiles.reads import find_reads
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.arena import lay_out
from diagc.targets.nvptx.warpgroups.fit import (
    PITCHES,
    check_fit,
    column_tile,
    is_turned,
    streamed_tiles,
)
from diagc.targets.nvptx.warpgroups.lagging_plan import (
    early_products,
    lagging_products,
    late_products,
)

__all__ = ["PRODUCER_REGISTERS", "consumer_registers", "warpgroup_schedules"]

PRODUCER_REGISTERS = 24
"""Of a thread, after the warpgroups have shared out the registers of a multiprocessor."""

_PRODUCERS = 4

# positions of a chunk and stages, the best first
_SHAPES = ((192, 2), (176, 2), (128, 2), (112, 2), (96, 2), (80, 2), (64, 3), (64, 2))
# few rows wait for memory: short chunks, so that two blocks have room
_FEW_ROWS = ((64, 3), (64, 2))
# shorter ones of three groups read rows from shared memory as often as columns
_LEAST_OF_THREE = 80
# where chunks of 64 may spill
_SHORT = (32, 3)
_TIGHT = 180
# of a thread that computes, by warps: with those that copy, half or all of 65536 for 128 each
_CONSUMER_REGISTERS = {4: 232, 8: 240, 12: 160}
# besides sums and words; of 240, ptxas 13 spilled at 224, not at 204, and where products lag at
# 196, not at 188; of 160 at 128, not at 120
_OTHER_REGISTERS = {4: 25, 8: 25, 12: 20}
_LAG_REGISTERS = 20
_BLOCK_RESERVE = 1024  # bytes of shared memory that every block takes besides its own


def consumer_registers(schedule: TileSchedule) -> int:
    """Of a thread that computes, after the warpgroups have shared them out."""
    return _CONSUMER_REGISTERS[schedule.warps]


def warpgroup_schedules(plan: Plan, arch: GpuArch) -> Iterator[TileSchedule]:
    """Schedules that fit, in no order but that of chunks; none for another architecture.

    Raises:
        UnsupportedError: warpgroups do not suit the kernel.
    """
    if not arch.has_warpgroups:
        return
    check_fit(plan)
    for warps, packed in _rows(plan):
        for chunk, stages in _shapes(plan, warps):
            schedule = TileSchedule(
                row_blocks=1,
                warps=warps,
                chunk=chunk,
                stages=stages,
                producers=_PRODUCERS,
                packed=packed,
            )
            most = consumer_registers(schedule) - _OTHER_REGISTERS[warps]
            if not _fills_panels(plan, chunk) or _registers(plan, chunk) > most:
                continue
            shared = lay_out(pack(plan, schedule), schedule, streamed_tiles(plan)).size
            if shared <= arch.block_shared_bytes:
                several = warps == 4 and 2 * (shared + _BLOCK_RESERVE) <= arch.sm_shared_bytes
                yield replace(schedule, blocks_per_sm=2 if several else 1)


def _shapes(plan: Plan, warps: int) -> Iterator[tuple[int, int]]:
    shapes = _SHAPES if warps > 4 else _FEW_ROWS
    yield from (shape for shape in shapes if warps <= 8 or shape[0] >= _LEAST_OF_THREE)
    if warps <= 8 and _registers(plan, 64) > _TIGHT:
        yield _SHORT


def _rows(plan: Plan) -> Iterator[tuple[int, int]]:
    """Warps that compute, and positions of another axis that rows are of, too.

    Rows of known number have the least that hold them.
    """
    rows = plan.sizes[plan.row]
    # what joins parts copies tiles of one axis of rows alone
    alone = splittable(plan) is not None and bool(find_reads(plan, (0, 2, 3)).staged)
    for warps in (4, 8, 12):
        packed = 1 if alone else packed_positions(plan, 16 * warps)
        if rows != diag.DYNAMIC and rows * packed <= 16 * warps:
            yield warps, packed
            return
        if warps > 4:
            yield warps, packed


def _fills_panels(plan: Plan, chunk: int) -> bool:
    """Whether chunks that go along the lines are panels that a copy, or a product, can swizzle."""
    turned = [column_tile(plan, p) for p in plan.products.values() if is_turned(plan, p)]
    along = [staged for staged in plan.staged if staged.inner == staged.streamed]

    def size(staged: Staged) -> int:
        return chunk * DTYPES[plan.signature.args[staged.argument].dtype]

    narrow = all(size(staged) % PITCHES[-1] == 0 for staged in along)
    # what is turned is written by threads, in as few panels as can be
    wide = all(size(staged) % PITCHES[0] == 0 or size(staged) in PITCHES for staged in turned)
    return narrow and wide


def _registers(plan: Plan, chunk: int) -> int:
    """Sums of all products, and words of rows made in the stream.

    Where nothing lags, sums of products that run ahead are there twice; where products do, masks
    and what corrects their sums are there beside all sums.
    """
    sizes = {**plan.sizes, **dict.fromkeys(plan.streamed, chunk)}
    products = [*plan.products.values()]
    lag = bool(lagging_products(plan))
    if not lag:
        products += early_products(plan)
    # sums with scaled rows begin at 0, beside what they are added to
    products += [product for product in late_products(plan) if "mul" in product.op.attributes]
    words = sum(sizes[product.inner] // 4 for product in late_products(plan))
    sums = sum(sizes[product.column] // 2 for product in products)
    return sums + words + (_LAG_REGISTERS if lag else 0)
