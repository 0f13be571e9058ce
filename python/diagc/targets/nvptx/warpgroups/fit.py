"""Analysis: whether warpgroups suit a kernel; what they do not suit, tiles take."""

from collections.abc import Iterator

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.runtime.gpu_kernel import MAX_DIMENSIONS
from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.tiles.plan import (
    ONE_ROW,
    Plan,
    Product,
    Staged,
    array_ops,
    read_wires,
    stage_of,
    trace,
)
from diagc.targets.nvptx.tiles.ranges import is_widened
from diagc.targets.nvptx.tiles.shared_tile import ROW_BYTES

__all__ = [
    *("PITCHES", "check_fit", "column_tile", "is_turned"),
    *("streamed_rows", "streamed_tiles"),
]

PITCHES = (ROW_BYTES, ROW_BYTES // 2, ROW_BYTES // 4)
"""Bytes of a line in shared memory; lines of arrays are multiples of the last one."""

_DTYPES = ("f16", "bf16", "f8E4M3FN")
_ROW_DTYPES = ("f16", "bf16", "f32", "i1")
"""Of arrays with rows and streamed positions."""
_MOST_COLUMNS = 256


def column_tile(plan: Plan, product: Product) -> Staged:
    """What brings the columns of a product to shared memory."""
    staged = stage_of(plan, product.columns)
    assert staged is not None, "the plan stages all columns"
    return staged


def is_turned(plan: Plan, product: Product) -> bool:
    """Whether columns of f8 stand across k in memory, but go along it in the product."""
    found = trace(product.columns)
    assert found is not None, "the plan stages all columns"
    is_float8 = diag.is_stored_float(diag.element_type(product.columns))
    return is_float8 and found[1][product.inner] != column_tile(plan, product).inner


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
    for op in array_ops(plan.kernel):
        if op.name == "diag.map" and any(_is_float8_tile(plan, x) for x in read_wires(op)):
            yield op, "it reads rows of f8"


def _is_float8_tile(plan: Plan, value: ir.Value) -> bool:
    return diag.is_stored_float(diag.element_type(value)) and stage_of(plan, value) is not None


def _product_reasons(plan: Plan, product: Product, stream: ir.Operation) -> Iterator[str]:
    if product.op.parent.operation != stream:
        yield "the product is outside of the stream"
    if diag.is_stored_float(diag.element_type(product.columns)):
        yield from _float8_reasons(plan, product)
    elif is_widened(product):
        yield "its rows may be beyond the range of f16"
    if product.column != plan.tiled and plan.sizes[product.column] > _MOST_COLUMNS:
        yield f"it has more than {_MOST_COLUMNS} columns"
    if column_tile(plan, product).streamed is None:
        yield "its columns do not stream"


def _float8_reasons(plan: Plan, product: Product) -> Iterator[str]:
    """Instructions for f8 take both operands along k; what streams may be turned."""
    if "mul" not in product.op.attributes:
        yield "products with f8 are asked to be as precise as those of f16"
    if is_turned(plan, product) and product.inner not in plan.streamed:
        yield f"columns of f8 are not along {product.inner} in memory"
    is_array = trace(product.rows) is not None
    if product.inner not in plan.streamed and not is_array:
        yield "rows that stay are computed, not of f8"
    if is_array and not diag.is_stored_float(diag.element_type(product.rows)):
        yield "rows are an array of another type than f8"


def _tile_reasons(plan: Plan, staged: Staged) -> Iterator[str]:
    wire = plan.signature.args[staged.argument]
    rows = staged in streamed_rows(plan)
    if wire.dtype not in (_ROW_DTYPES if rows else _DTYPES):
        yield f"'{wire.name}' is {wire.dtype}"
    if wire.labels[-1] != staged.inner or not wire.unit_stride:
        yield f"neighbours along the lines of '{wire.name}' are not neighbours in memory"
    if len(wire.labels) > MAX_DIMENSIONS:
        yield f"'{wire.name}' has more than {MAX_DIMENSIONS} axes"
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
        if size % PITCHES[-1]:
            yield f"lines of '{wire.name}' are no multiple of {PITCHES[-1]} bytes"
