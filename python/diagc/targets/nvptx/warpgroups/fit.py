"""Analysis: whether warpgroups suit a kernel; what they do not suit, tiles take."""

from collections.abc import Iterator

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.tiles.plan import ONE_ROW, Plan, Product, Staged, stage_of
from diagc.targets.nvptx.tiles.ranges import is_widened
from diagc.targets.nvptx.tiles.shared_tile import ROW_BYTES

__all__ = ["check_fit", "column_tile", "streamed_rows", "streamed_tiles"]

_DTYPES = ("f16", "bf16")
_ROW_DTYPES = ("f16", "bf16", "f32", "i1")
"""Of arrays with rows and streamed positions."""
_MOST_COLUMNS = 256
_MOST_DIMENSIONS = 5


def column_tile(plan: Plan, product: Product) -> Staged:
    """What brings the columns of a product to shared memory."""
    staged = stage_of(plan, product.columns)
    assert staged is not None, "the plan stages all columns"
    return staged


def streamed_rows(plan: Plan) -> tuple[Staged, ...]:
    """Arrays with rows and streamed positions: biases, masks."""
    streamed = (staged for staged in plan.staged if staged.streamed is not None)
    return tuple(staged for staged in streamed if plan.row in (staged.lines, staged.inner))


def streamed_tiles(plan: Plan) -> tuple[Staged, ...]:
    """Tiles that stream, in the order in which they are read.

    That is columns in the order of their products; what has rows is read behind the first product.
    """
    first, *rest = dict.fromkeys(column_tile(plan, p) for p in plan.products.values())
    return (first, *streamed_rows(plan), *rest)


def check_fit(plan: Plan) -> None:
    """Refuse a plan that warpgroups do not suit.

    Raises:
        UnsupportedError: the reason says what and where.
    """
    for op, reason in _reasons(plan):
        raise UnsupportedError(op.name, reason=f"warpgroups: {reason}", location=op.location)


def _reasons(plan: Plan) -> Iterator[tuple[ir.Operation, str]]:
    streams = plan.streams()
    if len(streams) != 1:
        yield plan.kernel, f"there are {len(streams)} streams, not one"
        return
    (stream,) = streams
    if len(stream.operands):
        yield stream, "whether the stream runs depends on its data"
    if plan.row == ONE_ROW:
        yield plan.kernel, "there is one row"
    if plan.sum_over_rows is not None:
        yield plan.sum_over_rows, "it sums over rows"
    for product in plan.products.values():
        yield from ((product.op, reason) for reason in _product_reasons(plan, product, stream))
    for staged in plan.staged:
        yield from ((plan.kernel, reason) for reason in _tile_reasons(plan, staged))


def _product_reasons(plan: Plan, product: Product, stream: ir.Operation) -> Iterator[str]:
    if product.op.parent.operation != stream:
        yield "the product is outside of the stream"
    if is_widened(product):
        yield "its rows may be beyond the range of f16"
    if product.column != plan.tiled and plan.sizes[product.column] > _MOST_COLUMNS:
        yield f"it has more than {_MOST_COLUMNS} columns"
    if column_tile(plan, product).streamed is None:
        yield "its columns do not stream"


def _tile_reasons(plan: Plan, staged: Staged) -> Iterator[str]:
    wire = plan.signature.args[staged.argument]
    rows = staged in streamed_rows(plan)
    if wire.dtype not in (_ROW_DTYPES if rows else _DTYPES):
        yield f"'{wire.name}' is {wire.dtype}"
    if wire.labels[-1] != staged.inner or not wire.unit_stride:
        yield f"neighbours along the lines of '{wire.name}' are not neighbours in memory"
    if len(wire.labels) > _MOST_DIMENSIONS:
        yield f"'{wire.name}' has more than {_MOST_DIMENSIONS} axes"
    if staged not in streamed_tiles(plan) and staged.lines != plan.row:
        yield f"'{wire.name}' is neither columns that stream nor rows"
    if rows and staged.inner == plan.row:
        yield f"lines of '{wire.name}' go along rows"
    for label in (staged.lines, staged.inner):
        split = (plan.row, staged.streamed, plan.tiled)
        if label not in split and plan.sizes[label] == diag.DYNAMIC:
            yield f"axis {label} is open"
    if staged.inner not in (staged.streamed, plan.tiled, plan.walked):
        size = plan.sizes[staged.inner] * DTYPES[wire.dtype]
        if size % ROW_BYTES:
            yield f"lines of '{wire.name}' are no multiple of {ROW_BYTES} bytes"
