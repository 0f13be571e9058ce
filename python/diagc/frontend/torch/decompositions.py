"""The decomposition table of the front end: ops that are views, contractions and maps in disguise.

The same table serves the recorder, `make_fx` and `run_decompositions`. It never touches ops that
carry structure (softmax, matmul, norms, attention). An entry that gives NotImplemented keeps the op
whole; list-valued ops (split, unbind) become selects, because the torch dialect cannot name the
items of a list.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from diagc.frontend.torch.aten import operator_named
from diagc.frontend.torch.call_checks import check_dims, need
from diagc.frontend.torch.shape_rules import broadcast_shapes

__all__ = ["table"]

_TABLE: dict[str, Callable[..., Any]] = {}


def _decompose(*targets: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for target in targets:
            if target in _TABLE:
                raise ValueError(f"two decompositions for {target}")
            _TABLE[target] = function
        return function

    return register


@cache
def table() -> dict[Any, Callable[..., Any]]:
    """The table by overload object; entries that this torch lacks are left out."""
    found = {operator_named(f"aten.{target}"): f for target, f in _TABLE.items()}
    return {overload: f for overload, f in found.items() if overload is not None}


def _slices(x: Tensor, dim: int, sizes: Sequence[int]) -> list[Tensor]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        torch.ops.aten.slice.Tensor(x, dim, start, start + size)
        for start, size in zip(starts, sizes, strict=True)
    ]


@_decompose("unbind.int")
def _unbind(x: Tensor, dim: int = 0) -> list[Tensor]:
    check_dims([dim], x.dim())
    return [torch.ops.aten.select.int(x, dim, i) for i in range(x.shape[dim])]


@_decompose("split.Tensor")
def _split(x: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    check_dims([dim], x.dim())
    length = x.shape[dim]
    need(size > 0 or length == size == 0, f"pieces of size {size} of a dim of size {length}")
    if length == 0:
        return _slices(x, dim, [0])
    return _slices(x, dim, [min(size, length - start) for start in range(0, length, size)])


@_decompose("split_with_sizes.default", "split.sizes")
def _split_with_sizes(x: Tensor, sizes: Sequence[int], dim: int = 0) -> list[Tensor]:
    check_dims([dim], x.dim())
    length = x.shape[dim]
    need(min(sizes, default=0) >= 0, f"pieces of sizes {list(sizes)}")
    need(sum(sizes) == length, f"pieces of sizes {list(sizes)} of a dim of size {length}")
    return _slices(x, dim, sizes)


@_decompose("chunk.default")
def _chunk(x: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    need(chunks > 0, f"{chunks} chunks")
    check_dims([dim], x.dim())
    return _split(x, -(-x.shape[dim] // chunks), dim)


@_decompose("tensor_split.sections")
def _tensor_split(x: Tensor, sections: int, dim: int = 0) -> list[Tensor]:
    need(sections > 0, f"{sections} sections")
    check_dims([dim], x.dim())
    base, extra = divmod(x.shape[dim], sections)
    return _slices(x, dim, [base + (i < extra) for i in range(sections)])


@_decompose("narrow.default")
def _narrow(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    check_dims([dim], x.dim())
    size = x.shape[dim]
    start = start + size if start < 0 else start
    need(
        0 <= start <= start + length <= size,
        f"positions {start} to {start + length} of a dim of size {size}",
    )
    return torch.ops.aten.slice.Tensor(x, dim, start, start + length)


@_decompose("stack.default")
def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return torch.ops.aten.cat.default([t.unsqueeze(dim) for t in tensors], dim)


@_decompose("repeat_interleave.self_int")
def _repeat_interleave(
    x: Tensor, repeats: int, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    check_dims([dim or 0], x.dim())
    x, dim = (x.reshape(-1), 0) if dim is None else (x, dim % x.dim())
    wide = x.unsqueeze(dim + 1).expand(*x.shape[: dim + 1], repeats, *x.shape[dim + 1 :])
    return wide.reshape(*x.shape[:dim], x.shape[dim] * repeats, *x.shape[dim + 1 :])


@_decompose("repeat.default")
def _repeat(x: Tensor, repeats: Sequence[int]) -> Tensor:
    need(len(repeats) >= x.dim(), f"{len(repeats)} repeats for {x.dim()} dims")
    return _tile(x, repeats)


@_decompose("tile.default")
def _tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    repeats = [1] * (x.dim() - len(repeats)) + list(repeats)
    shape = [1] * (len(repeats) - x.dim()) + list(x.shape)
    pairs = list(zip(repeats, shape, strict=True))
    split = [size for _, size in pairs for size in (1, size)]
    wide = [size for pair in pairs for size in pair]
    return x.reshape(split).expand(wide).reshape([r * s for r, s in pairs])


@_decompose("tensordot.default")
def _tensordot(a: Tensor, b: Tensor, dims_a: Sequence[int], dims_b: Sequence[int]) -> Tensor:
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left = [next(letters) for _ in range(a.dim())]
    right = [next(letters) for _ in range(b.dim())]
    for i, j in zip(dims_a, dims_b, strict=True):
        sizes = a.shape[i], b.shape[j]
        need(sizes[0] == sizes[1], f"sizes {sizes[0]} and {sizes[1]} cannot be contracted")
        right[j] = left[i]
    summed = {left[i] for i in dims_a}
    kept = [c for c in left + right if c not in summed]
    return torch.einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", a, b)


@_decompose("outer.default", "ger.default")
def _outer(a: Tensor, b: Tensor) -> Tensor:
    need(a.dim() == b.dim() == 1, f"an outer product of {a.dim()}-D and {b.dim()}-D tensors")
    return a.unsqueeze(1) * b.unsqueeze(0)


@_decompose("std.default", "std.dim", "std.correction")
def _std(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return torch.var(x, *args, **kwargs).sqrt()


@_decompose("var_mean.correction", "var_mean.dim")
def _var_mean(x: Tensor, dim: Any = None, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    mean = torch.mean(x, dim, keepdim=kwargs.get("keepdim", False))
    return torch.var(x, dim, *args, **kwargs), mean


@_decompose("norm.Scalar", "norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype", "linalg_norm.default")
def _norm(
    x: Tensor,
    p: float | None = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    dims = [dim] if isinstance(dim, int) else dim
    if p is not None and (dims is None or len(dims) != 1) and x.dim() != 1:
        return NotImplemented  # a matrix norm
    return torch.linalg.vector_norm(x, 2 if p is None else p, dim, keepdim, dtype=dtype)


@_decompose("topk.default")
def _topk(
    x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Tensor, Tensor]:
    if k != 1 or not largest or x.dim() == 0:  # of the smallest, torch leaves NaN out
        return NotImplemented
    check_dims([dim], x.dim())
    values, indices = torch.max(x, dim, keepdim=True)
    return values, indices


@_decompose("glu.default")
def _glu(x: Tensor, dim: int = -1) -> Tensor:
    check_dims([dim], x.dim())
    need(x.dim() > 0 and x.shape[dim] % 2 == 0, "a gated unit needs a dim of even size")
    half = x.shape[dim] // 2
    value, gate = _slices(x, dim, [half, half])
    return value * torch.sigmoid(gate)


@_decompose("cosine_similarity.default")
def _cosine_similarity(a: Tensor, b: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    check_dims([dim], max(a.dim(), b.dim()))
    # torch clamps each norm by eps, and so does this
    norm_a = torch.linalg.vector_norm(a, dim=dim, keepdim=True).clamp(min=eps)
    norm_b = torch.linalg.vector_norm(b, dim=dim, keepdim=True).clamp(min=eps)
    return ((a / norm_a) * (b / norm_b)).sum(dim)


@_decompose("mse_loss.default")
def _mse_loss(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    squared = (x - target) ** 2
    if reduction == 0:
        return squared
    return squared.mean() if reduction == 1 else squared.sum()


@_decompose("broadcast_tensors.default")
def _broadcast_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    shape = broadcast_shapes(*(t.shape for t in tensors))
    return [t.expand(shape) for t in tensors]


@_decompose("group_norm.default")
def _group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    need(x.dim() > 1 and x.shape[1] % groups == 0, f"{groups} groups of shape {list(x.shape)}")
    grouped = x.reshape(x.shape[0], groups, -1)
    normal = torch.nn.functional.layer_norm(grouped, grouped.shape[2:], eps=eps).reshape(x.shape)
    return _affine(normal, weight, bias)


@_decompose("batch_norm.default")
def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    if training or mean is None or var is None:
        return NotImplemented
    for statistic in (mean, var, weight, bias):
        fits = statistic is None or list(statistic.shape) == [x.shape[1]]
        need(fits, f"{x.shape[1]} channels need as many statistics and gains")
    shape = [1, -1] + [1] * (x.dim() - 2)
    scale = torch.rsqrt(var + eps)
    return _affine((x - mean.reshape(shape)) * scale.reshape(shape), weight, bias)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Per-channel gain and bias, channels in dim 1."""
    shape = [1, -1] + [1] * (x.dim() - 2)
    x = x if weight is None else x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


@_decompose("pad.default")
def _pad(
    x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    if mode != "constant":
        return NotImplemented
    need(len(pad) % 2 == 0, "padding needs two numbers a dim")
    need(len(pad) <= 2 * x.dim(), f"{len(pad)} numbers of padding for {x.dim()} dims")
    return torch.ops.aten.constant_pad_nd.default(x, pad, value or 0.0)


@_decompose("diff.default")
def _diff(
    x: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    if n != 1 or x.dtype == torch.bool:
        return NotImplemented
    check_dims([dim], x.dim())
    pieces = [piece for piece in (prepend, x, append) if piece is not None]
    x = torch.cat(pieces, dim) if len(pieces) > 1 else x
    length = x.shape[dim]
    if length == 0:
        return x
    return _narrow(x, dim, 1, length - 1) - _narrow(x, dim, 0, length - 1)


@_decompose("float_power.Tensor_Scalar")
def _float_power(x: Tensor, exponent: float) -> Tensor:
    return torch.pow(x.double(), exponent)


@_decompose("deg2rad.default")
def _deg2rad(x: Tensor) -> Tensor:
    return x * (math.pi / 180)
