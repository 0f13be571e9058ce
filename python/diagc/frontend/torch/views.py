"""Rules for views: they group and split axes anew and add no ops, but for selects and slices."""

from collections.abc import Sequence
from typing import Any

from diagc.frontend.torch.aten import Node
from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import AffinePosition, InputOp, ReindexOp, Use, View
from diagc.frontend.torch.position_maps import is_position_map, move_positions
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.sizes import Size, equal, is_one, product
from diagc.frontend.torch.unstreamable import failing_law

__all__ = ["permuted"]

_MANY_PIECES = 8
"""With more equal pieces than this, slices are shifted views and do not split the axis."""


def permuted(view: View, order: Sequence[int]) -> View:
    """The view with its dims in another order; negative positions count from the end."""
    return view.with_dims([view.dims[i % len(view.dims)] for i in order])


@rule("clone", "contiguous", "alias", "detach", "lift_fresh", "lift_fresh_copy", "positive")
@rule("expand_copy", "view_as_real_copy", "resolve_conj", "resolve_neg", "detach_copy")
def _same(r: Raiser, node: Node) -> View:
    return r.view(node.args["self"])


@rule("dropout", "feature_dropout", "alpha_dropout")
def _dropout(r: Raiser, node: Node) -> View:
    if node.args["train"] and node.args["p"] > 0:
        raise NotRaised(f"{failing_law(node.packet)}; call eval() to compile it away")
    return r.view(node.args["input"])


@rule("native_dropout")
def _native_dropout(r: Raiser, node: Node) -> Sequence[View]:
    if node.args["train"] and node.args["p"] > 0:
        raise NotRaised(f"{failing_law(node.packet)}; call eval() to compile it away")
    raise NotRaised("the mask of an inactive dropout")


@rule("transpose", "swapaxes", "swapdims")
def _transpose(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    dims, i, j = list(view.dims), *list(node.args.values())[1:3]
    if dims:
        dims[i], dims[j] = dims[j], dims[i]
    return view.with_dims(dims)


@rule("t", "numpy_T", "mT", "matrix_H", "mH", "adjoint")
def _reverse(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    rank = len(view.dims)
    if node.packet in ("aten.t", "aten.numpy_T"):
        return permuted(view, range(rank - 1, -1, -1))
    return permuted(view, [*range(rank - 2), rank - 1, rank - 2])


@rule("permute")
def _permute(r: Raiser, node: Node) -> View:
    return permuted(r.view(node.args["self"]), node.args["dims"])


@rule("movedim", "moveaxis")
def _movedim(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    rank = len(view.dims)
    source, target = ([d % rank for d in _as_list(a)] for a in list(node.args.values())[1:3])
    order = [i for i in range(rank) if i not in source]
    for place, dim in sorted(zip(target, source, strict=True)):
        order.insert(place, dim)
    return permuted(view, order)


def _as_list(value: Any) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


@rule("unsqueeze")
def _unsqueeze(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    dims, place = list(view.dims), node.args["dim"] % (len(view.dims) + 1)
    return view.with_dims([*dims[:place], (), *dims[place:]])


@rule("squeeze", "prims.squeeze")
def _squeeze(r: Raiser, node: Node) -> View:
    view = r.view(node.args.get("self", node.args.get("a")))
    rank = len(view.dims)
    named = node.get("dim", node.get("dimensions"))
    dims = {d % rank for d in (range(rank) if named is None else _as_list(named))}
    kept = [d for i, d in enumerate(view.dims) if i not in dims or leaves(d)]
    return view.with_dims(kept)


@rule("expand", "expand_as", "broadcast_to")
def _expand(r: Raiser, node: Node) -> View:
    view, shape = r.view(node.args["self"]), node.result.shape
    missing = len(shape) - len(view.dims)
    dims: list[Sequence[Axis]] = []
    for i, size in enumerate(shape):
        present = view.leaves(i - missing) if i >= missing else []
        dims.append(present or r.space.make(size))
    return view.with_dims(dims)


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "_reshape_alias", "view_copy")
@rule("reshape_as", "view_as", "ravel", "flatten_dense_tensors")
def _reshape(r: Raiser, node: Node) -> View:
    if "dtype" in node.args:
        raise NotRaised("a view of the same bytes under another dtype")
    view = r.view(node.args["self"])
    axes = [a for dim in view.dims for a in leaves(dim)]
    target = [r.space.make(size, hint) for size, hint in _hinted(axes, node.result.shape)]
    groups = iter(r.space.regroup(axes, [t[0] for t in target if t]))
    return view.with_dims([next(groups) if t else [] for t in target])


def _hinted(axes: Sequence[Axis], shape: Sequence[Size]) -> list[tuple[Size, str]]:
    """Names for the dims of a reshape: features that split are components, heads, features."""
    wide = [i for i, size in enumerate(shape) if not is_one(size)]
    hints = [""] * len(shape)
    new = len(wide) - len(axes)
    if axes and new > 0:
        few = shape[wide[-2]] in (2, 3)
        hints[wide[-2]] = "c" if few else "h"
    if new > 1:
        hints[wide[-3]] = "c"
    return list(zip(shape, hints, strict=True))


@rule("select")
def _select(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    dim = node.args["dim"] % len(view.dims)
    fixed = _digits(view.leaves(dim), node.args["index"])
    dims = [d for i, d in enumerate(view.dims) if i != dim]
    return _fix(r, view, dims, fixed)


def _digits(axes: Sequence[Axis], index: Any) -> list[tuple[Axis, int]]:
    """The position along each axis that the flat `index` stands for."""
    if not isinstance(index, int):
        raise NotRaised("the index is not a literal")
    size = product(a.size for a in axes)
    if not isinstance(size, int) and (index < 0 or len(axes) > 1):
        raise NotRaised("an index from the end of a dim of symbolic size")
    index = index if index >= 0 else index + size
    found = []
    for axis in reversed(axes):
        found.append((axis, index % axis.size if isinstance(axis.size, int) else index))
        index = index // axis.size if isinstance(axis.size, int) else 0
    return found[::-1]


def _fix(
    r: Raiser, view: View, dims: Sequence[Sequence[Axis]], fixed: Sequence[tuple[Axis, int]]
) -> View:
    """Fix positions along axes that no longer occur in `dims`."""
    carried = {id(a) for a in view.value.leaves()}
    gathered = [((a,), AffinePosition(offset=i)) for a, i in fixed if id(a) in carried]
    return _reindex(r, view, dims, gathered) if gathered else view.with_dims(dims)


def _reindex(
    r: Raiser,
    view: View,
    dims: Sequence[Sequence[Axis]],
    gathered: Sequence[tuple[tuple[Axis, ...], AffinePosition]],
) -> View:
    """A gather along groups of the value's axes; all other axes stay.

    `dims` of the result consist of axes that stay and of the new axes of the positions.
    """
    known = move_positions(r, view, dims, gathered)
    if known is not None:
        return known
    twins = {id(a): r.space.twin(a) for a in view.value.leaves()}
    moved = {id(a) for axes, _ in gathered for a in axes}
    kept = {key: twin for key, twin in twins.items() if key not in moved}
    new = {id(p.axis): p.axis for _, p in gathered if p.axis is not None}
    source = [(tuple(twins[id(a)] for a in axes), p) for axes, p in gathered]
    source += [((twin,), AffinePosition(axis=twin)) for twin in kept.values()]
    pairs = tuple((a, twins[id(a)]) for a in view.value.leaves())
    op = ReindexOp([Use(view.value, pairs)], source=tuple(source))
    found = {**kept, **new}
    axes = tuple(found[id(a)] for dim in dims for a in leaves(dim) if id(a) in found)
    new_dims = [[found.get(id(a), a) for a in leaves(dim)] for dim in dims]
    return r.add_value(op, axes, new_dims, view.dtype)


@rule("slice")
def _slice(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    dim, length = (
        node.args["dim"] % len(view.dims),
        product(a.size for a in view.leaves(node.args["dim"] % len(view.dims))),
    )
    size, step = node.result.shape[dim], node.args["step"]
    if equal(size, length) and step == 1:
        return view
    start = node.args["start"] or 0
    if is_position_map(view) and isinstance(start, int) and start >= 0:
        shifted = _shifted_positions(r, view, dim, start, step, size)
        if shifted is not None:
            return shifted
    if not all(isinstance(s, int) for s in (start, size, length)):
        raise NotRaised("a slice whose bounds are symbolic")
    start = min(max(start + length if start < 0 else start, 0), length)
    if size == 1:
        dims = [() if i == dim else d for i, d in enumerate(view.dims)]
        return _fix(r, view, dims, _digits(view.leaves(dim), start))
    if step == 1 and _is_piece(view, dim, start, size, length):
        return _piece(r, view, dim, start, size)
    return _shift(r, view, dim, start, step, size)


def _is_piece(view: View, dim: int, start: int, size: int, length: int) -> bool:
    """Whether a slice is one of a few equal pieces of packed features, such as q, k and v.

    Other dims are not split: pieces of a sequence would become two axes in the whole model.
    """
    if size == 0 or length % size or start % size or length // size > _MANY_PIECES:
        return False
    return dim == len(view.dims) - 1 or isinstance(view.value.op, InputOp)


def _piece(r: Raiser, view: View, dim: int, start: int, size: int) -> View:
    axes = view.leaves(dim)
    length = product(a.size for a in axes)
    assert isinstance(length, int)
    target = [*r.space.make(length // size, "c"), *r.space.make(size)]
    outer, inner = r.space.regroup(axes, target)
    dims = [inner if i == dim else d for i, d in enumerate(view.dims)]
    return _fix(r, view, dims, _digits(outer, start // size))


def _shifted_positions(
    r: Raiser, view: View, dim: int, start: int, step: int, size: Size
) -> View | None:
    """A slice of a map of positions, whose length may be open."""
    new = None if is_one(size) else Axis(size, "n")
    along = [] if new is None else [new]
    dims = [along if i == dim else list(d) for i, d in enumerate(view.dims)]
    moved = [(tuple(view.leaves(dim)), AffinePosition(start, new, step))]
    return move_positions(r, view, dims, moved)


def _shift(r: Raiser, view: View, dim: int, start: int, step: int, size: int) -> View:
    """Positions `start + step * i` along one dim."""
    if size == 0:
        raise NotRaised("an empty slice")
    carried = {id(a) for a in view.value.leaves()}
    new = Axis(size, view.leaves(dim)[0].hint)
    if not any(id(a) in carried for a in view.leaves(dim)):
        return view.with_dims([[new] if i == dim else d for i, d in enumerate(view.dims)])
    view = r.materialize(view)
    dims = [[new] if i == dim else list(d) for i, d in enumerate(view.dims)]
    return _reindex(r, view, dims, [(tuple(view.leaves(dim)), AffinePosition(start, new, step))])


@rule("flip")
def _flip(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    for dim in node.args["dims"]:
        dim %= max(len(view.dims), 1)
        length = product(a.size for a in view.leaves(dim))
        if not isinstance(length, int):
            raise NotRaised("a flip of a dim of symbolic size")
        if length > 1:
            view = _shift(r, view, dim, length - 1, -1, length)
    return view


@rule("diagonal")
def _diagonal(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    rank = len(view.dims)
    first, second = node.args["dim1"] % rank, node.args["dim2"] % rank
    size, offset = node.result.shape[-1], node.args["offset"]
    if not isinstance(size, int) or size < 2:
        raise NotRaised("a diagonal of symbolic size, or of one element")
    view = r.materialize(view)
    rows, columns = tuple(view.leaves(first)), tuple(view.leaves(second))
    new = Axis(size, rows[0].hint)
    dims = [list(d) for i, d in enumerate(view.dims) if i not in (first, second)]
    gathered = [
        (rows, AffinePosition(max(-offset, 0), new)),
        (columns, AffinePosition(max(offset, 0), new)),
    ]
    return _reindex(r, view, [*dims, [new]], gathered)
