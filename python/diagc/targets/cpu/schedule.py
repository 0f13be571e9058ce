"""The schedule attributes of a kernel as the cpu target reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diagc.cost import elements, op_flops
from diagc.cost.registers import register_block
from diagc.dialects import diag
from diagc.errors import InternalError, UnsupportedError
from diagc.mlir import ir

__all__ = ["CpuSchedule", "read_schedule"]

DEFAULT_CHUNK = 64
DEFAULT_LANE_TILE = 64

LEAST_WORK = 16 * 1024
"""Additions and accesses that a task should do at least, about a microsecond's worth."""

MOST_POSITIONS = 256


@dataclass(frozen=True)
class CpuSchedule:
    """How tasks are cut.

    Args:
        grid: axes with one task per position.
        tiled: the grouped axis, cut into tiles of `lane_tile` positions per task, or None.
        lanes: `tiled` when there is one position per vector lane; None when vectors run along
            each op's own contiguous axis.
        lane_tile: positions of `tiled` per task, a multiple of the vector length, or of `block`
            where there are `tiles`.
        bf16_dot: whether sums of bf16 products may use the CPU's dot instruction.
        chunk: positions of a streamed axis that are worked on at a time.
        repeat: positions of the grid, and tiles, that one task works on.
        serial: whether one task works on all tiles of a position of the grid, in order.
        tiles: further axes that are cut into tiles, with the positions of a task.
        block: positions of `tiled` that a register block has, where there are `tiles`.
    """

    grid: tuple[str, ...]
    tiled: str | None
    lanes: str | None
    lane_tile: int
    chunk: Mapping[str, int]
    bf16_dot: bool = False
    repeat: int = 1
    serial: bool = False
    tiles: Mapping[str, int] = field(default_factory=dict)
    block: int = 1

    @property
    def cut(self) -> Mapping[str, int]:
        """All axes that are cut into tiles, the one that changes fastest last."""
        tiled = {} if self.tiled is None else {self.tiled: self.lane_tile}
        return {**self.tiles, **tiled}

    def chunk_of(self, axis: str) -> int:
        """Chunk of a streamed axis."""
        return self.chunk.get(axis, DEFAULT_CHUNK)


def read_schedule(
    kernel: ir.Operation, vector_lanes: int, *, bf16_dot: bool = False
) -> CpuSchedule:
    """The `diag.schedule` of a kernel; tiles are rounded up to whole vectors, or register blocks.

    Raises:
        InternalError: there is none: select-schedule was not run.
    """
    if "diag.schedule" not in kernel.attributes:
        raise InternalError("a kernel without 'diag.schedule' reached the cpu target")
    entries = ir.DictAttr(kernel.attributes["diag.schedule"])
    grid = tuple(diag.strings(entries["grid"])) if "grid" in entries else ()
    tiled = ir.StringAttr(entries["lanes"]).value if "lanes" in entries else None
    by_lanes = "mode" not in entries or ir.StringAttr(entries["mode"]).value == "lanes"
    tile = (
        ir.IntegerAttr(entries["lane_tile"]).value if "lane_tile" in entries else DEFAULT_LANE_TILE
    )
    chunk, tiles = (_sizes(entries, name) for name in ("chunk", "tiles"))
    rounded = {k: _whole(v, vector_lanes) for k, v in chunk.items()}
    lanes = tiled if by_lanes else None
    # no tile of rows is cut into more whole blocks than it has room for
    block = _row_block(tiles, vector_lanes) if tiles else 1
    tile = _whole(tile, block if tiles else vector_lanes)
    parts = {**dict.fromkeys(grid, 1), **({tiled: tile} if tiled else {})}
    repeat = 1 if tiles else _repeat(kernel, parts)
    serial = _adds_up(kernel, grid, lanes)
    return CpuSchedule(grid, tiled, lanes, tile, rounded, bf16_dot, repeat, serial, tiles, block)


def _row_block(tiles: Mapping[str, int], lanes: int) -> int:
    """Rows of a register block for tiles of these columns."""
    (columns,) = tiles.values()
    return register_block(columns // lanes, 32 if lanes == 16 else 16)[1]


def _adds_up(kernel: ir.Operation, grid: Sequence[str], lanes: str | None) -> bool:
    """Whether a stream gives sums over the tiles of the lanes, chunk by chunk.

    Raises:
        UnsupportedError: it sums over an axis that the schedule splits in another way.
    """
    streams = [op for op in diag.walk_ops(kernel.regions[0]) if op.name == "diag.stream"]
    emitted = [op for stream in streams for op in diag.emitted_ops(stream)]
    for op in emitted:
        over = diag.strings(op.attributes["over"])
        if lanes not in over or not set(grid) <= set(diag.labels(op.results[0])):
            reason = "tasks would have to add up parts of a result"
            raise UnsupportedError(op.name, reason=reason, location=op.location)
    return bool(emitted)


def _sizes(entries: ir.DictAttr, name: str) -> dict[str, int]:
    sizes = ir.DictAttr(entries[name]) if name in entries else {}
    return {named.name: ir.IntegerAttr(named.attr).value for named in sizes}


def _repeat(kernel: ir.Operation, sizes: Mapping[str, int]) -> int:
    """How many positions make a task; `sizes`: of the axes that tasks split."""
    ops = [op.operation for op in diag.function_body(kernel).operations]
    if any(op.name == "diag.stream" for op in ops):
        return 1
    work = sum(op_flops(op, sizes) for op in ops)
    touched = [*diag.function_body(kernel).arguments, *ops[-1].operands]
    work += sum(elements(value, sizes) for value in touched)
    return min(max(LEAST_WORK // max(work, 1), 1), MOST_POSITIONS)


def _whole(size: int, lanes: int) -> int:
    return -(-size // lanes) * lanes
