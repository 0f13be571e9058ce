"""Contraction networks, causal sums in chunks, attention to pairs of keys, grids, tropical sums."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import einsum
from torch.nn import functional as F

from .rows import Explained, Row, Shape, Tensor, has_stream, in_kernels, reassociated

__all__ = ["ROWS"]


# ---- networks ------------------------------------------------------------------------------------


def chain_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return a @ b @ c


def chain_of_five(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
    return einsum("ab,bc,cd,de,ef->af", a, b, c, d, e)


def chain_of_six(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
    return a @ b @ c @ d @ e @ f


def tree(x: Tensor, core: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """A Tucker factorisation applied to vectors: four operands, no chain."""
    return einsum("ni,ijk,jp,kp->np", x, core, u, v)


# ---- sums under a causal mask --------------------------------------------------------------------


def causal_spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = (q @ k.mT).tril()
    return s / torch.linalg.vector_norm(s, dim=-1, keepdim=True) @ v


def causal_linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).tril() @ v


# ---- attention to pairs of keys ------------------------------------------------------------------


def pair_scores(q: Tensor, k1: Tensor, k2: Tensor) -> Tensor:
    return einsum("hqd,hjd,hkd->hqjk", q, k1, k2)


def pair_softmax(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor) -> Tensor:
    s = pair_scores(q, k1, k2) * q.shape[-1] ** -0.5
    p = torch.softmax(s.flatten(-2), dim=-1).view_as(s)
    return einsum("hqjk,hje,hke->hqe", p, v1, v2)


def pair_softmax_causal(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor) -> Tensor:
    s = pair_scores(q, k1, k2) * q.shape[-1] ** -0.5
    s = s.masked_fill(~_causal_pairs(s), float("-inf"))
    p = torch.softmax(s.flatten(-2), dim=-1).view_as(s)
    return einsum("hqjk,hje,hke->hqe", p, v1, v2)


def pair_l2(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor) -> Tensor:
    s = pair_scores(q, k1, k2)
    p = s / s.flatten(-2).norm(dim=-1)[..., None, None]
    return einsum("hqjk,hje,hke->hqe", p, v1, v2)


def pair_l2_causal(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor) -> Tensor:
    s = pair_scores(q, k1, k2)
    s = s.masked_fill(~_causal_pairs(s), 0.0)
    p = s / s.square().sum((-2, -1), keepdim=True).sqrt()
    return einsum("hqjk,hje,hke->hqe", p, v1, v2)


def _causal_pairs(s: Tensor) -> Tensor:
    causal = torch.ones(s.shape[-1], s.shape[-1], dtype=torch.bool).tril()
    return causal[:, :, None] & causal[:, None, :]


# ---- a linear on a blown-up axis -----------------------------------------------------------------


def grid_linear(h: Tensor, grid: Tensor, w: Tensor) -> Tensor:
    """Components to points of a grid, then a linear and a nonlinearity at each point."""
    return F.silu(einsum("gi,niu->ngu", grid, h) @ w)


def grid_mlp(h: Tensor, grid: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    """To a grid, an MLP of two heads without a last nonlinearity, and back."""
    at = einsum("gi,niu->ngu", grid, h)
    heads = at.view(*at.shape[:2], 2, -1)
    out = (F.silu(heads @ w1) @ w2).flatten(-2)
    return einsum("gi,ngu->niu", grid, out)


# ---- moments -------------------------------------------------------------------------------------


def evonorm_s0(x: Tensor, gain: Tensor, bias: Tensor, v: Tensor) -> Tensor:
    groups = x.view(x.shape[0], 32, -1)
    std = groups.var(-1, unbiased=False, keepdim=True).add(1e-5).sqrt()
    y = (x * torch.sigmoid(_channel(v) * x)).view_as(groups) / std
    return y.view_as(x) * _channel(gain) + _channel(bias)


def evonorm_b0(x: Tensor, gain: Tensor, bias: Tensor, v: Tensor) -> Tensor:
    batch = x.var((0, 2, 3), unbiased=False, keepdim=True).add(1e-3).sqrt()
    instance = x.var((2, 3), unbiased=False, keepdim=True).add(1e-3).sqrt()
    y = x / torch.maximum(batch, _channel(v) * x + instance)
    return y * _channel(gain) + _channel(bias)


def group_norm_silu(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.group_norm(x, 32, gain, bias))


def _channel(t: Tensor) -> Tensor:
    return t.view(1, -1, 1, 1)


# ---- tropical contraction ------------------------------------------------------------------------


def max_plus(a: Tensor, b: Tensor) -> Tensor:
    return (a[..., :, :, None] + b[..., None, :, :]).amax(-2)


def log_sum_exp_plus(a: Tensor, b: Tensor) -> Tensor:
    return torch.logsumexp(a[..., :, :, None] + b[..., None, :, :], dim=-2)


# ---- inputs and rows -----------------------------------------------------------------------------


def _randn(*size: int, seed: torch.Generator) -> Tensor:
    return torch.randn(*size, generator=seed)


def _chain(shape: Shape, seed: torch.Generator) -> tuple[Tensor, ...]:
    sizes = [shape[name] for name in sorted(shape)]
    return tuple(_randn(*pair, seed=seed) / pair[1] ** 0.5 for pair in pairwise(sizes))


def _tree(shape: Shape, seed: torch.Generator) -> tuple[Tensor, ...]:
    n, i, p = shape["vectors"], shape["rank"], shape["outputs"]
    sizes = ((n, i), (i, i, i), (i, p), (i, p))
    return tuple(_randn(*size, seed=seed) for size in sizes)


def _attention(shape: Shape, seed: torch.Generator) -> tuple[Tensor, ...]:
    size = (shape["heads"], shape["positions"], shape["width"])
    return tuple(_randn(*size, seed=seed) for _ in range(3))


def _pairs(shape: Shape, seed: torch.Generator) -> tuple[Tensor, ...]:
    size = (shape["heads"], shape["positions"], shape["width"])
    return tuple(_randn(*size, seed=seed) for _ in range(5))


def _grid(shape: Shape, seed: torch.Generator) -> tuple[Tensor, ...]:
    h = _randn(shape["nodes"], 9, shape["channels"], seed=seed)
    w = _randn(shape["channels"], shape["hidden"], seed=seed)
    return h, _randn(306, 9, seed=seed), w


def _grid_heads(shape: Shape, seed: torch.Generator) -> tuple[Tensor, ...]:
    width = shape["channels"] // 2
    h = _randn(shape["nodes"], 9, shape["channels"], seed=seed)
    w = (_randn(width, shape["hidden"], seed=seed), _randn(shape["hidden"], width, seed=seed))
    return h, _randn(306, 9, seed=seed), *w


def _image(shape: Shape, seed: torch.Generator) -> tuple[Tensor, ...]:
    c, side = shape["channels"], shape["side"]
    x = _randn(shape["batch"], c, side, side, seed=seed)
    return x, *(_randn(c, seed=seed) for _ in range(3))


def _image_norm(shape: Shape, seed: torch.Generator) -> tuple[Tensor, ...]:
    return _image(shape, seed)[:3]


def _matrices(shape: Shape, seed: torch.Generator) -> tuple[Tensor, ...]:
    size = (shape["batch"], shape["size"], shape["size"])
    return tuple(_randn(*size, seed=seed) for _ in range(2))


def _slid(report: Explained) -> bool:
    """A contraction was moved, and nothing but products of matrices is left to torch."""
    outside = {work["what"] for work in report["outside"]}
    return reassociated(report) and outside <= {"diag.contract"}


def _in_order(report: Explained) -> bool:
    """Contracted as it was written, which is the best order."""
    return not reassociated(report) and not report["fall_back"]


def _row(
    name: str,
    function: Callable[..., Any],
    inputs: Callable[[Shape, torch.Generator], tuple[Tensor, ...]],
    derived: Callable[[Explained], bool],
) -> Row:
    return Row(name, "contractions", function, inputs, derived)


ROWS: Sequence[Row] = (
    _row("chain-of-three", chain_of_three, _chain, reassociated),
    _row("chain-of-five", chain_of_five, _chain, reassociated),
    _row("chain-of-six", chain_of_six, _chain, reassociated),
    _row("chain-in-order", chain_of_six, _chain, _in_order),
    _row("tree-of-four", tree, _tree, reassociated),
    _row("causal-spherical-chunked", causal_spherical, _attention, reassociated),
    _row("causal-spherical-streamed", causal_spherical, _attention, has_stream),
    _row("causal-linear-chunked", causal_linear, _attention, reassociated),
    _row("pair-softmax", pair_softmax, _pairs, has_stream),
    _row("pair-softmax-causal", pair_softmax_causal, _pairs, has_stream),
    _row("pair-l2", pair_l2, _pairs, reassociated),
    _row("pair-l2-causal", pair_l2_causal, _pairs, reassociated),
    _row("grid-linear", grid_linear, _grid, _slid),
    _row("grid-mlp", grid_mlp, _grid_heads, _slid),
    _row("evonorm-s0", evonorm_s0, _image, in_kernels),
    _row("evonorm-b0", evonorm_b0, _image, in_kernels),
    _row("group-norm-silu", group_norm_silu, _image_norm, in_kernels),
    _row("max-plus", max_plus, _matrices, in_kernels),
    _row("log-sum-exp-plus", log_sum_exp_plus, _matrices, in_kernels),
)
