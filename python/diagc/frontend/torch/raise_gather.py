"""Rule for `gather` of one element of a row: what an index picks, as a sum over the row.

So losses that are written by hand, `logits.log_softmax(-1).gather(-1, t[:, None])`, join the stream
of their logits as `cross_entropy` does.
"""

from diagc.frontend.torch.aten import Node
from diagc.frontend.torch.graph import View
from diagc.frontend.torch.picked import check_picked, checked_labels, class_count, dim_size, picked
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.sizes import equal

__all__: list[str] = []


@rule("gather")
def _gather(r: Raiser, node: Node) -> View:
    view, index = r.view(node.args["self"]), r.view(node.args["index"])
    check_picked(view)
    dim = node.args["dim"] % len(view.dims)
    if index.leaves(dim):
        raise NotRaised("a gather of several elements of a row")
    others = [i for i in range(len(view.dims)) if i != dim]
    if not all(equal(dim_size(view, i), dim_size(index, i)) for i in others):
        raise NotRaised("a gather from a part of the rows")
    classes = class_count(view, dim)
    labels = checked_labels(r, node, node.args["index"], classes, 0).without(dim)
    moved = view.with_dims([*(view.dims[i] for i in others), view.dims[dim]])
    found = picked(r, moved, labels, classes)
    return found.with_dims([*found.dims[:dim], (), *found.dims[dim:]])
