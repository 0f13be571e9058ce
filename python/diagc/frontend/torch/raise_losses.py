"""Rules for losses of labels and probabilities: cross entropy, negative log likelihood.

All that is read of the scores are sums over classes, in one stream, so that logits need no memory
(`picked.py`). Formulas are those of torch's documentation of `cross_entropy`.
"""

from collections.abc import Callable, Sequence

import torch

from diagc.frontend.torch.aten import Node, TensorType
from diagc.frontend.torch.graph import View
from diagc.frontend.torch.picked import Labels, checked_labels, class_count, dim_size, picked
from diagc.frontend.torch.promotion import compute_type, number
from diagc.frontend.torch.raise_reduce import elementwise, log_sum_exp, mean
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import rule
from diagc.frontend.torch.scalar import Expr
from diagc.frontend.torch.simplify import apply

__all__: list[str] = []

_NONE, _MEAN, _SUM = 0, 1, 2


@rule("cross_entropy_loss")
def _cross_entropy(r: Raiser, node: Node) -> View:
    """`(1 - s) w_t (z - x_t) + s / C Σ_c w_c (z - x_c)`: z the log-sum-exp, s the smoothing."""
    scores = _classes_last(r, node)
    last = len(scores.dims) - 1
    classes = class_count(scores, last)
    target = r.view(node.args["target"])
    total = log_sum_exp(r, scores, [last], False)
    if target.dtype.is_floating_point:
        return _soft_cross_entropy(r, node, scores, total, _moved_last(target))
    labels = checked_labels(r, node, node.args["target"], classes, node.args["ignore_index"])
    smoothing = float(node.args["label_smoothing"])
    values = [total, picked(r, scores, labels, classes)]
    weight = _weight(r, node, scores.dtype)
    if smoothing:
        values += _weighted_sums(r, [scores] if weight is None else [scores, weight])
    if weight is not None:
        values.append(picked(r, weight, labels, classes))
    count = number(float(classes), scores.dtype)

    def loss(z: Expr, picked: Expr, *others: Expr) -> Expr:
        found = apply("sub", z, picked)
        if weight is not None:
            found = apply("mul", found, others[-1])
        if smoothing:
            summed, weights = others[0], count if weight is None else others[1]
            rest = apply("sub", apply("mul", z, weights), summed)
            parts = ((1 - smoothing, found), (smoothing / classes, rest))
            found = apply("add", *(apply("mul", x, number(f, x.dtype)) for f, x in parts))
        return found

    return _reduced(r, node, labels, values, loss, weighted=weight is not None)


def _soft_cross_entropy(r: Raiser, node: Node, scores: View, total: View, target: View) -> View:
    """`Σ_c w_c p_c (z - x_c)` with probabilities p; their mean is by rows, whatever the weights."""
    work, classes = scores.dtype, class_count(scores, len(scores.dims) - 1)
    smoothing = float(node.args["label_smoothing"])
    share = elementwise(r, r.cast(target, work), work, lambda p: _smooth(p, smoothing, classes), "")
    weight = _weight(r, node, work)
    summed, weights = _weighted_sums(
        r, [scores, share] if weight is None else [scores, share, weight]
    )
    shape = tuple(dim_size(total, i) for i in range(len(total.dims)))
    losses = r.map(
        [total, summed, weights],
        TensorType(shape, work),
        lambda z, a, w: apply("sub", apply("mul", z, w), a),
        "losses",
    )
    dtype, reduction = node.result.dtype, node.args["reduction"]
    if reduction == _NONE:
        return r.cast(losses, dtype)
    dims = range(len(shape))
    found = mean(r, losses, list(dims), False) if reduction == _MEAN else None
    return r.cast(r.reduce(losses, dims, "add") if found is None else found, dtype)


@rule("nll_loss", "nll_loss_nd", "nll_loss2d")
def _nll_loss(r: Raiser, node: Node) -> View:
    scores = _classes_last(r, node)
    classes = class_count(scores, len(scores.dims) - 1)
    labels = checked_labels(r, node, node.args["target"], classes, node.args["ignore_index"])
    values = [picked(r, scores, labels, classes)]
    weight = _weight(r, node, scores.dtype)
    if weight is not None:
        values.append(picked(r, weight, labels, classes))

    def loss(picked: Expr, *weights: Expr) -> Expr:
        return apply("neg", apply("mul", picked, weights[0]) if weights else picked)

    return _reduced(r, node, labels, values, loss, weighted=weight is not None)


def _classes_last(r: Raiser, node: Node) -> View:
    """The scores in the type of sums; classes are dim 1, or the only one, and become the last."""
    return r.cast(_moved_last(r.view(node.args["self"])), compute_type(node.result.dtype))


def _moved_last(view: View) -> View:
    dims = list(view.dims)
    return view.with_dims([dims[0], *dims[2:], dims[1]]) if len(dims) > 1 else view


def _weight(r: Raiser, node: Node, work: torch.dtype) -> View | None:
    weight = node.get("weight")
    return None if weight is None else r.cast(r.view(weight), work)


def _weighted_sums(r: Raiser, factors: Sequence[View]) -> list[View]:
    """Sums over the last dim of the product of all, and of all but the first, if any are left."""
    sums = []
    for some in (factors, factors[1:]):
        if some:
            rank = max(len(view.dims) for view in some)
            (widest, *_) = (view for view in some if len(view.dims) == rank)
            shape = tuple(dim_size(widest, i) for i in range(rank))
            product = r.map(some, TensorType(shape, some[0].dtype), _product, "weighted")
            sums.append(r.reduce(product, [rank - 1], "add"))
    return sums


def _product(first: Expr, *others: Expr) -> Expr:
    for other in others:
        first = apply("mul", first, other)
    return first


def _smooth(p: Expr, smoothing: float, classes: int) -> Expr:
    if not smoothing:
        return p
    kept = apply("mul", p, number(1 - smoothing, p.dtype))
    return apply("add", kept, number(smoothing / classes, p.dtype))


def _reduced(
    r: Raiser,
    node: Node,
    labels: Labels,
    values: list[View],
    loss: Callable[..., Expr],
    *,
    weighted: bool,
) -> View:
    """Losses of labels that count, as they are, summed, or their mean.

    Args:
        r: the raiser.
        node: the loss.
        labels: what is picked.
        values: what `loss` takes; the last are the weights of the labels, if `weighted`.
        loss: the loss of a row.
        weighted: whether the mean is by the weights of the labels.
    """
    work = values[0].dtype
    dtype, reduction = node.result.dtype, node.args["reduction"]
    zero = number(0.0, work)

    def counted(label: Expr, *read: Expr) -> Expr:
        ignored = apply("eq", label, number(labels.ignored, torch.int32))
        return apply("select", ignored, zero, loss(*read))

    losses = r.map([labels.view, *values], TensorType(labels.shape, work), counted, "losses")
    if reduction == _NONE:
        return r.cast(losses, dtype)
    dims = range(len(labels.shape))
    total = r.reduce(losses, dims, "add")
    if reduction == _SUM:
        return r.cast(total, dtype)
    shares = [labels.view, *values[-1:]] if weighted else [labels.view]
    counts = r.map(
        shares,
        TensorType(labels.shape, work),
        lambda label, share=None: _counts(label, labels.ignored, work, share),
        "counts",
    )
    count = r.reduce(counts, dims, "add")
    result = TensorType((), dtype)
    return r.map([total, count], result, lambda a, n: apply("div", a, n))


def _counts(label: Expr, ignored: int, work: torch.dtype, share: Expr | None) -> Expr:
    here = apply("eq", label, number(ignored, torch.int32))
    return apply("select", here, number(0.0, work), share or number(1.0, work))
