"""Rules for losses of labels: cross entropy, negative log likelihood, and what a label picks.

An element that a label picks is a sum over classes, `Σ_c [c = label] x_c`: a reduction like any
other, which joins the stream that sums the exponentials, so that logits need no memory. Formulas
are those of torch's documentation of `cross_entropy`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from diagc.frontend.torch.aten import Node, TensorType
from diagc.frontend.torch.extern import raise_extern
from diagc.frontend.torch.graph import View
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.promotion import compute_type, number
from diagc.frontend.torch.raise_reduce import elementwise, log_sum_exp
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.scalar import INDEX, Const, Expr, Position
from diagc.frontend.torch.simplify import apply, cast
from diagc.frontend.torch.sizes import Size

__all__: list[str] = []

_NONE, _MEAN, _SUM = 0, 1, 2


@dataclass(frozen=True)
class _Labels:
    """Labels in i32, in range, and the one that does not count; shape that of the losses."""

    view: View
    ignored: int
    shape: tuple[Size, ...]


@rule("cross_entropy_loss")
def _cross_entropy(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    smoothing = float(node.args["label_smoothing"])
    if node.get("weight") is not None:
        raise NotRaised("a loss with weights of classes")
    if len(view.dims) not in (1, 2):
        raise NotRaised("a loss over positions of images")
    target = r.view(node.args["target"])
    if target.dtype.is_floating_point:
        raise NotRaised("a loss of probabilities instead of labels")
    dim = len(view.dims) - 1
    classes = _size(view, dim)
    dtype = node.result.dtype
    scores = r.cast(view, compute_type(dtype))
    labels = _checked_labels(r, node, target, classes)
    total = log_sum_exp(r, scores, [dim], False)
    chosen = _picked(r, scores, labels.view, labels.shape)
    values = [total, chosen]
    if smoothing:
        values.append(r.reduce(scores, [dim], "add"))

    def loss(z: Expr, picked: Expr, *added: Expr) -> Expr:
        found = apply("sub", z, picked)
        for x in added:  # (1 - s) (z - x_t) + s (z - mean of x)
            even = apply("sub", z, apply("mul", x, number(1 / classes, x.dtype)))
            parts = ((1 - smoothing, found), (smoothing, even))
            sums = [apply("mul", part, number(share, x.dtype)) for share, part in parts]
            found = apply("add", *sums)
        return found

    return _reduced(r, node, labels, values, loss)


@rule("nll_loss", "nll_loss_nd")
def _nll_loss(r: Raiser, node: Node) -> View:
    view = r.view(node.args["self"])
    if node.get("weight") is not None:
        raise NotRaised("a loss with weights of classes")
    if len(view.dims) not in (1, 2):
        raise NotRaised("a loss over positions of images")
    target = r.view(node.args["target"])
    scores = r.cast(view, compute_type(node.result.dtype))
    labels = _checked_labels(r, node, target, _size(view, len(view.dims) - 1))
    chosen = _picked(r, scores, labels.view, labels.shape)
    return _reduced(r, node, labels, [chosen], lambda picked: apply("neg", picked))


def _size(view: View, dim: int) -> int:
    sizes = [axis.size for axis in view.leaves(dim)]
    total = 1
    for size in sizes:
        if not isinstance(size, int):
            raise NotRaised("a number of classes that is not known")
        total *= size
    return total


def _checked_labels(r: Raiser, node: Node, target: View, classes: int) -> _Labels:
    """The labels, seen to be classes when the program runs, as torch does."""
    ignored = int(node.args["ignore_index"])
    shape = tuple(_dim_size(target, i) for i in range(len(target.dims)))
    call = Node(
        node.name,
        "diagc.check_labels.default",
        {"labels": node.args["target"], "classes": classes, "ignored": ignored},
        (TensorType(shape, torch.int32),),
        node.location,
    )
    (view,) = raise_extern(r, call, "labels are checked before they are used")
    return _Labels(view, ignored, shape)


def _dim_size(view: View, dim: int) -> Size:
    from diagc.frontend.torch.sizes import product

    return product(axis.size for axis in view.leaves(dim))


def _picked(r: Raiser, scores: View, labels: View, shape: Sequence[Size]) -> View:
    """The element of the last dim of `scores` that each label says, as a sum over that dim."""
    last = len(scores.dims) - 1
    builder = MapBuilder(r)
    x, dims = builder.operand(scores)
    label, label_dims = builder.operand(labels)
    full = [*shape, _size(scores, last)]
    joined = r.broadcast([dims, [*label_dims, []]], full)
    axes = tuple(axis for axis in joined[last])
    place: Expr = Position(INDEX, axes) if axes else Const(INDEX, 0)
    here = apply("eq", cast(place, torch.int32), label)
    picked = builder.finish(apply("select", here, x, number(0.0, x.dtype)), joined, "picked")
    return r.reduce(picked, [last], "add")


def _reduced(r: Raiser, node: Node, labels: _Labels, values: list[View], loss: object) -> View:
    """Losses of labels that count, as they are, summed, or their mean."""
    work = values[0].dtype
    dtype, reduction = node.result.dtype, node.args["reduction"]
    zero = number(0.0, work)

    def counted(label: Expr, *read: Expr) -> Expr:
        assert callable(loss)
        ignored = apply("eq", label, number(labels.ignored, torch.int32))
        return apply("select", ignored, zero, loss(*read))

    losses = r.map([labels.view, *values], TensorType(labels.shape, work), counted, "losses")
    if reduction == _NONE:
        return r.cast(losses, dtype)
    dims = range(len(labels.shape))
    total = r.reduce(losses, dims, "add")
    if reduction == _SUM:
        return r.cast(total, dtype)
    ones = elementwise(r, labels.view, work, lambda label: _counts(label, labels.ignored, work), "")
    count = r.reduce(ones, dims, "add")
    result = TensorType((), dtype)
    return r.map([total, count], result, lambda a, n: apply("div", a, n))


def _counts(label: Expr, ignored: int, work: torch.dtype) -> Expr:
    here = apply("eq", label, number(ignored, torch.int32))
    return apply("select", here, number(0.0, work), number(1.0, work))
