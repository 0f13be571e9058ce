"""`batch_invariant=True`: a row gives the same bits, however many there are."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import diagc
from diagc.errors import TargetError, UnsupportedError, UserError
from diagc.testing.seed import SEED

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
    for start, stop in ((0, 1), (5, 22)):
        rows = compiled(*(x[start:stop].clone() for x in whole))
        assert torch.equal(rows, expected[start:stop])


# ---- random parts of batches ---------------------------------------------------------------------


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / 24**0.5


def softmax_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k), -1) @ v


def l1_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = scores(q, k)
    return (s / s.abs().sum(-1, keepdim=True)) @ v


def causal_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last query sees all keys, as in decoding."""
    rows, keys = q.shape[-2], k.shape[-2]
    keep = torch.arange(keys) <= torch.arange(rows)[:, None] + (keys - rows)
    return torch.softmax(scores(q, k).masked_fill(~keep, -torch.inf), -1) @ v


def shared_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    grouped = q.unflatten(1, (-1, 2))
    return torch.softmax(scores(grouped, k[:, :, None]), -1) @ v[:, :, None]


def log_sums(q: Tensor, k: Tensor, _v: Tensor) -> Tensor:
    return torch.logsumexp(scores(q, k), -1)


def distances(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    squares = (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
    return torch.softmax(-squares, -1) @ v


GAIN, SQUARE = torch.rand(48), torch.randn(48, 40)


def normed_linear(x: Tensor) -> Tensor:
    return F.rms_norm(x, (48,), GAIN) @ SQUARE


def product(x: Tensor) -> Tensor:
    return x @ SQUARE


def linear(x: Tensor) -> Tensor:
    return F.linear(x, NARROW.T[:, :48].contiguous())


def gated(x: Tensor) -> Tensor:
    return F.silu(x @ SQUARE) * (x @ SQUARE.flip(1))


def loss(x: Tensor) -> Tensor:
    return F.cross_entropy(x @ WIDE.T, torch.full((len(x),), 3), reduction="none")


def statistics(x: Tensor) -> Tensor:
    return F.layer_norm(x, (48,), GAIN).log_softmax(-1)


ATTENTIONS = (softmax_rows, l1_rows, spherical, causal_rows, shared_heads, log_sums, distances)
TOKENWISE = (normed_linear, product, linear, gated, layer, retrieval, loss, statistics)
GENERATOR = torch.Generator().manual_seed(SEED)


def some(most: int) -> int:
    """How many of so many rows."""
    return int(torch.randint(1, most + 1, (), generator=GENERATOR))


def heads_of(function: Callable[..., Tensor]) -> int:
    """Query heads of a head of keys."""
    return 2 if function is shared_heads else 1


def part_of_attention(function: Callable[..., Tensor], sizes: Sequence[int], **given: Any) -> bool:
    """Whether so many batches, heads and queries have the bits that they have in a whole."""
    group = heads_of(function)
    q, k, v = torch.randn(3, 3 * group, 65, 24), *torch.randn(2, 3, 3, 65, 24)
    whole = diagc.compile(function, **given)(q, k, v)
    torch.testing.assert_close(whole, function(q, k, v), rtol=1e-3, atol=1e-3)
    batches, heads, rows = sizes
    q, k, v = q[:batches, : group * heads, -rows:], k[:batches, :heads], v[:batches, :heads]
    expected = whole.reshape(3, 3, group, 65, -1)[:batches, :heads, :, -rows:]
    found = diagc.compile(function, **given)(q, k, v)
    return torch.equal(found.reshape(expected.shape), expected)


def sizes_of_parts() -> list[tuple[int, ...]]:
    """One row alone, and some."""
    return [(1, 1, 1), (some(3), some(3), some(65))]


@pytest.mark.parametrize("function", ATTENTIONS)
def test_queries_have_the_same_bits_in_every_part(function: Callable[..., Tensor]) -> None:
    for sizes in sizes_of_parts():
        assert part_of_attention(function, sizes, batch_invariant=True), sizes


def test_without_the_option_bits_differ() -> None:
    found = [part_of_attention(softmax_rows, sizes) for sizes in ((1, 1, 1), (1, 1, 3))]
    assert not all(found)


@pytest.mark.parametrize("function", TOKENWISE)
def test_tokens_have_the_same_bits_in_every_part(function: Callable[..., Tensor]) -> None:
    x = torch.randn(195, 48)
    whole = diagc.compile(function, batch_invariant=True)(x)
    torch.testing.assert_close(whole, function(x), rtol=1e-3, atol=1e-3)
    compiled = diagc.compile(function, batch_invariant=True)
    for rows in (1, some(195)):
        assert torch.equal(compiled(x[:rows]), whole[:rows]), rows


@pytest.mark.parametrize("function", [normed_linear, product, linear, softmax_rows])
def test_parts_of_graphs_have_the_same_bits(function: Callable[..., Tensor]) -> None:
    torch._dynamo.reset()
    options: dict[str, Any] = {"batch_invariant": True, "rest": "eager"}
    compiled = torch.compile(function, backend="diagc", options=options)
    count, width = (3, 24) if function is softmax_rows else (1, 48)
    x = torch.randn(count, 3, 65, width)
    whole = compiled(*x)
    torch.testing.assert_close(whole, function(*x), rtol=1e-3, atol=1e-3)
    batches, rows = some(3), some(65)
    for size in (1, batches):
        query, *keys = x[:, :size]
        assert torch.equal(compiled(query[:, :rows], *keys), whole[:size, :rows]), (size, rows)


def test_open_lengths_have_the_bits_of_fixed_ones() -> None:
    """A later program, whose lengths are open, gives what the first one gave."""
    compiled = diagc.compile(softmax_rows, batch_invariant=True)
    q, k, v = torch.randn(3, 3, 2, 65, 24)
    first = compiled(q, k, v)
    compiled(*(x[:, :, :rows].contiguous() for x, rows in ((q, 9), (k, 30), (v, 30))))
    assert compiled.latest.dynamic
    found = compiled(q[:, :, :40].contiguous(), k, v)
    assert torch.equal(found, first[:, :, :40])


def test_what_the_function_computes_with_sizes_is_kept_apart() -> None:
    """Rows are open in the code, but a number that was computed from them is not."""
    compiled = diagc.compile(lambda x: F.rms_norm(x, (48,)) * x.shape[0], batch_invariant=True)
    for rows in (1, 3, 2):
        x = torch.randn(rows, 48)
        torch.testing.assert_close(compiled(x), F.rms_norm(x, (48,)) * rows)


def test_what_torch_would_compute_is_refused() -> None:
    def convolve(x: Tensor) -> Tensor:
        return F.conv1d(x, torch.ones(2, 3, 3))

    x = torch.randn(2, 3, 8)
    with pytest.raises(UnsupportedError, match=r"conv1d.* with batch_invariant"):
        diagc.compile(convolve, x, batch_invariant=True)
    options: dict[str, Any] = {"batch_invariant": True, "rest": "eager"}
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="with batch_invariant"):
        torch.compile(convolve, backend="diagc", options=options)(x)


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
