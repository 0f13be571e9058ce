"""Rules for reductions: sums and their like become `diag.reduce` between maps.

Sums of bf16 and f16 are taken in f32: operands are converted before, the result after.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from diagc.frontend.torch.aten import Node, TensorType
from diagc.frontend.torch.axes import Axis
from diagc.frontend.torch.graph import MapOp, View
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.promotion import compute_type, number, to_bool
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.scalar import INDEX, Const, Count, Expr, Position, is_float
from diagc.frontend.torch.simplify import apply, cast
from diagc.frontend.torch.sizes import Size, product
from diagc.frontend.torch.unstreamable import failing_law

__all__ = ["divide_by_count", "elementwise", "log_sum_exp", "mean", "raise_extreme", "reduced_dims"]


def reduced_dims(node: Node, rank: int, name: str = "dim") -> list[int]:
    """The reduced dims, sorted; all of them where none are named."""
    dim = node.get(name)
    if dim is None or dim == []:
        return list(range(rank))
    dims = [dim] if isinstance(dim, int) else dim
    return sorted({d % max(rank, 1) for d in dims}) if rank else []


def elementwise(
    r: Raiser, view: View, dtype: torch.dtype, build: Callable[[Expr], Expr], suffix: str
) -> View:
    """A map of one operand that keeps its shape."""
    builder = MapBuilder(r)
    expr, dims = builder.operand(view)
    return builder.finish(cast(build(expr), dtype), dims, suffix)


def _in_compute_type(r: Raiser, view: View, result: torch.dtype) -> View:
    return r.cast(view, compute_type(result))


def _args(r: Raiser, node: Node) -> tuple[View, list[int], bool]:
    name = "self" if "self" in node.args else "x"
    view = r.view(node.args[name])
    if view.dtype.is_complex:
        raise NotRaised("complex numbers")
    return view, reduced_dims(node, len(view.dims)), bool(node.get("keepdim", False))


def _plain(kind: str) -> Callable[[Raiser, Node], View]:
    def raise_plain(r: Raiser, node: Node) -> View:
        view, dims, keepdim = _args(r, node)
        if kind in ("max", "min") and any(a.size == 0 for i in dims for a in view.leaves(i)):
            raise NotRaised("an extreme of nothing")
        source = _in_compute_type(r, view, node.result.dtype)
        return r.cast(r.reduce(source, dims, kind, keepdim), node.result.dtype)

    return raise_plain


for _name, _kind in (("sum", "add"), ("prod", "mul"), ("amax", "max"), ("amin", "min")):
    rule(_name)(_plain(_kind))


def _logical(kind: str) -> Callable[[Raiser, Node], View]:
    def raise_logical(r: Raiser, node: Node) -> View:
        view, dims, keepdim = _args(r, node)
        source = elementwise(r, view, torch.bool, to_bool, "nonzero")
        return r.cast(r.reduce(source, dims, kind, keepdim), node.result.dtype)

    return raise_logical


rule("any")(_logical("or"))
rule("all")(_logical("and"))


def raise_extreme(r: Raiser, node: Node) -> Sequence[View]:
    """`max` and `min` over one dim or all, with the first positions where they are asked for."""
    kind = node.packet.split(".")[-1]
    values = _plain(kind)(r, node)
    if len(node.results) < 2 or node.results[1] is None:
        return [values]
    return [values, first_positions(r, node, kind, node.results[1])]


@rule("argmax")
def _argmax(r: Raiser, node: Node) -> View:
    return first_positions(r, node, "max", node.result)


@rule("argmin")
def _argmin(r: Raiser, node: Node) -> View:
    return first_positions(r, node, "min", node.result)


_EXACT_POSITIONS = 1 << 24
"""Positions below this are exact in f32."""


def first_positions(r: Raiser, node: Node, kind: str, result: TensorType) -> View:
    """Where a maximum or minimum stands first: the least position of an element that equals it.

    A NaN is the extreme, as in torch. Positions are f32 numbers meanwhile, as sums of the hits are.
    """
    view, dims, keepdim = _args(r, node)
    size = product(a.size for i in dims for a in view.leaves(i))
    if not isinstance(size, int) or not 0 < size <= _EXACT_POSITIONS:
        raise NotRaised("positions along an axis that is empty, very long, or of open size")
    source = _in_compute_type(r, view, view.dtype)
    extreme = r.reduce(source, dims, kind, True)
    builder = MapBuilder(r)
    x, axes = builder.operand(source)
    best, best_axes = builder.operand(extreme)
    shape = [product(a.size for a in view.leaves(i)) for i in _rank(view)]
    axes = r.broadcast([axes, best_axes], shape)
    along = tuple(a for i in dims for a in axes[i])
    place: Expr = Position(INDEX, along) if along else Const(INDEX, 0)
    place = cast(place, torch.float32)
    nowhere = number(math.inf, torch.float32)
    if is_float(source.dtype):
        nowhere = apply("select", apply("ne", x, x), place, nowhere)
    hits = builder.finish(apply("select", apply("eq", x, best), place, nowhere), axes, "hits")
    return r.cast(r.reduce(hits, dims, "min", keepdim), result.dtype)


def mean(r: Raiser, view: View, dims: Sequence[int], keepdim: bool) -> View:
    """The mean of a view in its own dtype, which should be a type that sums are taken in."""
    over = [a for i in dims for a in view.leaves(i)]
    return divide_by_count(r, r.reduce(view, dims, "add", keepdim), over)


def divide_by_count(r: Raiser, view: View, over: Sequence[Axis], correction: float = 0) -> View:
    """Divide by the number of positions along `over`, less `correction`."""
    size = product(a.size for a in over)
    dtype = view.dtype
    return elementwise(
        r, view, dtype, lambda x: apply("div", x, _count(over, size, correction, dtype)), "mean"
    )


def _count(over: Sequence[Axis], size: Size, correction: float, dtype: torch.dtype) -> Expr:
    if isinstance(size, int):
        return number(float(max(size - correction, 0)), dtype)
    count = cast(Count(INDEX, tuple(over)), dtype)
    if not correction:
        return count
    return apply("max", apply("sub", count, number(correction, dtype)), number(0.0, dtype))


@rule("cumsum")
def _running_sum(r: Raiser, node: Node) -> View:
    """Of a constant integer: so many times the number of positions so far."""
    view, dtype = r.view(node.args["self"]), node.result.dtype
    op = view.value.op
    constant = op.expr if isinstance(op, MapOp) else None
    if not isinstance(constant, Const) or is_float(dtype) or dtype != torch.int64:
        raise NotRaised(failing_law(node.packet))
    builder = MapBuilder(r)
    element, dims = builder.operand(view)
    axes = tuple(dims[node.args["dim"] % len(dims)]) if dims else ()
    place: Expr = Position(INDEX, axes) if axes else Const(INDEX, 0)
    count = cast(apply("add", place, Const(INDEX, 1)), dtype)
    return builder.finish(apply("mul", cast(element, dtype), count), dims)


@rule("mean")
def _mean(r: Raiser, node: Node) -> View:
    view, dims, keepdim = _args(r, node)
    source = _in_compute_type(r, view, node.result.dtype)
    return r.cast(mean(r, source, dims, keepdim), node.result.dtype)


@rule("var")
def _var(r: Raiser, node: Node) -> View:
    view, dims, keepdim = _args(r, node)
    correction = node.get("correction", 1 if node.get("unbiased", True) else 0)
    correction = 1 if correction is None else correction
    return variance(r, view, dims, keepdim, correction, node.result.dtype)


def variance(
    r: Raiser,
    view: View,
    dims: Sequence[int],
    keepdim: bool,
    correction: float,
    dtype: torch.dtype,
) -> View:
    """The mean of squared distances from the mean, in two passes (the stable form)."""
    if not dtype.is_floating_point:
        raise NotRaised("a variance of integers")
    source = _in_compute_type(r, view, dtype)
    over = [a for i in dims for a in source.leaves(i)]
    center = mean(r, source, dims, True)
    work = source.dtype
    shape = TensorType(tuple(product(a.size for a in source.leaves(i)) for i in _rank(view)), work)
    centred = r.map([source, center], shape, lambda x, m: apply("sub", x, m), "centred")
    squared = elementwise(r, centred, work, lambda x: apply("mul", x, x), "squared")
    total = r.reduce(squared, dims, "add", keepdim)
    return r.cast(divide_by_count(r, total, over, correction), dtype)


def _rank(view: View) -> range:
    return range(len(view.dims))


def log_sum_exp(r: Raiser, view: View, dims: Sequence[int], keepdim: bool) -> View:
    """`m + log Σ exp(x − m)` with m the maximum, 0 where that is infinite (as torch does)."""
    work = view.dtype
    high = elementwise(r, r.reduce(view, dims, "max", True), work, _finite_or_zero, "max")
    shape = TensorType(tuple(product(a.size for a in view.leaves(i)) for i in _rank(view)), work)
    shifted = r.map([view, high], shape, lambda x, m: apply("exp", apply("sub", x, m)), "exp")
    total = r.reduce(shifted, dims, "add", True)
    small = TensorType(tuple(1 if i in dims else s for i, s in enumerate(shape.shape)), work)
    result = r.map([total, high], small, lambda z, m: apply("add", apply("log", z), m), "")
    return result if keepdim else result.with_dims(_kept(result, dims))


def _kept(view: View, dims: Sequence[int]) -> list[tuple[Axis, ...]]:
    return [d for i, d in enumerate(view.dims) if i not in dims]


def _finite_or_zero(x: Expr) -> Expr:
    assert isinstance(x.dtype, torch.dtype)
    infinite = apply("eq", apply("abs", x), Const(x.dtype, math.inf))
    return apply("select", infinite, number(0.0, x.dtype), x)


@rule("logsumexp", "special_logsumexp")
def _logsumexp(r: Raiser, node: Node) -> View:
    view, dims, keepdim = _args(r, node)
    source = _in_compute_type(r, view, node.result.dtype)
    return r.cast(log_sum_exp(r, source, dims, keepdim), node.result.dtype)


_NORMS: dict[float, tuple[Callable[[Expr], Expr], str, Callable[[Expr], Expr]]] = {
    1.0: (lambda x: apply("abs", x), "add", lambda z: z),
    2.0: (lambda x: apply("mul", x, x), "add", lambda z: apply("sqrt", z)),
    math.inf: (lambda x: apply("abs", x), "max", lambda z: z),
    -math.inf: (lambda x: apply("abs", x), "min", lambda z: z),
    0.0: (lambda x: cast(apply("ne", x, number(0, x.dtype)), x.dtype), "add", lambda z: z),
}


def _general_norm(p: float) -> tuple[Callable[[Expr], Expr], str, Callable[[Expr], Expr]]:
    def power(x: Expr, exponent: float) -> Expr:
        return apply("pow", x, number(exponent, x.dtype))

    return (lambda x: power(apply("abs", x), p), "add", lambda z: power(z, 1 / p))


@rule("linalg_vector_norm")
def _vector_norm(r: Raiser, node: Node) -> View:
    view, dims, keepdim = _args(r, node)
    p = node.args["ord"]
    if not isinstance(p, (int, float)):
        raise NotRaised("a symbolic order")
    before, kind, after = _NORMS.get(float(p)) or _general_norm(float(p))
    dtype: Any = node.result.dtype
    work = compute_type(dtype)
    if not is_float(work):
        raise NotRaised("a norm of integers")
    terms = elementwise(r, view, work, lambda x: before(cast(x, work)), "terms")
    total = r.reduce(terms, dims, kind, keepdim)
    return elementwise(r, total, dtype, after, "")
