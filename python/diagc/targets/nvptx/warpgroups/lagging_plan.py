"""Analysis: which products of a stream a chunk begins with, and which may lag a chunk behind."""

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.nvptx.tiles.plan import Plan, Product
from diagc.targets.nvptx.warpgroups.fit import column_tile

__all__ = ["early_products", "lagging_products", "late_products"]


def early_products(plan: Plan) -> list[Product]:
    """Products of rows that stay, of columns that no other product reads."""
    if plan.walked is not None:
        return []
    late = late_products(plan)
    tiles = {column_tile(plan, product) for product in late}
    others = (product for product in plan.products.values() if product not in late)
    return [product for product in others if column_tile(plan, product) not in tiles]


def late_products(plan: Plan) -> list[Product]:
    """Products of rows that are made in the stream."""
    return [product for product in plan.products.values() if _is_late(product)]


def _is_late(product: Product) -> bool:
    stream, owner = product.op.parent, product.rows.owner
    assert stream is not None, "products are inside of the stream"
    if isinstance(owner, ir.Block):
        return bool(owner == product.op.block)
    return any(owner.operation.block == block for block in stream.operation.regions[1].blocks)


def lagging_products(plan: Plan) -> dict[int, Product]:
    """Products of rows made in the stream, by the number of the state that each is added to.

    Nothing lags where a product is not added to a state, or is read by anything else, where its
    sums are scaled before they are added (f8), or where no product comes first.
    """
    late = late_products(plan)
    scaled = any(diag.is_stored_float(diag.element_type(product.columns)) for product in late)
    if not late or scaled or not early_products(plan):
        return {}
    block = late[0].op.block
    yields = [view.operation for view in block.operations if view.operation.name == "diag.yield"]
    handed = [value for each in yields for value in each.operands]
    found: dict[int, Product] = {}
    for product in late:
        added = _sum_of(product)
        if added is None or added not in handed or handed.index(added) in found:
            return {}
        found[handed.index(added)] = product
    return found


def _sum_of(product: Product) -> ir.Value | None:
    """The value x + product, if nothing else reads the product, and one op what it gives."""
    wire = product.op.results[0]
    uses = list(wire.uses)
    if len(uses) != 1 or uses[0].owner.name != "diag.element":
        return None
    element = uses[0].owner
    parent = element.parent
    if parent is None or len(list(element.results[0].uses)) != 1:
        return None
    op = parent.operation
    result = op.results[0]
    same = set(diag.labels(wire)) == set(diag.labels(result))
    ends = _ends_with(op, element.results[0])
    alone = len(list(result.uses)) == 1 and str(diag.element_type(result)) == "f32"
    return result if same and ends and alone else None


def _ends_with(op: ir.Operation, term: ir.Value) -> bool:
    """Whether a map gives a sum with a term."""
    *_, last = op.regions[0].blocks[0].operations
    owner = last.operation.operands[0].owner
    return owner.operation.name == "arith.addf" and term in list(owner.operation.operands)
