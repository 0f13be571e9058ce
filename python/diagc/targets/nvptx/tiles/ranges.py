"""Which products would lose numbers in f16: their rows may be beyond its range."""

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.nvptx.tiles.plan import Product

__all__ = ["is_widened"]


def is_widened(product: Product) -> bool:
    """Whether a product with columns of f16, or of f8, which become f16, is one in tf32.

    f16 holds 6e-8 to 65504. Rows of a wider type fit if they are exponentials of differences from
    a maximum: in [0, 1], and what is far below 1 is lost in their sum, too.
    """
    columns, rows = (str(diag.element_type(x)) for x in (product.columns, product.rows))
    narrow = ("f8E4M3FN", "f16")
    return columns in narrow and rows not in narrow and not _in_unit_range(product.rows)


def _in_unit_range(wire: ir.Value) -> bool:
    """Whether all elements are such exponentials, or 0."""
    owner = wire.owner
    if isinstance(owner, ir.Block) or owner.operation.name != "diag.map":
        return False
    body = [view.operation for view in owner.operation.regions[0].blocks[0].operations]
    return _is_small(body[-1].operands[0])


def _is_small(scalar: ir.Value) -> bool:
    op = scalar.owner.operation
    if op.name == "math.exp":
        return "diag.nonpositive" in op.attributes
    if op.name == "diag.element":
        return _in_unit_range(op.operands[0])
    if op.name == "arith.select":
        return all(_is_small(branch) for branch in list(op.operands)[1:])
    if op.name in ("arith.truncf", "arith.extf"):
        return _is_small(op.operands[0])
    return op.name == "arith.constant" and float(ir.FloatAttr(op.attributes["value"]).value) == 0.0
