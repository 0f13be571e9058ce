"""Attention with any normaliser, mask or bias, and attention that also returns statistics."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from .rows import Explained, Row, Shape, Tensor, has_stream, in_kernels, reassociated

__all__ = ["ROWS"]

WINDOW = 128


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k), dim=-1) @ v


def l2(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = q @ k.transpose(-2, -1)
    return s / torch.linalg.vector_norm(s, dim=-1, keepdim=True) @ v


def l1_sign(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = q @ k.transpose(-2, -1)
    return s / s.abs().sum(dim=-1, keepdim=True) @ v


def relu(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = torch.relu(q @ k.transpose(-2, -1))
    return s / s.sum(dim=-1, keepdim=True) @ v


def squared_relu(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = torch.relu(q @ k.transpose(-2, -1)).square()
    return s / s.sum(dim=-1, keepdim=True) @ v


def power(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = torch.relu(scores(q, k)) ** 3
    return s / s.sum(dim=-1, keepdim=True) @ v


def sigmoid(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.sigmoid(scores(q, k)) @ v


def softmax1(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One more element of score 0, which has no value."""
    s = scores(q, k)
    m = s.amax(dim=-1, keepdim=True).clamp(min=0)
    e = torch.exp(s - m)
    return e / (torch.exp(-m) + e.sum(dim=-1, keepdim=True)) @ v


def tanh_capped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(30 * torch.tanh(scores(q, k) / 30), dim=-1) @ v


def bias(q: Tensor, k: Tensor, v: Tensor, added: Tensor) -> Tensor:
    return torch.softmax(scores(q, k) + added, dim=-1) @ v


def distances(q: Tensor, k: Tensor) -> Tensor:
    """How far behind its query each key is."""
    return torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])[None, :]


def alibi(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Tensor:
    behind = distances(q, k)
    s = scores(q, k) - slopes[:, None, None] * behind
    return torch.softmax(s.masked_fill(behind < 0, -torch.inf), dim=-1) @ v


def sliding_window(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    behind = distances(q, k)
    seen = (behind >= 0) & (behind < WINDOW)
    return torch.softmax(scores(q, k).masked_fill(~seen, -torch.inf), dim=-1) @ v


def documents(q: Tensor, k: Tensor, v: Tensor, document: Tensor) -> Tensor:
    """Keys of the query's own document, up to the query."""
    seen = (document[:, None] == document[None, :]) & (distances(q, k) >= 0)
    return torch.softmax(scores(q, k).masked_fill(~seen, -torch.inf), dim=-1) @ v


def cosine(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    return torch.softmax(s * 10, dim=-1) @ v


def differential(q: Tensor, k: Tensor, q2: Tensor, k2: Tensor, v: Tensor, share: Tensor) -> Tensor:
    first, second = torch.softmax(scores(q, k), dim=-1), torch.softmax(scores(q2, k2), dim=-1)
    return (first - share * second) @ v


def row_max_and_lse(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s = scores(q, k)
    return torch.softmax(s, dim=-1) @ v, s.amax(dim=-1), torch.logsumexp(s, dim=-1)


def entropy(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    logs = torch.log_softmax(scores(q, k), dim=-1)
    weights = logs.exp()
    return weights @ v, -(weights * logs).sum(dim=-1)


def column_sums(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    weights = torch.softmax(scores(q, k), dim=-1)
    return weights @ v, weights.sum(dim=-2)


# ---- inputs --------------------------------------------------------------------------------------


def qkv(shape: Shape, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(shape["heads"], shape["queries"], shape["width"], generator=generator)
    size = (shape["heads"], shape["keys"], shape["width"])
    return q, torch.randn(size, generator=generator), torch.randn(size, generator=generator)


def with_bias(shape: Shape, generator: torch.Generator) -> tuple[Tensor, ...]:
    added = torch.randn(shape["heads"], shape["queries"], shape["keys"], generator=generator)
    return *qkv(shape, generator), added


def with_slopes(shape: Shape, generator: torch.Generator) -> tuple[Tensor, ...]:
    heads = shape["heads"]
    return *qkv(shape, generator), 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)


def with_documents(shape: Shape, generator: torch.Generator) -> tuple[Tensor, ...]:
    starts = torch.rand(shape["keys"], generator=generator) < 5 / shape["keys"]
    return *qkv(shape, generator), starts.cumsum(dim=0)


def two_pairs(shape: Shape, generator: torch.Generator) -> tuple[Tensor, ...]:
    q, k, v = qkv(shape, generator)
    q2, k2, _ = qkv(shape, generator)
    return q, k, q2, k2, v, torch.tensor(0.4)


# ---- rows ----------------------------------------------------------------------------------------


def streamed(report: Explained) -> bool:
    return has_stream(report) and in_kernels(report)


def row(
    name: str,
    function: Callable[..., Any],
    inputs: Callable[[Shape, torch.Generator], tuple[Any, ...]] = qkv,
    derived: Callable[[Explained], bool] = streamed,
) -> Row:
    return Row(name, "attention", function, inputs, derived)


ROWS: Sequence[Row] = (
    row("softmax", softmax),
    row("l2", l2, derived=reassociated),
    row("l1-sign", l1_sign),
    row("relu", relu),
    row("squared-relu", squared_relu),
    row("power", power),
    row("sigmoid", sigmoid),
    row("softmax1", softmax1),
    row("tanh-capped", tanh_capped),
    row("bias", bias, with_bias),
    row("alibi", alibi, with_slopes),
    row("sliding-window", sliding_window),
    row("documents", documents, with_documents),
    row("cosine", cosine),
    row("differential", differential, two_pairs),
    row("row-max-and-lse", row_max_and_lse),
    row("entropy", entropy),
    row("column-sums", column_sums),
)
