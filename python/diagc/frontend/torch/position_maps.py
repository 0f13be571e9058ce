"""Maps that read positions and nothing else: slices, joins and sums of them are such maps again.

Models make masks of `arange`: they shift it, difference it, gather from it, count with it. As long
as all of that stays one expression of positions, a mask ends as a comparison of positions, which
bounds a loop; as data it would be computed, stored and read. What is no such map is refused, and
the caller goes on as for any tensor.
"""

from collections.abc import Sequence

from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import AffinePosition, MapOp, View
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.scalar import INDEX, Apply, Const, Expr, Position, is_float
from diagc.frontend.torch.simplify import apply, at_position
from diagc.frontend.torch.sizes import Size, is_one, product

__all__ = ["is_position_map", "join_positions", "move_positions"]


_CHEAP = frozenset(
    (
        *("add", "sub", "mul", "neg", "cast", "select", "and", "or", "xor", "not"),
        *("eq", "ne", "lt", "le", "gt", "ge"),
    )
)
"""Operations that every reader may do again; a table of cosines is better stored."""


def is_position_map(view: View) -> bool:
    """Whether the elements of a view follow from their positions by cheap operations."""
    op = view.value.op
    return isinstance(op, MapOp) and not op.uses and op.expr is not None and _is_cheap(op.expr)


def _is_cheap(expr: Expr) -> bool:
    if not isinstance(expr, Apply):
        return True
    return expr.name in _CHEAP and all(map(_is_cheap, expr.args))


def move_positions(
    r: Raiser,
    view: View,
    dims: Sequence[Sequence[Axis]],
    gathered: Sequence[tuple[tuple[Axis, ...], AffinePosition]],
) -> View | None:
    """A position map read at other positions along groups of its axes.

    Args:
        r: the raiser.
        view: what is read.
        dims: of the result: axes of `view` that stay, and the axes of the new positions.
        gathered: for groups of axes the position that is read along them together.

    Returns:
        None for what is no position map, or no expression of the new positions.
    """
    if not is_position_map(view):
        return None
    builder = MapBuilder(r)
    use, _ = r.use(view)
    local = {id(outer): inner for outer, inner in use.leaf_pairs()}
    expr: Expr | None = builder.inline_use(use)
    for axes, position in gathered:
        own = [local.get(id(axis), axis) for axis in leaves(axes)]
        expr = None if expr is None else at_position(expr, own, _affine(position))
    if expr is None:
        return None
    return builder.finish(expr, [[local.get(id(a), a) for a in leaves(d)] for d in dims])


def _affine(position: AffinePosition) -> Expr:
    offset: Expr = Const(INDEX, position.offset)
    if position.axis is None:
        return offset
    along = apply("mul", Position(INDEX, (position.axis,)), Const(INDEX, position.step))
    return apply("add", along, offset)


def join_positions(
    r: Raiser, views: Sequence[View], dim: int, shape: Sequence[Size]
) -> View | None:
    """Position maps behind each other along `dim`: one map that chooses and shifts by position.

    Returns:
        None where one is no such map, or where one that is not the last has an open length.
    """
    lengths = [product(axis.size for axis in view.leaves(dim)) for view in views]
    known = all(is_position_map(view) and not is_float(view.dtype) for view in views)
    known = known and all(isinstance(n, int) for n in lengths[:-1])
    if not known or is_one(shape[dim]) or 0 in lengths:
        return None
    builder, joined = MapBuilder(r), Axis(shape[dim], "n")
    place: Expr = Position(INDEX, (joined,))
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths) - 1)]
    pieces, others = [], []
    for view, start in zip(views, [0, *ends], strict=True):
        piece, dims = builder.operand(view)
        if dims[dim]:
            shifted = apply("sub", place, Const(INDEX, start))
            moved = at_position(piece, leaves(dims[dim]), shifted)
            if moved is None:
                return None
            piece = moved
        pieces.append(piece)
        others.append([[] if i == dim else d for i, d in enumerate(dims)])
    result_dims = r.broadcast(others, [1 if i == dim else size for i, size in enumerate(shape)])
    result_dims[dim] = [joined]
    expr = pieces[-1]
    for piece, end in zip(reversed(pieces[:-1]), reversed(ends), strict=True):
        expr = apply("select", apply("lt", place, Const(INDEX, end)), piece, expr)
    return builder.finish(expr, result_dims)
