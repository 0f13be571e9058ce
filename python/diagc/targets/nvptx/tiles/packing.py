"""Several positions of an axis that keys do not have, side by side as rows of a block.

Queries of heads that share their keys are rows of one product. Where an axis of a few positions is
not an axis of any columns, a block takes all of them, with a part of its rows for each: its columns
are read once for all, and few rows fill a tile. Row i of a block is then position i // n of that
axis and position i % n of the axis of rows, where n is `TileSchedule.row_extent`.

Rows that are too long for shared memory are not kept while a stream runs: the product that sums
over them walks that axis in pieces of `TileSchedule.depth`, of rows and columns together, for every
chunk of the stream.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.targets.nvptx.tiles.plan import Plan, Product, stage_of, trace

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["pack", "packed_positions", "walked_product"]

_COUNTS = (2, 4, 8, 16)
_LEAST_ROWS = 8  # the lines of a pattern of shared memory, and of a slot


def packed_positions(plan: Plan, rows: int) -> int:
    """How many positions of an axis the rows of a block may hold, 1 where there is no such axis."""
    label = _packable(plan)
    count = 1 if label is None else plan.sizes[label]
    return count if rows % (count * _LEAST_ROWS) == 0 else 1


def pack(plan: Plan, schedule: "TileSchedule") -> Plan:
    """The plan of a schedule: what it packs is not split by the grid, rows that it walks stream.

    Raises:
        UnsupportedError: the schedule packs what cannot be packed.
    """
    product = walked_product(plan) if schedule.depth else None
    if product is not None:
        found = replace(plan, walked=product.inner)
        fixed, rows = stage_of(plan, product.rows), stage_of(found, product.rows)
        assert fixed is not None
        assert rows is not None, "the rows of a product that is walked are an argument"
        staged = tuple(rows if each == fixed else each for each in plan.staged)
        plan = replace(found, staged=staged)
    if schedule.packed == 1:
        return plan
    label = _packable(plan)
    if label is None or plan.sizes[label] != schedule.packed:
        reason = f"tiles: no axis has {schedule.packed} positions that may be side by side"
        raise UnsupportedError(plan.kernel.name, reason=reason, location=plan.kernel.location)
    return replace(plan, packed=label, grid=tuple(x for x in plan.grid if x != label))


def walked_product(plan: Plan) -> Product | None:
    """The one product of a stream, if its rows are an argument that nothing else reads."""
    products = list(plan.products.values())
    if len(products) != 1 or plan.tiled is not None:
        return None
    (product,) = products
    rows = stage_of(plan, product.rows)
    alone = isinstance(product.rows.owner, ir.Block) and len(list(product.rows.uses)) == 1
    own = (rows, stage_of(plan, product.columns))
    alone = alone and all(each in own for each in plan.staged)
    streams = product.op.parent.operation.name == "diag.stream" and product.column in plan.streamed
    widths = [diag.element_type(value).width for value in (product.rows, product.columns)]
    fits = rows is not None and rows.streamed is None and trace(product.rows) is not None
    return product if fits and alone and streams and widths == [16, 16] else None


def _packable(plan: Plan) -> str | None:
    """The innermost axis of the grid that no columns have, of a suitable number of positions.

    None where rows lie along lines of shared memory: each head's would begin inside of a line.
    """
    if any(staged.inner == plan.row for staged in plan.staged):
        return None
    columns = {x for product in plan.products.values() for x in diag.labels(product.columns)}
    found = [x for x in plan.grid if plan.sizes[x] in _COUNTS and x not in columns]
    return found[-1] if found else None
