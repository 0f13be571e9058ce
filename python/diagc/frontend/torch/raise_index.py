"""Rule for indexing by tensors: where every index counts positions, it only moves dims about.

Where that of the last dim does not, it picks an element of each row, `logits[arange(n), labels]`.
Models for tracers read a padding mask as `mask[arange(b)[:, None, None, None], arange(n)]`.
"""

from collections.abc import Mapping, Sequence

from diagc.frontend.torch.aten import Node
from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import MapOp, View
from diagc.frontend.torch.picked import check_picked, checked_labels, class_count, picked
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.scalar import Apply, Position, is_const
from diagc.frontend.torch.sizes import Size, equal, product

__all__: list[str] = []


@rule("index")
def _index(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    indices = {i: r.view(ref) for i, ref in enumerate(node.args["indices"]) if ref is not None}
    wide = {dim: index for dim, index in indices.items() if not _is_first(index, view.leaves(dim))}
    last = len(view.dims) - 1
    picks = len(indices) == last + 1 and last in wide and not _counts(wide[last])
    if picks:
        check_picked(view)
        del wide[last]
    places = {dim: _counted_dim(index, view.leaves(dim)) for dim, index in wide.items()}
    if len(set(places.values())) < len(places):
        raise NotRaised("a diagonal")
    rank = max(len(index.dims) for index in indices.values())
    kept: list[Sequence[Axis]] = [d for i, d in enumerate(view.dims) if i not in indices]
    first = _first_place(sorted(indices))
    shape = node.result.shape[first : first + rank]
    by_place = {place: view.leaves(dim) for dim, place in places.items()}
    if picks:
        rows = view.with_dims([*_indexed(r, by_place, shape), view.dims[last]])
        classes = class_count(view, last)
        return picked(
            r, rows, checked_labels(r, node, node.args["indices"][last], classes, 0), classes
        )
    return view.with_dims([*kept[:first], *_indexed(r, by_place, shape), *kept[first:]])


def _counts(index: View) -> bool:
    op = index.value.op
    return isinstance(op, MapOp) and op.expr is not None and not op.uses


def _is_first(index: View, source: Sequence[Axis]) -> bool:
    """Whether the index is 0 throughout, for a dim of size 1."""
    op = index.value.op
    return not source and isinstance(op, MapOp) and op.expr is not None and is_const(op.expr, 0)


def _counted_dim(index: View, source: Sequence[Axis]) -> int:
    """The dim, from the end, whose positions the index counts through all of `source`.

    Raises:
        NotRaised: any other index.
    """
    op = index.value.op
    expr = op.expr if isinstance(op, MapOp) else None
    if isinstance(expr, Apply) and expr.name == "cast":
        (expr,) = expr.args
    if not isinstance(expr, Position):
        raise NotRaised("indices that are more than positions")
    counted = [id(a) for a in leaves(expr.axes)]
    for place in range(-len(index.dims), 0):
        if [id(a) for a in index.leaves(place)] == counted:
            if equal(product(a.size for a in leaves(expr.axes)), product(a.size for a in source)):
                return place
            raise NotRaised("indices that count through a part of an axis")
    raise NotRaised("indices that count through several dims")


def _first_place(dims: Sequence[int]) -> int:
    """Where torch puts the dims of the indices: where they were, or first if others are between."""
    together = dims[-1] - dims[0] == len(dims) - 1
    return dims[0] if together else 0


def _indexed(
    r: Raiser, by_place: Mapping[int, Sequence[Axis]], shape: Sequence[Size]
) -> list[Sequence[Axis]]:
    """The dims of the indices, with broadcast axes where no index counts."""
    places = range(-len(shape), 0)
    return [
        by_place[place] if place in by_place else r.space.make(size)
        for place, size in zip(places, shape, strict=True)
    ]
