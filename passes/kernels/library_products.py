"""Which products inside streams are the library's: large ones, that it multiplies in blocks.

A stream computes contractions of its chunks in the registers of a kernel, or hands them to the
library a block at a time. The first never writes the product, the second is faster where a product
is deep: 8192 x 512 by 512 x 32768 in f32 takes 3.1 s in a kernel and 1.9 s in blocks on two cores
of a Zen 2 (docs/decisions.md), and writing and reading a block costs less the deeper the product.
"""

from diagc.algebra.dataflow import reduced_axes
from diagc.cost import Sizes, elements
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["LIBRARY", "WALKED", "is_library", "is_library_product", "is_widening"]

LIBRARY = "diag.library"
"""Marks a contraction that stays the library's: no kernel and no stream takes it."""

WALKED = "diag.walked"
"""Marks a stream whose product is too deep for its rows to stay in a task: these are a wire."""

SHALLOWEST = 512
"""Products of fewer summed positions are as fast in a kernel, where nothing of them is stored:
1000 x 320 by 320 x 10007 with its loss, on two cores of a Zen 2, is a fifth faster there."""

NARROWEST = 256
"""Rows and columns below which the library is no faster than a kernel."""

SMALLEST = 1 << 30
"""FLOPs below which a product is no more than a few launches long."""

WIDEST_MATRIX = 128
"""Rows and columns of a matrix that the tensor cores of one block of threads make or apply."""


def is_library(op: ir.Operation) -> bool:
    """Whether an op is a contraction that was left to the library."""
    return LIBRARY in op.attributes


def is_widening(op: ir.Operation) -> bool:
    """Whether a contraction has a wider type than an operand, and makes or applies a small matrix.

    The library multiplies one type: it would first write a copy of each narrow operand.
    """
    wires = (*op.results, *op.operands)
    result, *operands = (diag.element_type(value).width for value in wires)
    if op.name != "diag.contract" or min(operands) >= result:
        return False
    batch = set.intersection(*(set(diag.labels(value)) for value in wires))
    shapes = ([n for x, n in diag.dims(value).items() if x not in batch] for value in wires)
    static = [shape for shape in shapes if diag.DYNAMIC not in shape]
    return any(max(shape, default=1) <= WIDEST_MATRIX for shape in static)


def is_library_product(op: ir.Operation, known: Sizes | None = None) -> bool:
    """Whether a contraction of the body of a stream, or before it, is faster in the library.

    It is when it is one matrix product (a batch of small ones is not), deep, and large. Open axes
    that `known` does not tell count as long.
    """
    left, right = (set(diag.labels(value)) for value in op.operands)
    summed = set(reduced_axes(op))
    if op.name != "diag.contract" or not summed or (left & right) - summed:
        return False
    sizes = {axis: size for axis, size in diag.dims(op.operands[0]).items() if axis in summed}
    depth = elements(sizes, known)
    rows, columns = (
        elements({x: n for x, n in diag.dims(value).items() if x not in summed}, known)
        for value in op.operands
    )
    if min(rows, columns) < NARROWEST or depth < SHALLOWEST:
        return False
    both = diag.join_dims(map(diag.dims, op.operands))
    is_open = any(n == diag.DYNAMIC and x not in (known or {}) for x, n in both.items())
    return is_open or 2 * depth * rows * columns >= SMALLEST
