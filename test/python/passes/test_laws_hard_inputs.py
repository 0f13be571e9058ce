"""Inputs on which a legal rewrite loses digits: compiled f32 programs against float64 and eager."""

from collections.abc import Callable

import pytest
import torch

import diagc

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

HEADS, QUERIES, KEYS = 2, 256, 512

MOST = 4.0
"""How many times the error of the eager program in f32 a compiled one may have."""


def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return q @ k.transpose(-1, -2)


def spherical(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    s = scores(q, k)
    return (s / torch.linalg.vector_norm(s, dim=-1, keepdim=True)) @ v


def unnormalised(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return scores(q, k) @ v


def softmax(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax(scores(q, k), -1) @ v


def sign_normalised(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    s = scores(q, k)
    return (s / s.abs().sum(-1, keepdim=True)) @ v


def gaussian(depth: int, seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)

    def normal(length: int, width: int) -> torch.Tensor:
        return torch.randn(HEADS, length, width, generator=generator)

    return normal(QUERIES, depth), normal(KEYS, depth), normal(KEYS, 24)


def low_rank(depth: int, rank: int) -> Tensors:
    q, k, v = gaussian(depth, 1)
    basis = torch.randn(HEADS, rank, depth, generator=torch.Generator().manual_seed(2))
    return q, k[..., :rank] @ basis, v


def near_null(depth: int, rank: int) -> Tensors:
    """Queries that are nearly orthogonal to all keys, by factors from 1 to 1e-6."""
    q, k, v = low_rank(depth, rank)
    q64, k64 = q.double(), k.double()
    basis = torch.linalg.svd(k64, full_matrices=False).Vh[:, :rank]
    inside = q64 @ basis.transpose(-1, -2) @ basis
    share = torch.logspace(0, -6, QUERIES, dtype=torch.float64)[:, None]
    return (q64 - inside + share * inside).float(), k, v


def repeated(depth: int) -> Tensors:
    q, k, v = gaussian(depth, 3)
    return q, k[:, :4].repeat_interleave(KEYS // 4, dim=1), v


def offset(depth: int) -> Tensors:
    q, k, v = gaussian(depth, 4)
    return q, k + 10.0, v


def large(depth: int) -> Tensors:
    q, k, v = gaussian(depth, 5)
    return q * 1e4 / depth**0.5, k, v


INPUTS: dict[str, Callable[[], Tensors]] = {
    "gaussian": lambda: gaussian(32, 0),
    "rank 1": lambda: low_rank(32, 1),
    "rank 2": lambda: low_rank(16, 2),
    "rank 8": lambda: low_rank(64, 8),
    "near null space": lambda: near_null(32, 4),
    "repeated keys": lambda: repeated(32),
    "keys with an offset": lambda: offset(32),
    "scores of 1e4": lambda: large(32),
}


def errors(
    function: Callable[..., torch.Tensor], inputs: Tensors, compiled: Callable[..., torch.Tensor]
) -> tuple[float, float]:
    """The largest error of the compiled and of the eager program, both in f32."""
    exact = function(*(x.double() for x in inputs))
    found, eager = compiled(*inputs), function(*inputs)
    assert torch.isfinite(found).all()
    return tuple((x.double() - exact).abs().max().item() for x in (found, eager))  # type: ignore[return-value]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize(
    "function", [spherical, unnormalised, softmax, sign_normalised], ids=lambda f: f.__name__
)
def test_errors_stay_near_those_of_eager(function: Callable[..., torch.Tensor], name: str) -> None:
    inputs = INPUTS[name]()
    ours, theirs = errors(function, inputs, diagc.compile(function, *inputs))
    scale = function(*inputs).abs().max().item()
    assert ours <= max(MOST * theirs, 1e-6 * scale), f"{ours:.2e} against {theirs:.2e}"


def test_the_sums_of_squares_were_contracted_in_another_order() -> None:
    """Else the tests above show nothing."""
    inputs = gaussian(32, 0)
    laws = diagc.compile(spherical, *inputs).explain("json")
    exact = diagc.compile(spherical, *inputs, reassociate="off").explain("json")
    assert "o2: sum of a * c" in str(laws)
    assert "o2: sum of a * c" not in str(exact)


def test_rows_of_zeros_give_zeros() -> None:
    q, k, v = gaussian(32, 6)
    q[:, 3] = 0.0
    found = diagc.compile(spherical, q, k, v)(q, k, v)
    assert (found[:, 3] == 0.0).all()
    assert torch.isfinite(found).all()


def normalised_linear(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:]) @ w + b


@pytest.mark.parametrize("width", [64, 1024])
def test_normalised_features_with_a_mean_of_a_hundred_deviations(width: int) -> None:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(40, width, generator=generator) + 100.0
    w = torch.randn(width, 16, generator=generator)
    b = torch.randn(16, generator=generator)
    exact = normalised_linear(x.double(), w.double(), b.double())
    found = diagc.compile(normalised_linear, x, w, b)(x, w, b)
    ours, theirs = ((y.double() - exact).abs().max() for y in (found, normalised_linear(x, w, b)))
    assert ours <= MOST * theirs
