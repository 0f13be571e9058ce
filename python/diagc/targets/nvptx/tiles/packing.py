"""Several positions of an axis that keys do not have, side by side as rows of a block.

Queries of heads that share their keys are rows of one product. Where an axis of a few positions is
not an axis of any columns, a block takes all of them, with a part of its rows for each: its columns
are read once for all, and few rows fill a tile. Row i of a block is then position i // n of that
axis and position i % n of the axis of rows, where n is `TileSchedule.row_extent`.
"""

from dataclasses import replace

from diagc.dialects import diag
from diagc.targets.nvptx.tiles.plan import Plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["pack", "packed_positions"]

_COUNTS = (2, 4, 8, 16)
_LEAST_ROWS = 8  # the lines of a pattern of shared memory, and of a slot


def packed_positions(plan: Plan, rows: int) -> int:
    """How many positions of an axis the rows of a block may hold, 1 where there is no such axis."""
    label = _packable(plan)
    count = 1 if label is None else plan.sizes[label]
    return count if rows % (count * _LEAST_ROWS) == 0 else 1


def pack(plan: Plan, schedule: TileSchedule) -> Plan:
    """The plan of a schedule: what it packs is not split by the grid."""
    if schedule.packed == 1:
        return plan
    label = _packable(plan)
    return replace(plan, packed=label, grid=tuple(x for x in plan.grid if x != label))


def _packable(plan: Plan) -> str | None:
    """The innermost axis of the grid that no columns have, of a suitable number of positions."""
    columns = {x for product in plan.products.values() for x in diag.labels(product.columns)}
    found = [x for x in plan.grid if plan.sizes[x] in _COUNTS and x not in columns]
    return found[-1] if found else None
