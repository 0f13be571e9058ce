"""Rules for tensors made of nothing: literals and maps of positions, which cost no memory."""

from collections.abc import Sequence

import torch

from diagc.frontend.torch.aten import Node, Ref
from diagc.frontend.torch.axes import leaves
from diagc.frontend.torch.graph import View
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.promotion import compute_type, number
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.scalar import INDEX, Const, Expr, Position
from diagc.frontend.torch.simplify import apply, cast
from diagc.frontend.torch.sizes import is_one

__all__: list[str] = []


def _filled(r: Raiser, node: Node, value: object) -> View:
    dtype = node.result.dtype
    if isinstance(value, Ref):
        return r.map([r.view(value)], node.result, lambda x: cast(x, dtype))
    if not isinstance(value, (bool, int, float)):
        raise NotRaised("a fill value that is not a number")
    dims = r.new_dims(node.result.shape)
    return MapBuilder(r).finish(number(value, dtype), dims)


@rule("zeros", "zeros_like", "new_zeros", "zero")
def _zeros(r: Raiser, node: Node) -> View:
    return _filled(r, node, 0)


@rule("ones", "ones_like", "new_ones")
def _ones(r: Raiser, node: Node) -> View:
    return _filled(r, node, 1)


@rule("full", "full_like", "new_full")
def _full(r: Raiser, node: Node) -> View:
    return _filled(r, node, node.args["fill_value"])


@rule("fill")
def _fill(r: Raiser, node: Node) -> View:
    return _filled(r, node, node.args["value"])


@rule("scalar_tensor", "prim.NumToTensor")
def _scalar_tensor(r: Raiser, node: Node) -> View:
    return _filled(r, node, next(iter(node.args.values())))


@rule("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")
def _empty(r: Raiser, node: Node) -> View:
    return _filled(r, node, 0)  # any value will do


@rule("arange")
def _arange(r: Raiser, node: Node) -> View:
    (size,), dtype = node.result.shape, node.result.dtype
    start, step = node.get("start", 0), node.get("step", 1)
    if not all(isinstance(v, (int, float)) for v in (start, step)):
        raise NotRaised("symbolic start or step")
    dims = r.new_dims([size], "n")
    position: Expr = Const(INDEX, 0)
    if not is_one(size):
        position = Position(INDEX, tuple(dims[0]))
    work = torch.int64 if isinstance(start, int) and isinstance(step, int) else torch.float64
    expr = cast(cast(position, torch.int64), work)
    expr = expr if step == 1 else apply("mul", expr, number(step, work))
    expr = expr if start == 0 else apply("add", expr, number(start, work))
    return MapBuilder(r).finish(cast(expr, dtype), dims)


@rule("linspace")
def _linspace(r: Raiser, node: Node) -> View:
    (size,), dtype = node.result.shape, node.result.dtype
    start, end = node.args["start"], node.args["end"]
    plain = all(isinstance(v, (int, float)) for v in (start, end))
    if not plain or not isinstance(size, int) or not dtype.is_floating_point:
        raise NotRaised("symbolic bounds, or integers")
    dims = r.new_dims([size], "n")
    if size < 2:
        return MapBuilder(r).finish(number(float(start), dtype), dims)
    work = compute_type(dtype)
    position = cast(cast(Position(INDEX, tuple(dims[0])), torch.int64), work)
    scaled = apply("mul", position, number((end - start) / (size - 1), work))
    return MapBuilder(r).finish(cast(apply("add", scaled, number(float(start), work)), dtype), dims)


@rule("eye")
def _eye(r: Raiser, node: Node) -> View:
    dims = r.new_dims(node.result.shape, "nm")
    row, column = (Position(INDEX, tuple(leaves(d))) for d in dims)
    expr = cast(apply("eq", row, column), node.result.dtype)
    return MapBuilder(r).finish(expr, dims)


@rule("tril")
def _tril(r: Raiser, node: Node) -> View:
    return _triangle(r, node, "ge")


@rule("triu")
def _triu(r: Raiser, node: Node) -> View:
    return _triangle(r, node, "le")


def _triangle(r: Raiser, node: Node, comparison: str) -> View:
    """Keep where `row + diagonal` compares so with `column`, zero elsewhere."""
    diagonal = node.args["diagonal"]
    if not isinstance(diagonal, int):
        raise NotRaised("a symbolic diagonal")
    builder = MapBuilder(r)
    expr, dims = builder.operand(r.view(node.args["self"]))
    row, column = (_position(d) for d in dims[-2:])
    shifted = row if diagonal == 0 else apply("add", row, Const(INDEX, diagonal))
    zero = number(0, expr.dtype)
    chosen = apply("select", apply(comparison, shifted, column), expr, zero)
    return builder.finish(chosen, dims)


@rule("select_scatter")
def _select_scatter(r: Raiser, node: Node) -> View:
    """Write one slice: choose it at its position."""
    view, index = r.view(node.args["self"]), node.args["index"]
    dim = node.args["dim"] % len(view.dims)
    size = node.result.shape[dim]
    if not isinstance(size, int) or not isinstance(index, int):
        raise NotRaised("a symbolic position")
    builder = MapBuilder(r)
    old, old_dims = builder.operand(view)
    new, new_dims = builder.operand(r.view(node.args["src"]))
    new_dims = [*new_dims[:dim], [], *new_dims[dim:]]
    dims = r.broadcast([old_dims, new_dims], node.result.shape)
    here = apply("eq", _position(dims[dim]), Const(INDEX, index % size))
    return builder.finish(apply("select", here, cast(new, old.dtype), old), dims)


def _position(dim: Sequence[object]) -> Expr:
    axes = leaves(dim)  # type: ignore[arg-type]
    return Position(INDEX, tuple(axes)) if axes else Const(INDEX, 0)
