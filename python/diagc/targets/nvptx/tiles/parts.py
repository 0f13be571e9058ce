"""Analysis: whether blocks may share a stream, and what a part of it keeps."""

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING

from diagc.cost import UNKNOWN_SIZE
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.runtime.factors import Factor
from diagc.runtime.sharing import Sharing
from diagc.targets.nvptx.threads.parts import yielded
from diagc.targets.nvptx.tiles.plan import ONE_ROW, Plan

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = [
    *("blocks_of_rows", "least_summed", "part_elements", "sharing_of", "sizes_with"),
    "splittable",
]

_LEAST_ELEMENTS = 4096
_LAUNCH_ELEMENTS = 64 * 1024
"""What one multiprocessor reads in the time of a launch: 256 KiB of f32 in 4 us, as 132 of them
share the 9 TB/s of an H200's second level. Smaller states have too few parts."""


def splittable(plan: Plan) -> ir.Operation | None:
    """The one stream of a kernel, if its axis may be split: states of f32 that can be joined."""
    streams = plan.streams()
    if len(streams) != 1 or len(streams[0].operands) or plan.tiled is not None:
        return None
    (op,) = streams
    states = op.regions[1].blocks[0].arguments
    floats = all(str(diag.element_type(state)) == "f32" for state in states)
    return (
        op if floats and len(op.regions[2].blocks) and op.regions[2].blocks[0].arguments else None
    )


def part_elements(plan: Plan, warps: int, row_blocks: int) -> int:
    """Elements of all states of a part, in the registers of a block."""
    op = splittable(plan)
    assert op is not None
    count = 0
    for state in op.regions[1].blocks[0].arguments:
        rows, column = plan.shape(state)
        wide = 2 * (-(-plan.sizes[column] // 16) * 2) if column is not None else 1
        count += wide * (2 * row_blocks if rows else 1)
    return count * 32 * warps


def least_summed(plan: Plan, schedule: "TileSchedule") -> int:
    """The number of parts from which on a launch of its own adds them up; 0 where none does.

    A block that joins parts reads all of its states through one multiprocessor, and few blocks do.
    States that are sums are added slot by slot, in any blocks: where all multiprocessors do that
    before, one part is left to be joined. With P parts on all places of the device, B of them on a
    multiprocessor, that saves the time of P - 1 - B parts, and costs a launch.
    """
    op = splittable(plan)
    elements = part_elements(plan, schedule.warps, schedule.row_blocks)
    if op is None or elements < _LEAST_ELEMENTS or not _adds_up(op):
        return 0
    return 1 + schedule.blocks_per_sm + ceil(_LAUNCH_ELEMENTS / elements)


def _adds_up(stream: ir.Operation) -> bool:
    """Whether every state of two parts together is the sum of both, element by element."""
    block = stream.regions[2].blocks[0]
    states = list(block.arguments)
    half = len(states) // 2
    joined = yielded(block)
    return all(
        _is_sum(value, states[number], states[half + number]) for number, value in enumerate(joined)
    )


def _is_sum(value: ir.Value, first: ir.Value, second: ir.Value) -> bool:
    if isinstance(value.owner, ir.Block) or value.owner.operation.name != "diag.map":
        return False
    *inner, end = (op.operation for op in value.owner.operation.regions[0].blocks[0].operations)
    elements = {op.results[0]: op.operands[0] for op in inner if op.name == "diag.element"}
    (total,) = end.operands
    if isinstance(total.owner, ir.Block) or total.owner.operation.name != "arith.addf":
        return False
    terms = [elements.get(operand) for operand in total.owner.operation.operands]
    return terms in ([first, second], [second, first])


def sizes_with(plan: Plan, sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes of all axes; of open ones as given, where nothing is given a usual one."""
    return {
        label: sizes.get(label, UNKNOWN_SIZE) if size == diag.DYNAMIC else size
        for label, size in plan.sizes.items()
    }


def blocks_of_rows(plan: Plan, schedule: "TileSchedule") -> tuple[Factor, ...]:
    """One block per tile of rows, tile of columns and position of the grid's axes."""
    rows: Factor = 1 if plan.row == ONE_ROW else (plan.row, schedule.row_extent)
    columns: list[Factor] = [] if plan.tiled is None else [(plan.tiled, schedule.columns)]
    return (rows, *columns, *reversed(plan.grid))


def sharing_of(plan: Plan, schedule: "TileSchedule") -> Sharing:
    """How the blocks of a schedule share the stream; `plan` is packed as it says."""
    (axis,) = plan.streamed
    blocks = blocks_of_rows(plan, schedule)
    return Sharing(axis, schedule.chunk, schedule.split, blocks, schedule.blocks_per_sm)
