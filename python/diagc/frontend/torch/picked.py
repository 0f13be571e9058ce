"""What labels pick: `x_label` as a sum over classes, `Σ_c [c = label] x_c`.

A reduction like any other, which joins the stream that makes the elements: they need no memory.
"""

from dataclasses import dataclass

import torch

from diagc.frontend.torch.aten import Node, Ref, TensorType
from diagc.frontend.torch.extern import raise_extern
from diagc.frontend.torch.graph import InputOp, View
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.promotion import number
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised
from diagc.frontend.torch.scalar import INDEX, Const, Expr, Position
from diagc.frontend.torch.simplify import apply, cast
from diagc.frontend.torch.sizes import Size, product

__all__ = ["Labels", "check_picked", "checked_labels", "class_count", "dim_size", "picked"]


@dataclass(frozen=True)
class Labels:
    """Labels in i32, in range, and the one that does not count; shape that of the losses."""

    view: View
    ignored: int
    shape: tuple[Size, ...]

    def without(self, dim: int) -> "Labels":
        """The labels without a dim of size 1."""
        dims = [d for i, d in enumerate(self.view.dims) if i != dim]
        shape = tuple(size for i, size in enumerate(self.shape) if i != dim)
        return Labels(self.view.with_dims(dims), self.ignored, shape)


def dim_size(view: View, dim: int) -> Size:
    """The size of a dim."""
    return product(axis.size for axis in view.leaves(dim))


def class_count(view: View, dim: int) -> int:
    """The size of a dim that labels count.

    Raises:
        NotRaised: it is open.
    """
    size = dim_size(view, dim)
    if not isinstance(size, int):
        raise NotRaised("a number of classes that is not known")
    return size


def checked_labels(r: Raiser, node: Node, target: Ref, classes: int, ignored: int) -> Labels:
    """The labels, seen to be classes when the program runs, as torch does.

    Args:
        r: the raiser.
        node: the op that takes the labels.
        target: integers of any shape.
        classes: how many there are.
        ignored: the label that may be outside of them.
    """
    labels = r.view(target)
    shape = tuple(dim_size(labels, i) for i in range(len(labels.dims)))
    call = Node(
        node.name,
        "diagc.check_labels.default",
        {"labels": target, "classes": classes, "ignored": ignored},
        (TensorType(shape, torch.int32),),
        node.location,
    )
    (view,) = raise_extern(r, call, "labels are checked before they are used")
    return Labels(view, ignored, shape)


def check_picked(view: View) -> None:
    """Whether elements that an index picks are computed, as floats.

    Raises:
        NotRaised: they lie in memory, where reading one is cheaper than a sum over all.
    """
    if not view.dims or not view.dtype.is_floating_point:
        raise NotRaised("a gather of integers")
    if isinstance(view.value.op, InputOp):
        raise NotRaised("a gather of an array in memory")


def picked(r: Raiser, scores: View, labels: Labels, classes: int) -> View:
    """The element of the last dim of `scores` that each label says, as a sum over that dim."""
    builder = MapBuilder(r)
    x, dims = builder.operand(scores)
    label, label_dims = builder.operand(labels.view)
    joined = r.broadcast([dims, [*label_dims, []]], [*labels.shape, classes])
    axes = tuple(joined[-1])
    place: Expr = Position(INDEX, axes) if axes else Const(INDEX, 0)
    here = apply("eq", cast(place, torch.int32), label)
    chosen = builder.finish(apply("select", here, x, number(0.0, x.dtype)), joined, "picked")
    return r.reduce(chosen, [len(labels.shape)], "add")
