"""The tile sizes that a kernel may have, by its axes and the limits of the architecture."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.tiles.arena import lay_out
from diagc.targets.nvptx.tiles.packing import pack, walked_product
from diagc.targets.nvptx.tiles.plan import trace
from diagc.targets.nvptx.tiles.rare_rows import rare_stream

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.plan import Plan, Product, Staged

__all__ = ["TileSchedule", "candidates"]


@dataclass(frozen=True)
class TileSchedule:
    """How a block works.

    Args:
        row_blocks: blocks of 16 rows of one warp.
        warps: per block.
        chunk: positions of a streamed axis that are worked on at a time.
        stages: chunks in shared memory: all but one are on their way.
        blocks_per_sm: how many blocks one multiprocessor should take, for the limit of registers.
        split: positions of a part of the stream at least, where blocks share it; else 0. The number
            of parts is found when a launch is planned (`runtime.sharing`).
        resident: registers that an operand of rows may take while a stream runs.
        tf32: whether products of f32 by f32 round to tf32; others are exact to 22 bits.
        producers: warps that only start copies, in a kernel of warpgroups; else 0.
        packed: positions of a second axis that rows are of; see `tiles.packing`.
        columns: of a tile, where blocks share columns (`Plan.tiled`); else 0.
        depth: positions that a product in a stream sums over at a time (`Plan.walked`); 0 for all.
        stays: whether blocks of warpgroups take several tiles each; see `warpgroups.order`.
        turns: whether groups of warpgroups issue products in turns; see `warpgroups.turns`.
        few: whether it stands beside others, for calls with few blocks; these share the stream.
    """

    row_blocks: int = 1
    warps: int = 4
    chunk: int = 64
    stages: int = 2
    blocks_per_sm: int = 1
    split: int = 0
    tf32: bool = False
    resident: int = 16
    producers: int = 0
    packed: int = 1
    columns: int = 0
    depth: int = 0
    stays: bool = False
    turns: bool = False
    few: bool = False

    @property
    def rows(self) -> int:
        """Rows of a block."""
        return 16 * self.row_blocks * self.warps

    @property
    def row_extent(self) -> int:
        """Positions of a block along the axis of rows."""
        return self.rows // self.packed

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * (self.warps + self.producers)


# Blocks of 16 rows of a warp, warps, positions of a chunk and stages that are tried.
_ROW_BLOCKS = (2, 1)
_WARPS = (4, 8, 2, 1)
_MOST_WARPS = 8
_MOST_ROWS = 16 * _MOST_WARPS  # of a block, with the fewest registers
_CHUNKS = (64, 32, 128, 16)
_STAGES = (2, 3, 4)
_COLUMNS = (128, 64)  # of tiles
# positions of a piece that a product walks, and of rows that are better walked than kept
_DEPTH = 64
_LONG_ROWS = 256

# Registers besides those of states and scores, and the sum up to which ptxas 13 did not spill in
# streamed products in bf16 with d = 64 to 256; operands of f32 are split into two words each, every
# array of rows and streamed positions wants addresses.
_OTHER_REGISTERS = 70
_SPLIT_REGISTERS = 40
_ARRAY_REGISTERS = 16
_MOST_REGISTERS = 244


def candidates(plan: "Plan", arch: GpuArch, *, tf32: bool = False) -> Iterator[TileSchedule]:
    """All schedules that fit, in no order but that of sizes; no block shares its stream.

    Args:
        plan: of the kernel.
        arch: whose limits count.
        tf32: as in `TileSchedule`.

    Raises:
        UnsupportedError: none does.
    """
    found = list(_fitting(plan, arch, tf32=tf32, depth=0))
    walked = walked_product(plan)
    if walked is not None and plan.sizes[walked.inner] > _LONG_ROWS:
        found += list(_fitting(plan, arch, tf32=tf32, depth=_DEPTH))
    yield from found
    if not found:
        raise UnsupportedError(
            plan.kernel.name,
            reason="tiles: its states or operands are too large for a block",
            location=plan.kernel.location,
        )


def _fitting(plan: "Plan", arch: GpuArch, *, tf32: bool, depth: int) -> Iterator[TileSchedule]:
    """Those whose registers suffice; where none's do, those whose sums leave the least to spill."""
    tiles = _COLUMNS if plan.tiled is not None else (0,)
    shapes = [
        TileSchedule(*shape, tf32=tf32, columns=columns, depth=depth)
        for shape, columns in product(_shapes(plan), tiles)
    ]
    needed = {shape: _registers(plan, shape) for shape in shapes}
    most = max(_MOST_REGISTERS, min(needed.values(), default=0))
    for usual, registers in needed.items():
        if registers > most or _sums(plan, usual) + _OTHER_REGISTERS > _MOST_REGISTERS:
            continue
        for stages in _STAGES if plan.streamed and not depth else _STAGES[:1]:
            schedule = replace(usual, stages=stages)
            yield from _by_occupancy(pack(plan, schedule), schedule, registers, arch)


def _shapes(plan: "Plan") -> Iterator[tuple[int, int, int]]:
    """(blocks of rows per warp, warps, chunk); few rows of known size are all in one block."""
    rows = plan.sizes[plan.row]
    many = rows == diag.DYNAMIC or (rows > _MOST_ROWS and plan.sum_over_rows is None)
    chunks = _CHUNKS if plan.streamed else _CHUNKS[:1]
    for blocks, chunk in product(_ROW_BLOCKS, chunks):
        if many:
            yield from ((blocks, warps, chunk) for warps in _WARPS)
            continue
        warps = -(-rows // (16 * blocks))
        if warps <= _MOST_WARPS and (blocks == 1 or rows > 16):
            yield blocks, warps, chunk


def _registers(plan: "Plan", schedule: TileSchedule) -> int:
    """An estimate of the registers of a thread.

    Products outside of streams are computed when they are read: one after the other, or each in
    front of the loop or behind it.
    """
    wide = any(_is_f32(plan, staged.argument) for staged in plan.staged)
    split = _SPLIT_REGISTERS if wide else 0
    arrays = sum(_is_streamed_rows(plan, staged) for staged in plan.staged)
    rows = max((_row_words(plan, op) for op in plan.streams()), default=0)
    beside = _OTHER_REGISTERS + split + schedule.row_blocks * (_ARRAY_REGISTERS * arrays + rows)
    return _sums(plan, schedule) + schedule.chunk // 4 + beside


def _sums(plan: "Plan", schedule: TileSchedule) -> int:
    """Registers of states, and of what is computed beside them."""
    chunk = schedule.chunk
    states = max((_state_columns(plan, op, schedule) for op in plan.streams()), default=0)
    outside = max((plan.extent(p.column, schedule) for p in _products_outside(plan)), default=0)
    scores = max((_score_products(plan, op) for op in plan.streams()), default=0)
    within = chunk * max(scores, 1) if plan.has_scores else 0
    apart = rare_stream(plan) is not None  # then the stream runs when all else is done
    together = max(outside, states + within) if apart else states + max(outside, within)
    return schedule.row_blocks * together // 2


def _score_products(plan: "Plan", stream: ir.Operation) -> int:
    """Products of a stream whose columns are positions of the chunk; all meet in one map."""
    inside = (p for p in plan.products.values() if p.op.parent.operation == stream)
    return sum(p.column in plan.streamed for p in inside)


def _row_words(plan: "Plan", stream: ir.Operation) -> int:
    """Registers, for 16 rows, of rows that are computed in front of a stream and not kept shared.

    That is of f32: what is of 16 bits takes the place of what it is made of.
    """
    inside = (p for p in plan.products.values() if p.op.parent.operation == stream)
    return sum(
        plan.sizes[p.inner] // 2
        for p in inside
        if p.inner not in plan.streamed
        and trace(p.rows) is None
        and str(diag.element_type(p.rows)) == "f32"
    )


def _products_outside(plan: "Plan") -> list["Product"]:
    """Products that are not part of a stream."""
    found = plan.products.values()
    return [p for p in found if p.op.parent.operation.name != "diag.stream"]


def _state_columns(plan: "Plan", stream: ir.Operation, schedule: TileSchedule) -> int:
    """Columns of all states that have rows and columns."""
    states = stream.regions[1].blocks[0].arguments
    columns = (plan.shape(state)[1] for state in states)
    return sum(plan.extent(label, schedule) for label in columns if label is not None)


def _is_streamed_rows(plan: "Plan", staged: "Staged") -> bool:
    """Whether an argument has rows and streamed positions: a bias, a mask."""
    return staged.streamed is not None and plan.row in (staged.lines, staged.inner)


def _is_f32(plan: "Plan", argument: int) -> bool:
    return plan.signature.args[argument].dtype == "f32"


def _by_occupancy(
    plan: "Plan", schedule: TileSchedule, registers: int, arch: GpuArch
) -> Iterator[TileSchedule]:
    """With as many blocks on a multiprocessor as registers and shared memory allow, up to 4.

    Also with so few that each thread may have all the registers that an instruction can name.
    """
    shared = lay_out(plan, schedule).size
    if shared > arch.block_shared_bytes:
        return
    by_shared = arch.sm_shared_bytes // (shared + _BLOCK_RESERVE)
    by_registers = arch.registers // (registers * schedule.threads)
    by_threads = arch.sm_threads // schedule.threads
    blocks = max(1, min(by_shared, by_registers, by_threads, _MOST_BLOCKS))
    yield replace(schedule, blocks_per_sm=blocks)
    free = arch.registers // (_ALL_REGISTERS * schedule.threads)
    if free < blocks:
        yield replace(schedule, blocks_per_sm=max(1, free))


_ALL_REGISTERS = 256
"""Of a thread, as they are handed out; code names up to 255."""

_BLOCK_RESERVE = 1024
"""Shared memory that every block takes besides its own."""

_MOST_BLOCKS = 4
