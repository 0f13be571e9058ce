"""Rules for softmax and the norms: one `diag.normalize`, with gain and bias as maps after it."""

from collections.abc import Sequence

import torch

from diagc.frontend.torch.aten import Node, Ref, TensorType
from diagc.frontend.torch.graph import View
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.masks import split_mask
from diagc.frontend.torch.promotion import compute_type, number
from diagc.frontend.torch.raise_reduce import elementwise, log_sum_exp, mean, variance
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.scalar import Expr
from diagc.frontend.torch.simplify import apply, cast
from diagc.frontend.torch.sizes import product

__all__ = ["masked_softmax"]


@rule("softmax", "_softmax", "special_softmax", "_safe_softmax")
def _softmax(r: Raiser, node: Node) -> View:
    view, dim, dtype = _source(r, node)
    return r.cast(masked_softmax(r, view, dim), dtype)


def _source(r: Raiser, node: Node) -> tuple[View, int, torch.dtype]:
    """The operand in the type that torch computes in, the dim, and the result dtype."""
    view, dtype = r.view(node.args["self"]), node.result.dtype
    if not dtype.is_floating_point:
        raise NotRaised("a softmax of integers")
    widened = dtype.itemsize > view.dtype.itemsize or not view.dtype.is_floating_point
    return (
        r.cast(view, dtype) if widened else view,
        node.args["dim"] % max(len(view.dims), 1),
        dtype,
    )


def masked_softmax(r: Raiser, view: View, dim: int, keep: View | None = None) -> View:
    """Softmax along one dim; a mask of -inf in the operand becomes `keep` where that is sound."""
    if keep is None:
        view, keep = split_mask(r, view, dim)
    if not view.leaves(dim):
        return _softmax_of_one(r, view, keep)
    return r.normalize(view, [dim], "softmax", keep=keep)


def _softmax_of_one(r: Raiser, view: View, keep: View | None) -> View:
    """Of one position: 1, NaN where the operand is not finite, and 0 where it is masked out."""
    builder = MapBuilder(r)
    x, dims = builder.operand(view)
    one = apply("exp", apply("sub", x, x))
    if keep is None:
        return builder.finish(one, dims)
    kept, keep_dims = builder.operand(keep)
    both = r.broadcast([dims, keep_dims], [1] * len(dims))  # one of them has every axis
    return builder.finish(apply("select", kept, one, number(0.0, x.dtype)), both)


@rule("log_softmax", "_log_softmax", "special_log_softmax")
def _log_softmax(r: Raiser, node: Node) -> View:
    view, dim, dtype = _source(r, node)
    source = r.cast(view, compute_type(dtype))
    total = log_sum_exp(r, source, [dim], True)
    type_ = TensorType(node.result.shape, dtype)
    return r.map([source, total], type_, lambda x, z: apply("sub", x, z))


@rule("rms_norm", "_fused_rms_norm")
def _rms_norm(r: Raiser, node: Node) -> View | Sequence[View]:
    if len(node.results) > 1 and node.results[1] is not None:
        raise NotRaised("a norm that returns its statistic")
    view = r.view(node.args["input"])
    eps = node.get("eps")
    if eps is None:
        eps = torch.finfo(compute_type(view.dtype)).eps
    return _norm(r, node, view, "rms", float(eps), node.get("weight"), None)


@rule("layer_norm")
def _layer_norm(r: Raiser, node: Node) -> View:
    view = r.view(node.args["input"])
    eps = float(node.args["eps"])
    return _norm(r, node, view, "layer", eps, node.get("weight"), node.get("bias"))


@rule("native_layer_norm")
def _native_layer_norm(r: Raiser, node: Node) -> Sequence[View]:
    view = r.view(node.args["input"])
    eps = float(node.args["eps"])
    result = _norm(r, node, view, "layer", eps, node.get("weight"), node.get("bias"))
    if all(t is None for t in node.results[1:]):
        return [result]
    dims = _normalized_dims(node, view)
    work = compute_type(view.dtype)
    source = r.cast(view, work)
    spread = variance(r, source, dims, True, 0, work)
    inverse = elementwise(r, spread, work, lambda v: _inverse_root(v, eps), "rstd")
    return [result, mean(r, source, dims, True), inverse]


def _inverse_root(x: Expr, eps: float) -> Expr:
    return apply("rsqrt", apply("add", x, number(eps, x.dtype)))


def _normalized_dims(node: Node, view: View) -> list[int]:
    count = len(node.args["normalized_shape"])
    return list(range(len(view.dims) - count, len(view.dims)))


def _norm(
    r: Raiser,
    node: Node,
    view: View,
    kind: str,
    eps: float,
    gain: Ref | None,
    bias: Ref | None,
) -> View:
    """Normalise in the compute type, apply gain and bias, round once."""
    dims, dtype = _normalized_dims(node, view), node.result.dtype
    source = r.cast(view, compute_type(dtype))
    if any(view.leaves(i) for i in dims):
        result = r.normalize(source, dims, kind, eps)
    else:
        result = elementwise(r, source, source.dtype, lambda x: _norm_of_one(x, kind, eps), "")
    factors = [r.view(ref) for ref in (gain, bias) if isinstance(ref, Ref)]
    if not factors:
        return r.cast(result, dtype)

    def build(x: Expr, *rest: Expr) -> Expr:
        terms = [cast(e, x.dtype) for e in rest]
        x = apply("mul", x, terms.pop(0)) if isinstance(gain, Ref) else x
        return apply("add", x, terms.pop(0)) if terms else x

    shape = tuple(product(a.size for a in view.leaves(i)) for i in range(len(view.dims)))
    return r.map([result, *factors], TensorType(shape, dtype), build, "affine")


def _norm_of_one(x: Expr, kind: str, eps: float) -> Expr:
    """The norm along dims of size 1."""
    if kind == "layer":
        return apply("sub", x, x)
    return apply("mul", x, _inverse_root(apply("mul", x, x), eps))


@rule("diagc.normalize")
def _named(r: Raiser, node: Node) -> View:
    """`diagc.normalize`: statistics in the compute type, rounded once."""
    view = r.view(node.args["x"])
    dim = node.args["dim"] % len(view.dims)
    if not view.leaves(dim):
        raise NotRaised("a row of one position")
    mask = node.args["keep"]
    return r.normalize(
        view,
        [dim],
        node.args["name"],
        node.args["eps"] or None,
        None if mask is None else _padded(r.view(mask), len(view.dims)),
        place=node.args["eps_place"],
        parameters=[_padded(r.view(ref), len(view.dims)) for ref in node.args["params"]],
    )


def _padded(view: View, rank: int) -> View:
    """The view with dims of size 1 in front, as torch broadcasts."""
    return view.with_dims([*[()] * (rank - len(view.dims)), *view.dims])
