"""Rules for concatenation and constant padding.

Equal pieces along the last dim, and pieces of size 1, become a map that chooses by position: rotary
halves and stacks are then elementwise, and meet the pieces that slices make. Others are joined by
`diag.concat`.
"""

from collections.abc import Sequence

import torch

from diagc.frontend.torch.aten import Node
from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import ConcatOp, PadOp, View
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.position_maps import join_positions
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.scalar import INDEX, Const, Expr, Position
from diagc.frontend.torch.simplify import apply
from diagc.frontend.torch.sizes import equal, product

__all__: list[str] = []

_MANY_PIECES = 4
"""Every position reads all pieces; with more of them a copy is cheaper."""


@rule("cat", "concat", "concatenate")
def _cat(r: Raiser, node: Node) -> View:
    views = [r.view(ref) for ref in node.args["tensors"]]
    rank = len(node.result.shape)
    views = [r.cast(v, node.result.dtype) for v in views if len(v.dims) == rank]
    dim = node.args["dim"] % rank
    known = join_positions(r, views, dim, node.result.shape) if views else None
    if known is not None:
        return known
    lengths = [product(a.size for a in v.leaves(dim)) for v in views]
    pieces = all(equal(n, lengths[0]) for n in lengths) and 1 < len(views) <= _MANY_PIECES
    if pieces and (dim == rank - 1 or equal(lengths[0], 1)):
        return _choose_piece(r, views, dim)
    view = views[0]
    for other in views[1:]:
        view = _join(r, view, other, dim)
    return view


def _choose_piece(r: Raiser, views: Sequence[View], dim: int) -> View:
    """Pieces of equal size: the piece is an axis of its own, and the position along it chooses."""
    builder = MapBuilder(r)
    read = [builder.operand(view) for view in views]
    shape = [product(a.size for a in views[0].leaves(i)) for i in range(len(views[0].dims))]
    dims = r.broadcast([d for _, d in read], shape)
    piece = Axis(len(views), "c")
    expr = read[-1][0]
    for i in range(len(views) - 2, -1, -1):
        expr = apply("select", _at(piece, i), read[i][0], expr)
    dims[dim] = [piece, *dims[dim]]
    return builder.finish(expr, dims)


def _at(axis: Axis, position: int) -> Expr:
    return apply("eq", Position(INDEX, (axis,)), Const(INDEX, position))


def _join(r: Raiser, left: View, right: View, dim: int) -> View:
    """Two views joined along `dim`."""
    first, second = left.leaves(dim), right.leaves(dim)
    if not first:
        return _put(r, _pad_dim(r, right, dim, 1, 0, 0.0), left, dim, 0)
    if not second:
        length = product(a.size for a in first)
        if not isinstance(length, int):
            raise NotRaised("one position after a dim of symbolic size")
        return _put(r, _pad_dim(r, left, dim, 0, 1, 0.0), right, dim, length)
    (use_l, dims_l), (use_r, dims_r) = r.use(r.materialize(left)), r.use(r.materialize(right))
    for i, (a, b) in enumerate(zip(dims_l, dims_r, strict=True)):
        if i != dim:
            r.space.align(a, b)
    along = tuple(leaves(dims_l[dim])), tuple(leaves(dims_r[dim]))
    sizes = [product(a.size for a in axes) for axes in along]
    joined = Axis(sizes[0] + sizes[1], along[0][0].hint)
    op = ConcatOp([use_l, use_r], along=along, joined=joined)
    dims = [[joined] if i == dim else leaves(d) for i, d in enumerate(dims_l)]
    return r.add_value(op, tuple(a for d in dims for a in d), dims, left.dtype)


def _put(r: Raiser, padded: View, piece: View, dim: int, position: int) -> View:
    """A padded view with a piece of size 1 at one position."""
    builder = MapBuilder(r)
    read = [builder.operand(view) for view in (padded, piece)]
    shape = [product(a.size for a in padded.leaves(i)) for i in range(len(padded.dims))]
    dims = r.broadcast([d for _, d in read], shape)
    here = apply("eq", Position(INDEX, tuple(dims[dim])), Const(INDEX, position))
    return builder.finish(apply("select", here, read[1][0], read[0][0]), dims)


@rule("constant_pad_nd")
def _pad(r: Raiser, node: Node) -> View:
    view, amounts = r.view(node.args["self"]), node.args["pad"]
    if not all(isinstance(a, int) for a in amounts):
        raise NotRaised("symbolic padding")
    rank = len(view.dims)
    for i in range(len(amounts) // 2):
        low, high = amounts[2 * i], amounts[2 * i + 1]
        if low or high:
            view = _pad_dim(r, view, rank - 1 - i, low, high, float(node.args["value"]))
    return view


def _pad_dim(r: Raiser, view: View, dim: int, low: int, high: int, fill: float) -> View:
    length = product(a.size for a in view.leaves(dim))
    if low < 0 or high < 0 or not isinstance(length, int) or length == 1:
        raise NotRaised("padding that crops, or padding of a dim of symbolic size or of size 1")
    if view.dtype == torch.bool:
        raise NotRaised("padding of booleans")
    use, dims = r.use(r.materialize(view))
    axes = tuple(leaves(dims[dim]))
    padded = Axis(length + low + high, axes[0].hint)
    op = PadOp([use], axes=axes, padded=padded, low=low, high=high, fill=fill)
    new_dims = [[padded] if i == dim else leaves(d) for i, d in enumerate(dims)]
    return r.add_value(op, tuple(a for d in new_dims for a in d), new_dims, view.dtype)
