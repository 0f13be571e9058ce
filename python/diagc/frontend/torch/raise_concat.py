"""Rules for concatenation and constant padding."""

from diagc.frontend.torch.aten import Node
from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import ConcatOp, PadOp, View
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.sizes import Size, product

__all__: list[str] = []


@rule("cat", "concat", "concatenate")
def _cat(r: Raiser, node: Node) -> View:
    views = [r.view(ref) for ref in node.args["tensors"]]
    rank = len(node.result.shape)
    views = [r.cast(v, node.result.dtype) for v in views if len(v.dims) == rank]
    dim = node.args["dim"] % rank
    view = views[0]
    for other in views[1:]:
        view = _join(r, view, other, dim)
    return view


def _join(r: Raiser, left: View, right: View, dim: int) -> View:
    """Two views joined along `dim`, each made to have one axis there."""
    left, right = _with_axis(r, left, dim), _with_axis(r, right, dim)
    (use_l, dims_l), (use_r, dims_r) = r.use(left), r.use(right)
    for i, (a, b) in enumerate(zip(dims_l, dims_r, strict=True)):
        if i != dim:
            r.space.align(a, b)
    (first,), (second,) = leaves(dims_l[dim]), leaves(dims_r[dim])
    joined = Axis(_sum(first.size, second.size), first.hint)
    op = ConcatOp([use_l, use_r], along=(first, second), joined=joined)
    dims = [[joined] if i == dim else leaves(d) for i, d in enumerate(dims_l)]
    return r.add_value(op, tuple(a for d in dims for a in d), dims, left.dtype)


def _with_axis(r: Raiser, view: View, dim: int) -> View:
    axes = view.leaves(dim)
    if len(axes) > 1:
        raise NotRaised("a concatenation along a dim that is split elsewhere")
    if not axes:
        raise NotRaised("a concatenation of dims of size 1")
    return r.materialize(view)


def _sum(left: Size, right: Size) -> Size:
    return left + right


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
    axes = view.leaves(dim)
    if low < 0 or high < 0 or len(axes) != 1 or not isinstance(product([axes[0].size]), int):
        raise NotRaised("padding that crops, or padding of a split dim or one of size 1")
    use, dims = r.use(r.materialize(view))
    (axis,) = leaves(dims[dim])
    padded = Axis(axis.size + low + high, axis.hint)
    op = PadOp([use], axis=axis, padded=padded, low=low, high=high, fill=fill)
    new_dims = [[padded] if i == dim else leaves(d) for i, d in enumerate(dims)]
    return r.add_value(op, tuple(a for d in new_dims for a in d), new_dims, view.dtype)
