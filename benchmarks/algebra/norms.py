"""Norms before linear layers, gated layers, losses, pooling, moments and positions of maxima."""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from .rows import Explained, Row, Shape, Tensor, has_stream, in_kernels

__all__ = ["ROWS"]

TEMPERATURE = 0.07


def rms_norm_linear(x: Tensor, gain: Tensor, w: Tensor) -> Tensor:
    y = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6) * gain
    return y @ w.T


def layer_norm_linear(x: Tensor, gain: Tensor, shift: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.linear(F.layer_norm(x, x.shape[-1:], gain, shift), w, b)


def group_norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return F.group_norm(x, 8, gain, shift)


def l2_normalise_linear(x: Tensor, w: Tensor) -> Tensor:
    return F.normalize(x, dim=-1) @ w.T


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T


def linear_cross_entropy(x: Tensor, w: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(x @ w.T, labels)


def norm_linear_cross_entropy(x: Tensor, gain: Tensor, w: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(rms_norm_linear(x, gain, w), labels)


def log_sum_exp_pooling(x: Tensor) -> Tensor:
    return torch.logsumexp(x, dim=1)


def softmax_pooling(x: Tensor, query: Tensor) -> Tensor:
    weights = torch.softmax(x @ query, dim=1)
    return (weights[..., None] * x).sum(dim=1)


def info_nce(a: Tensor, b: Tensor) -> Tensor:
    """Each row of `a` belongs to the row of `b` at the same place."""
    scores = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / TEMPERATURE
    return F.cross_entropy(scores, torch.arange(a.shape[0]))


def variance(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred.square().mean(dim=-1)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.var(dim=-1), x.mean(dim=-1)


def argmax(x: Tensor, w: Tensor) -> Tensor:
    return (x @ w.T).argmax(dim=-1)


def top_1(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    value, place = (x @ w.T).max(dim=-1)
    return value, place


# ---- inputs --------------------------------------------------------------------------------------


def normal(*names: str) -> Callable[[Shape, torch.Generator], tuple[Tensor, ...]]:
    """Random arguments, one for each name of sizes, as `rows width`.

    With a star in front it is a matrix of weights, divided by the root of the last size.
    """

    def inputs(shape: Shape, generator: torch.Generator) -> tuple[Tensor, ...]:
        made = []
        for name in names:
            sizes = [shape[size] for size in name.removeprefix("*").split()]
            scale = sizes[-1] ** -0.5 if name.startswith("*") else 1.0
            made.append(torch.randn(sizes, generator=generator) * scale)
        return tuple(made)

    return inputs


def with_labels(*names: str) -> Callable[[Shape, torch.Generator], tuple[Tensor, ...]]:
    def inputs(shape: Shape, generator: torch.Generator) -> tuple[Tensor, ...]:
        size = (shape["rows"],)
        labels = torch.randint(0, shape["classes"], size, generator=generator)
        return *normal(*names)(shape, generator), labels

    return inputs


# ---- rows ----------------------------------------------------------------------------------------


def fused(report: Explained) -> bool:
    """Everything but matrix products of the library is in kernels."""
    outside = {work["what"] for work in report["outside"]} - {"diag.contract"}
    return bool(report["kernels"]) and not report["fall_back"] and not outside


def row(name: str, function: Callable[..., object], inputs: object, derived: object) -> Row:
    return Row(name, "norms", function, inputs, derived)  # type: ignore[arg-type]


ROWS: Sequence[Row] = (
    row("rms-norm-linear", rms_norm_linear, normal("rows width", "width", "*out width"), fused),
    row(
        "layer-norm-linear",
        layer_norm_linear,
        normal("rows width", "width", "width", "*out width", "out"),
        fused,
    ),
    row(
        "group-norm",
        group_norm,
        normal("batch channels size", "channels", "channels"),
        in_kernels,
    ),
    row("l2-normalise-linear", l2_normalise_linear, normal("rows width", "*out width"), fused),
    row(
        "swiglu",
        swiglu,
        normal("rows width", "*hidden width", "*hidden width", "*width hidden"),
        fused,
    ),
    row(
        "linear-cross-entropy",
        linear_cross_entropy,
        with_labels("rows width", "*classes width"),
        has_stream,
    ),
    row(
        "norm-linear-cross-entropy",
        norm_linear_cross_entropy,
        with_labels("rows width", "width", "*classes width"),
        has_stream,
    ),
    row("log-sum-exp-pooling", log_sum_exp_pooling, normal("batch length width"), in_kernels),
    row("softmax-pooling", softmax_pooling, normal("batch length width", "width"), has_stream),
    row("info-nce", info_nce, normal("rows width", "rows width"), has_stream),
    row("variance", variance, normal("rows length"), has_stream),
    row("moments", moments, normal("rows length"), has_stream),
    row("argmax", argmax, normal("rows width", "*classes width"), has_stream),
    row("top-1", top_1, normal("rows width", "*classes width"), has_stream),
)
