"""`batch_invariant=True`: a row gives the same bits, however many there are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import diagc
from diagc.errors import TargetError, UserError

WIDE, NARROW = torch.randn(64, 48), torch.randn(48, 64)
MOST = 39


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2)
    return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v


def decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2), -1) @ v


def layer(x: Tensor) -> Tensor:
    return torch.relu(F.layer_norm(x, (48,)) @ WIDE.T) @ NARROW.T


def retrieval(x: Tensor) -> Tensor:
    return torch.softmax(x @ WIDE.T, -1) @ WIDE


CASES: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...], torch.dtype]] = {
    "attention": (attention, ((3, 40, 16),) * 3, torch.float32),
    "attention in bf16": (attention, ((3, 40, 16),) * 3, torch.bfloat16),
    "spherical": (spherical, ((2, 30, 16),) * 3, torch.float32),
    "decode": (decode, ((3, 1, 16), (3, 300, 16), (3, 300, 16)), torch.float32),
    "layer": (layer, ((48,),), torch.float32),
    "retrieval": (retrieval, ((48,),), torch.float32),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_have_the_same_bits_in_every_batch(name: str) -> None:
    function, shapes, dtype = CASES[name]
    whole = [torch.randn(MOST, *shape, dtype=dtype) for shape in shapes]
    compiled = diagc.compile(function, batch_invariant=True)
    expected = compiled(*whole)
    bound = 2e-2 if dtype == torch.bfloat16 else 1e-3
    torch.testing.assert_close(expected, function(*whole), rtol=bound, atol=bound)
    assert not compiled.outside
    for start, stop in ((0, 1), (0, 2), (1, 4), (5, 22), (6, 39)):
        rows = compiled(*(x[start:stop].clone() for x in whole))
        assert torch.equal(rows, expected[start:stop])


def softmax_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / 24**0.5, -1) @ v


def l1_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT
    return (scores / scores.abs().sum(-1, keepdim=True)) @ v


def causal_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last query sees all keys, as in decoding."""
    rows, keys = q.shape[-2], k.shape[-2]
    keep = torch.arange(keys) <= torch.arange(rows)[:, None] + (keys - rows)
    scores = (q @ k.mT / 4).masked_fill(~keep, -torch.inf)
    return torch.softmax(scores, -1) @ v


BATCHES = ((3, 3, 1), (2, 3, 40), (1, 2, 2))
"""Batches, heads and queries: a size of 1 has programs of its own, the others share some."""


@pytest.mark.parametrize("function", [softmax_rows, l1_rows, spherical, causal_rows])
def test_queries_have_the_same_bits_however_many_there_are(function: Callable[..., Tensor]) -> None:
    q, k, v = (torch.randn(3, 3, 65, 24) for _ in range(3))
    whole = diagc.compile(function, q, k, v, batch_invariant=True)(q, k, v)
    torch.testing.assert_close(whole, function(q, k, v), rtol=1e-3, atol=1e-3)
    compiled = diagc.compile(function, batch_invariant=True)
    for batches, heads, rows in BATCHES:
        part = slice(None, batches), slice(None, heads)
        found = compiled(q[*part, -rows:], k[part], v[part])
        assert torch.equal(found, whole[*part, -rows:]), (batches, heads, rows)


GAIN, SQUARE = torch.rand(48), torch.randn(48, 40)


def normed_linear(x: Tensor) -> Tensor:
    return F.rms_norm(x, (48,), GAIN) @ SQUARE


def product(x: Tensor) -> Tensor:
    return x @ SQUARE


def linear(x: Tensor) -> Tensor:
    return F.linear(x, NARROW.T[:, :48].contiguous())


@pytest.mark.parametrize(
    ("function", "door"),
    [
        (normed_linear, "compile"),
        (product, "compile"),  # not by the backend: docs/usage.md
        (linear, "compile"),
        (normed_linear, "backend"),
        (linear, "backend"),
    ],
)
def test_tokens_have_the_same_bits_however_many_there_are(
    function: Callable[..., Tensor], door: str
) -> None:
    x = torch.randn(3, 65, 48)
    if door == "compile":
        compiled: Callable[..., Tensor] = diagc.compile(function, batch_invariant=True)
    else:
        torch._dynamo.reset()
        options: dict[str, Any] = {"batch_invariant": True, "rest": "eager"}
        compiled = torch.compile(function, backend="diagc", options=options)
    whole = compiled(x)
    torch.testing.assert_close(whole, function(x), rtol=1e-3, atol=1e-3)
    for batches, rows in ((1, 1), (3, 1), (1, 8), (2, 40)):
        found = compiled(x[:batches, :rows])
        assert torch.equal(found, whole[:batches, :rows]), (batches, rows)


def test_number_of_threads_changes_nothing() -> None:
    x = torch.randn(MOST, 48)
    compiled = diagc.compile(layer, x, batch_invariant=True)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(compiled(x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_what_chooses_by_size_is_refused() -> None:
    options: dict[str, Any] = {"batch_invariant": True}
    with pytest.raises(UserError, match="autotune chooses by size"):
        diagc.compile(layer, autotune=True, **options)
    with pytest.raises(TargetError, match="nvptx is not batch-invariant"):
        diagc.compile(layer, torch.randn(3, 48), target="nvptx:sm_90", **options)
