"""Rule for scaled_dot_product_attention: contract, scale, mask, softmax, contract.

Between the two products everything is f32 (f64 for f64), as in torch's fused kernels. Causal means
`query position >= key position`, aligned at the top left. With `enable_gqa` the query heads split
into (key head, group), and keys and values simply lack the group.
"""

import math
from collections.abc import Sequence

import torch

from diagc.frontend.torch.aten import Node, Ref, TensorType
from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import View
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.promotion import compute_type, number
from diagc.frontend.torch.raise_contract import multiply
from diagc.frontend.torch.raise_normalize import masked_softmax
from diagc.frontend.torch.raise_reduce import elementwise
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.scalar import INDEX, Const, Count, Expr, Position
from diagc.frontend.torch.simplify import apply, cast
from diagc.frontend.torch.sizes import divide, equal, product

__all__: list[str] = []

_BATCH = "abcdefgh"


@rule("scaled_dot_product_attention")
def _attention(r: Raiser, node: Node) -> View:
    if node.args["dropout_p"] > 0:
        raise NotRaised("dropout of attention weights draws random numbers")
    query, key, value = (r.view(node.args[n]) for n in ("query", "key", "value"))
    dtype = node.result.dtype
    query, key, value = (r.cast(v, dtype) for v in (query, key, value))
    if node.get("enable_gqa", False):
        query, key, value, letters = _grouped(r, query, key, value)
    else:
        letters = [_BATCH[8 - (len(v.dims) - 2) :] for v in (query, key, value)]
    batch = max(letters, key=len)
    q, k, v = (f"{part}{own}" for part, own in zip(letters, ("yz", "xz", "xw"), strict=True))
    work = compute_type(dtype)
    scores = multiply(r, query, key, (q, k, f"{batch}yx"), work, "scores")
    scores = elementwise(r, scores, work, lambda s: _scaled(node, query, s), "scale")
    scores, keep = _masked(r, node, scores)
    weights = r.cast(masked_softmax(r, scores, len(scores.dims) - 1, keep), dtype, "weights")
    result = multiply(r, weights, value, (f"{batch}yx", v, f"{batch}yw"), dtype)
    return _merge_groups(result, len(node.result.shape))


def _scaled(node: Node, query: View, score: Expr) -> Expr:
    """A score times the given scale, or over the root of the head dim."""
    if node.get("scale") is not None:
        return apply("mul", score, number(float(node.args["scale"]), score.dtype))
    axes = query.leaves(len(query.dims) - 1)
    width = product(a.size for a in axes)
    if isinstance(width, int):
        return apply("mul", score, number(1 / math.sqrt(max(width, 1)), score.dtype))
    return apply("mul", score, apply("rsqrt", cast(Count(INDEX, tuple(axes)), score.dtype)))


def _grouped(r: Raiser, query: View, key: View, value: View) -> tuple[View, View, View, list[str]]:
    """Split the heads of the query; the dims are (batch..., key head, group, rows, features)."""
    heads = len(query.dims) - 3
    if heads < 0:
        raise NotRaised("grouped queries without a dim of heads")
    count, wide = (product(a.size for a in v.leaves(heads)) for v in (key, query))
    groups = divide(wide, count)
    if groups is None or equal(groups, 1):
        letters = _BATCH[8 - (heads + 1) :]
        return query, key, value, [letters] * 3
    target = [*r.space.make(count, "h"), *r.space.make(groups, "g")]
    parts = iter(r.space.regroup(query.leaves(heads), target))
    outer: Sequence[Axis] = next(parts) if len(target) == 2 else ()
    inner = next(parts)
    dims = [*query.dims[:heads], outer, inner, *query.dims[heads + 1 :]]
    shared = _BATCH[8 - (heads + 1) :]
    return query.with_dims(dims), key, value, [f"{shared}k", shared, shared]


def _merge_groups(view: View, rank: int) -> View:
    """Heads of the result: (key head, group) in one dim again."""
    if len(view.dims) == rank:
        return view
    heads = rank - 3
    merged = [*view.leaves(heads), *view.leaves(heads + 1)]
    return view.with_dims([*view.dims[:heads], merged, *view.dims[heads + 2 :]])


def _masked(r: Raiser, node: Node, scores: View) -> tuple[View, View | None]:
    """The scores with an additive mask added, and what to keep."""
    keep = _causal(r, scores) if node.args["is_causal"] else None
    ref = node.args["attn_mask"]
    if not isinstance(ref, Ref):
        return scores, keep
    mask = _with_groups(r, r.view(ref), len(scores.dims), len(node.result.shape), scores)
    shape = tuple(product(a.size for a in scores.leaves(i)) for i in range(len(scores.dims)))
    if mask.dtype != torch.bool:
        work = scores.dtype

        def add(s: Expr, m: Expr) -> Expr:
            return apply("add", s, cast(m, work))

        return r.map([scores, mask], TensorType(shape, work), add, "mask"), keep
    return _covering(r, scores, mask, shape)


def _covering(r: Raiser, scores: View, mask: View, shape: Sequence[object]) -> tuple[View, View]:
    """Scores that have all axes of a boolean mask, and the mask under the dims of the scores."""
    for i, dim in enumerate(mask.dims, start=len(shape) - len(mask.dims)):
        if leaves(dim) and not scores.leaves(i):
            raise NotRaised("a mask with batch dims that queries and keys lack")
    padded = [()] * (len(shape) - len(mask.dims)) + [tuple(leaves(d)) for d in mask.dims]
    return scores, mask.with_dims(padded)


def _with_groups(r: Raiser, mask: View, rank: int, user_rank: int, scores: View) -> View:
    """The mask with its dim of heads split as the scores are."""
    if rank == user_rank or len(mask.dims) < 3:
        return mask
    heads = len(mask.dims) - 3
    axes = mask.leaves(heads)
    if not axes:
        return mask.with_dims([*mask.dims[: heads + 1], (), *mask.dims[heads + 1 :]])
    sizes = [product(a.size for a in scores.leaves(rank - i)) for i in (4, 3)]
    parts = r.space.regroup(axes, [a for s in sizes for a in r.space.make(s)])
    pair = parts if len(parts) == 2 else [[], *parts]
    return mask.with_dims([*mask.dims[:heads], *pair, *mask.dims[heads + 1 :]])


def _causal(r: Raiser, scores: View) -> View:
    """`row >= column` over the last two dims of the scores."""
    rank = len(scores.dims)
    sizes = [[a.size for a in scores.leaves(i)] for i in (rank - 2, rank - 1)]
    dims = [[Axis(size) for size in dim] for dim in sizes]
    row, column = (Position(INDEX, tuple(d)) if d else Const(INDEX, 0) for d in dims)
    expr = apply("ge", row, column)
    return MapBuilder(r).finish(expr, [*[[] for _ in range(rank - 2)], *dims], "causal")
