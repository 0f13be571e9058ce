"""Products of matrices in tiles of rows and columns: which contractions, and the sizes of tiles.

A task makes one tile of the result. It walks the summed axis in pieces, copies the piece of the
operand with the columns into panels of a register block's width, and multiplies strips of its rows
by one panel after the other. The panel stays in the first-level cache, the strip's piece in the
second; the taller the tile, the less often panels are made.
"""

from dataclasses import dataclass

from diagc.algebra.dataflow import reduced_axes
from diagc.cost import Sizes
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = [
    *("COLUMNS", "DEPTH", "ROWS", "STRIP", "TASKS", "TILED"),
    *("ProductAxes", "product_axes", "streamed_axes", "tiled_op", "tiled_stream"),
]

TILED = "diag.tiled"
"""Marks a contraction that is computed in tiles, or a stream that has such products as states."""

ROWS, COLUMNS, DEPTH, STRIP = 528, 128, 384, 204
"""Of tiles, strips of rows and pieces of the summed axis in f32. A panel of 16 columns is 24 KiB,
three quarters of a first-level cache; a strip's piece 306 KiB, and the piece of the columns 192.
Rows are multiples of 12, which are whole register blocks of 6 and of 4."""

TASKS = 4
"""Of a core, at least: with fewer, tiles are one strip high."""

NARROWEST = 64
"""Rows, columns and summed positions below which the copies cost more than they save."""


@dataclass(frozen=True)
class ProductAxes:
    """Axes of a product of matrices.

    Args:
        rows: that tiles cut, of the operand whose elements are broadcast.
        columns: that tiles cut and vectors run along; contiguous in the result.
        summed: the one that is walked in pieces.
        others: further axes of the result, a task for each position.
    """

    rows: str
    columns: str
    summed: str
    others: tuple[str, ...]


def product_axes(op: ir.Operation, known: Sizes | None = None) -> ProductAxes | None:
    """The axes of a contraction that tiles serve well; None for any other op.

    Open axes that `known` does not tell count as long.
    """
    if op.name != "diag.contract" or len(reduced_axes(op)) != 1:
        return None
    if any(not isinstance(diag.element_type(v), ir.F32Type) for v in (*op.results, *op.operands)):
        return None
    labels = diag.labels(op.results[0])
    left, right = (set(diag.labels(value)) for value in op.operands)
    if left & right & set(labels) or not (left & set(labels) and right & set(labels)):
        return None
    with_columns = left if labels[-1] in left else right
    rows = [label for label in labels if label not in with_columns]
    found = ProductAxes(
        rows[-1],
        labels[-1],
        reduced_axes(op)[0],
        tuple(label for label in labels[:-1] if label != rows[-1]),
    )
    sizes = {**diag.join_dims(map(diag.dims, op.operands)), **(known or {})}
    cut = (found.rows, found.columns, found.summed)
    long = all(sizes[axis] == diag.DYNAMIC or sizes[axis] >= NARROWEST for axis in cut)
    return found if long else None


def tiled_op(kernel: ir.Operation) -> ir.Operation | None:
    """The contraction of a kernel that is computed in tiles, if it has one."""
    return _marked(kernel, "diag.contract")


def tiled_stream(kernel: ir.Operation) -> ir.Operation | None:
    """The stream of a kernel whose products are computed in tiles, if it has one."""
    return _marked(kernel, "diag.stream")


def _marked(kernel: ir.Operation, name: str) -> ir.Operation | None:
    ops = (op.operation for op in diag.function_body(kernel).operations)
    return next((op for op in ops if TILED in op.attributes and op.name == name), None)


def streamed_axes(stream: ir.Operation) -> ProductAxes:
    """The axes of the products of a marked stream: columns are the last axis of its results."""
    labels = diag.labels(stream.results[0])
    ops = (view.operation for view in stream.regions[1].blocks[0].operations)
    products = [op for op in ops if op.name == "diag.contract"]
    (columns,) = (set(diag.labels(x)) for x in products[0].operands if labels[-1] in diag.labels(x))
    rows = [label for label in labels if label not in columns][-1]
    return ProductAxes(
        rows,
        labels[-1],
        str(ir.StringAttr(stream.attributes["axis"]).value),
        tuple(label for label in labels[:-1] if label != rows),
    )
