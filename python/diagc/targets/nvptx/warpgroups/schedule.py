"""Tile sizes of kernels on warpgroups: groups of 64 rows, chunks and stages that fit."""

from collections.abc import Iterator
from dataclasses import replace

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.tiles.bounds import reads_bounds
from diagc.targets.nvptx.tiles.packing import pack, packed_positions, walked_product
from diagc.targets.nvptx.tiles.parts import splittable
from diagc.targets.nvptx.tiles.plan import Plan, Product, Staged
from diagc.targets.nvptx.tiles.reads import find_reads
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.arena import BulkArena, lay_out
from diagc.targets.nvptx.warpgroups.fit import (
    PITCHES,
    check_fit,
    column_tile,
    is_turned,
    streamed_tiles,
)
from diagc.targets.nvptx.warpgroups.lagging_plan import lagging_products
from diagc.targets.nvptx.warpgroups.turns import may_take_turns

__all__ = ["PRODUCER_REGISTERS", "consumer_registers", "warpgroup_schedules"]

PRODUCER_REGISTERS = 24
"""Of a thread, after the warpgroups have shared out the registers of a multiprocessor."""

_PRODUCERS = 4

# positions of a chunk and stages, the best first
_SHAPES = ((192, 2), (176, 2), (128, 2), (112, 2), (96, 2), (80, 2), (64, 3), (64, 2))
# few rows wait for memory: short chunks, so that two blocks have room
_FEW_ROWS = ((64, 3), (64, 2))
# columns of a tile, positions of a chunk and stages, where blocks share columns
_TILES = ((256, 64, 4), (128, 64, 4), (64, 64, 4), (256, 64, 3), (128, 64, 3), (256, 64, 2))
# positions of a chunk, of the summed axis at a time, and stages, where rows are too long to stay
_WALKS = ((256, 64, 4), (128, 64, 4), (64, 64, 4))
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
# more where blocks stay: what depends on a stage is then in registers of threads, not of warps
_STAY_REGISTERS = 20
_BLOCK_RESERVE = 1024  # bytes of shared memory that every block takes besides its own


def consumer_registers(schedule: TileSchedule) -> int:
    """Of a thread that computes, after the warpgroups have shared them out."""
    return _CONSUMER_REGISTERS[schedule.warps]


def warpgroup_schedules(plan: Plan, arch: GpuArch) -> Iterator[TileSchedule]:
    """Schedules that fit, in no order but that of chunks; none for another architecture.

    Raises:
        UnsupportedError: warpgroups do not suit the kernel, or no schedule fits.
    """
    if not arch.has_warpgroups:
        return
    check_fit(plan)
    found = [tile for rows in _rows(plan) for tile in _fitting(plan, arch, *rows)]
    yield from found
    if not found:
        raise UnsupportedError(
            plan.kernel.name,
            reason=f"warpgroups: no tiles fit a block: {_misfit(plan, arch, _least(plan))}",
            location=plan.kernel.location,
        )


def _fitting(plan: Plan, arch: GpuArch, warps: int, packed: int) -> Iterator[TileSchedule]:
    """Schedules of so many rows that fit; rows are walked where they cannot stay."""
    for shapes in (_shapes(plan, warps), _walks(plan, warps)):
        sized = [_sized(warps, packed, shape) for shape in shapes]
        found = [schedule for schedule in sized if _misfit(plan, arch, schedule) is None]
        for schedule in found:
            size = _arena(plan, schedule).size
            several = warps == 4 and 2 * (size + _BLOCK_RESERVE) <= arch.sm_shared_bytes
            schedule = replace(schedule, blocks_per_sm=2 if several else 1)
            for turns in (False, True) if may_take_turns(plan, warps) else (False,):
                yield replace(schedule, turns=turns)
                if _may_stay(plan, schedule):
                    yield replace(schedule, turns=turns, stays=True)
        if found:
            return


def _sized(warps: int, packed: int, shape: tuple[int, int, int, int]) -> TileSchedule:
    columns, chunk, depth, stages = shape
    return TileSchedule(
        row_blocks=1,
        warps=warps,
        chunk=chunk,
        stages=stages,
        producers=_PRODUCERS,
        packed=packed,
        columns=columns,
        depth=depth,
    )


def _least(plan: Plan) -> TileSchedule:
    """The smallest one that is tried."""
    warps, packed = next(_rows(plan))
    *_, shape = (*_shapes(plan, warps), *_walks(plan, warps))
    return _sized(warps, packed, shape)


def _misfit(plan: Plan, arch: GpuArch, schedule: TileSchedule) -> str | None:
    """Why a schedule does not fit, or None."""
    if not _fills_panels(plan, schedule.chunk):
        return f"lines of {schedule.chunk} keys are no whole panels"
    sums, most = _registers(plan, schedule), _most(schedule)
    if sums > most:
        return f"sums take {sums} registers of a thread, of {most} that there are"
    try:
        size = _arena(plan, schedule).size
    except UnsupportedError as error:
        return error.message.rpartition(": ")[2]
    most = arch.block_shared_bytes
    return None if size <= most else f"they take {size} bytes of shared memory, of {most}"


def _most(schedule: TileSchedule) -> int:
    """Registers for sums and words."""
    return consumer_registers(schedule) - _OTHER_REGISTERS[schedule.warps]


def _may_stay(plan: Plan, schedule: TileSchedule) -> bool:
    """Whether blocks may take several tiles each: results have a place beside the next tiles."""
    walks = schedule.columns or schedule.depth
    # how long tiles of rows are that read their bounds is not known before
    walks = walks or reads_bounds(plan)
    most = _most(schedule) - _STAY_REGISTERS
    if schedule.warps <= 4 or walks or _registers(plan, schedule) > most:
        return False
    try:
        return bool(_arena(plan, replace(schedule, stays=True)).fixed)
    except UnsupportedError:
        return False


def _arena(plan: Plan, schedule: TileSchedule) -> BulkArena:
    """Shared memory of a schedule.

    Raises:
        UnsupportedError: it cannot be laid out.
    """
    return lay_out(pack(plan, schedule), schedule, streamed_tiles(plan))


def _shapes(plan: Plan, warps: int) -> Iterator[tuple[int, int, int, int]]:
    """(columns of a tile or 0, positions of a chunk, 0, stages)."""
    if plan.tiled is not None:
        shapes = _TILES if warps <= 8 else ()
        yield from ((columns, chunk, 0, stages) for columns, chunk, stages in shapes)
        return
    for chunk, stages in _SHAPES if warps > 4 else _FEW_ROWS:
        if warps <= 8 or chunk >= _LEAST_OF_THREE:
            yield 0, chunk, 0, stages
    if warps <= 8 and _registers(plan, TileSchedule(chunk=64)) > _TIGHT:
        chunk, stages = _SHORT
        yield 0, chunk, 0, stages


def _walks(plan: Plan, warps: int) -> Iterator[tuple[int, int, int, int]]:
    """(0, positions of a chunk, of the summed axis at a time, stages)."""
    if warps <= 8 and walked_product(plan) is not None:
        yield from ((0, *shape) for shape in _WALKS)


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


def _registers(plan: Plan, schedule: TileSchedule) -> int:
    """Sums of all products, and words of rows made in the stream.

    Where nothing lags, sums of products that run ahead are there twice; where products do, masks
    and what corrects their sums are there beside all sums.
    """

    def sums(product: Product) -> int:
        streams = product.column in plan.streamed
        return (schedule.chunk if streams else plan.extent(product.column, schedule)) // 2

    products = plan.products.values()
    words = schedule.chunk // 4
    late = lagging_products(plan)
    if late:
        return sum(map(sums, products)) + len(late) * words + _LAG_REGISTERS
    stay = [p for p in products if p.inner not in plan.streamed]
    ahead = stay if not schedule.depth else []
    # sums with scaled rows begin at 0, beside what they are added to
    apart = [p for p in products if p not in stay and "mul" in p.op.attributes]
    return sum(map(sums, (*products, *ahead, *apart))) + words
