"""Contractions in another order: right on fresh data, at odd sizes, and where rounding does harm.

Results are compared with float64. On hard inputs the error may be four times that of the form that
was not re-associated, or of eager torch.
"""

import json
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import einsum

import diagc

Tensor = torch.Tensor
FACTOR = 4.0


def causal_spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = (q @ k.mT).tril()
    return s / torch.linalg.vector_norm(s, dim=-1, keepdim=True) @ v


def causal_linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).tril(-1) @ v


def masked_spherical(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """Causal, and some keys count for no query."""
    s = torch.where(keep, (q @ k.mT).tril(), 0.0)
    return s / torch.linalg.vector_norm(s, dim=-1, keepdim=True) @ v


def windowed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).tril().triu(-64) @ v


def pairs(q: Tensor, a: Tensor, b: Tensor, v: Tensor, w: Tensor) -> Tensor:
    s = einsum("hqd,hjd,hkd->hqjk", q, a, b)
    p = s / s.square().sum((-2, -1), keepdim=True).sqrt()
    return einsum("hqjk,hje,hke->hqe", p, v, w)


def causal_pairs(q: Tensor, a: Tensor, b: Tensor, v: Tensor, w: Tensor) -> Tensor:
    s = einsum("hqd,hjd,hkd->hqjk", q, a, b)
    causal = torch.ones(s.shape[-2:], dtype=torch.bool).tril()
    s = s.masked_fill(~(causal[:, :, None] & causal[:, None, :]), 0.0)
    p = s / s.square().sum((-2, -1), keepdim=True).sqrt()
    return einsum("hqjk,hje,hke->hqe", p, v, w)


def triples(q: Tensor, a: Tensor, b: Tensor, c: Tensor, v: Tensor) -> Tensor:
    """Scores of three keys, summed with the values of the first."""
    s = einsum("qd,id,jd,kd->qijk", q, a, b, c)
    p = s / s.square().sum((-3, -2, -1), keepdim=True).sqrt()
    return einsum("qijk,ie->qe", p, v)


def softmax_pairs(q: Tensor, a: Tensor, b: Tensor, v: Tensor, w: Tensor) -> Tensor:
    s = einsum("hqd,hjd,hkd->hqjk", q, a, b)
    return einsum("hqjk,hje,hke->hqe", s.flatten(-2).softmax(-1).view_as(s), v, w)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape)


def error(result: Tensor, exact: Tensor) -> float:
    """Over all elements: the largest of few is a matter of luck."""
    return float((result.double() - exact).norm() / exact.norm())


def told(compiled: diagc.CompiledFunction, part: str) -> str:
    return " ".join(note["text"] for note in json.loads(compiled.explain("json"))[part])


def check(function: Callable[..., Tensor], inputs: Sequence[Tensor], text: str) -> None:
    """Compile, find `text` among what was done, compare with float64 on other data."""
    compiled = diagc.compile(function, *inputs, target="cpu")
    assert text in told(compiled, "done")
    fresh = [torch.randn_like(x) if x.is_floating_point() else x for x in inputs]
    exact = function(*(x.double() if x.is_floating_point() else x for x in fresh))
    assert error(compiled(*fresh), exact) <= max(1e-6, FACTOR * error(function(*fresh), exact))


# ---- what is cut into chunks, and what is not ----------------------------------------------------


@pytest.mark.parametrize("positions", [4096, 3000, 2500])
def test_causal_squares_in_chunks(positions: int) -> None:
    q, k, v = normal(2, positions, 24), normal(2, positions, 24), normal(2, positions, 40)
    check(causal_spherical, (q, k, v), "states of earlier chunks")


def test_keys_strictly_before_the_query_in_chunks() -> None:
    inputs = [normal(3, 1008, 20) for _ in range(3)]
    check(causal_linear, inputs, "states of earlier chunks")


def test_padded_keys_are_zeroed_rows_of_their_chunk() -> None:
    q, k, v = (normal(2, 2048, 16) for _ in range(3))
    keep = torch.rand(2, 1, 2048) > 0.3
    keep[:, :, 0] = True  # no row is empty
    check(masked_spherical, (q, k, v, keep), "states of earlier chunks")


@pytest.mark.parametrize("function", [causal_spherical, causal_linear])
def test_short_sequences_are_streamed(function: Callable[..., Tensor]) -> None:
    inputs = [normal(2, 256, 64) for _ in range(3)]
    compiled = diagc.compile(function, *inputs, target="cpu")
    assert "not cut into chunks: that would take" in told(compiled, "declined")


def test_windows_and_primes_are_streamed() -> None:
    window = diagc.compile(windowed, *(normal(1, 2048, 16) for _ in range(3)), target="cpu")
    assert "not cut into chunks" in told(window, "declined")
    prime = diagc.compile(causal_linear, *(normal(1, 2053, 16) for _ in range(3)), target="cpu")
    assert "no size of chunks divides 2053 positions" in told(prime, "declined")


def test_exact_reassociation_cuts_nothing() -> None:
    inputs = [normal(1, 4096, 32) for _ in range(3)]
    compiled = diagc.compile(causal_spherical, *inputs, target="cpu", reassociate="exact")
    assert "chunks" not in told(compiled, "done")


# ---- pairs of keys -------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(37, 64, 80), (100, 101, 67)])
def test_pairs_of_keys_by_gram_matrices(sizes: tuple[int, int, int]) -> None:
    n, j, k = sizes
    inputs = (
        normal(2, n, 12),
        normal(2, j, 12),
        normal(2, k, 12),
        normal(2, j, 9),
        normal(2, k, 9),
    )
    check(pairs, inputs, "in f64")


def test_triples_of_keys_by_gram_matrices() -> None:
    inputs = (normal(20, 8), normal(40, 8), normal(36, 8), normal(33, 8), normal(40, 5))
    check(triples, inputs, "in f64")


@pytest.mark.parametrize("positions", [192, 160])
def test_causal_pairs_of_keys_in_chunks(positions: int) -> None:
    inputs = [normal(2, positions, 8) for _ in range(5)]
    check(causal_pairs, inputs, "states of earlier chunks")


@pytest.mark.parametrize("positions", [48, 75])
def test_softmax_over_pairs_is_one_stream_without_pairs_in_its_states(positions: int) -> None:
    inputs = [normal(2, positions, 12) for _ in range(5)]
    check(softmax_pairs, inputs, "computes 3 reductions")


# ---- rounding ------------------------------------------------------------------------------------


def near_null(queries: Tensor, keys: Tensor, rank: int, distance: float) -> Tensor:
    """Queries that are orthogonal to all keys, which have this rank, but for a part this large."""
    basis = torch.linalg.svd(keys.double(), full_matrices=False).Vh[:, :rank]
    inside = queries.double() @ basis.mT @ basis
    return (queries.double() - (1.0 - distance) * inside).float()


@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4])
def test_causal_queries_near_the_null_space_of_keys(distance: float) -> None:
    k, v = normal(2, 4096, 4) @ normal(2, 4, 24), normal(2, 4096, 24)
    q = near_null(normal(2, 4096, 24), k, 4, distance)
    compiled = diagc.compile(causal_spherical, q, k, v, target="cpu")
    assert "chunks" in told(compiled, "done")
    judge(compiled, causal_spherical, (q, k, v))


@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4])
def test_queries_near_the_null_space_of_pairs(distance: float) -> None:
    """Products of keys of rank 2 each span at most four directions."""
    a, b = (normal(1, 80, 2) @ normal(1, 2, 12) for _ in range(2))
    both = einsum("hjd,hkd->hjkd", a, b).flatten(1, 2)
    q = near_null(normal(1, 60, 12), both, 4, distance)
    inputs = (q, a, b, normal(1, 80, 7), normal(1, 80, 7))
    compiled = diagc.compile(pairs, *inputs, target="cpu")
    assert "in f64" in told(compiled, "done")
    judge(compiled, pairs, inputs)


def judge(
    compiled: diagc.CompiledFunction, function: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> None:
    """The error beside that of eager torch and of scores that are streamed."""
    exact = function(*(x.double() for x in inputs))
    streamed = diagc.compile(function, *inputs, target="cpu", reassociate="off")
    result = compiled(*inputs)
    assert bool(result.isfinite().all())
    peers = max(error(function(*inputs), exact), error(streamed(*inputs), exact), 2.0**-22)
    assert error(result, exact) <= FACTOR * peers


def test_queries_of_zeros_give_zeros() -> None:
    q, k, v = (normal(1, 4096, 24) for _ in range(3))
    q[:, ::7] = 0.0
    compiled = diagc.compile(causal_spherical, q, k, v, target="cpu")
    assert "chunks" in told(compiled, "done")
    assert bool((compiled(q, k, v)[:, ::7] == 0.0).all())
