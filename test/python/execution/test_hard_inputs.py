"""Inputs on which rounding does most harm: no NaN, and no error far above that of other forms.

Every result is compared with float64; allowed is four times the largest error of the streamed form
(`reassociate="off"`) and of eager torch on the same input.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import diagc

Tensor = torch.Tensor
Inputs = tuple[Tensor, Tensor, Tensor]
Both = tuple[diagc.CompiledFunction, diagc.CompiledFunction]

FACTOR = 4.0
SHAPE = (1, 2, 2048, 64)  # long enough to be re-associated
KEYS, DEPTH = SHAPE[-2:]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bhqd,bhxd->bhqx", q, k)
    return nn.functional.normalize(scores, dim=-1) @ v


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1)) @ v


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape or SHAPE, dtype=dtype)


def plain() -> Inputs:
    return normal(), normal(), normal()


def scaled(queries: float, keys: float, values: float) -> Callable[[], Inputs]:
    return lambda: (normal() * queries, normal() * keys, normal() * values)


def low_rank_keys() -> Inputs:
    return normal(), normal(1, 2, KEYS, 8) @ normal(1, 2, 8, DEPTH), normal()


def queries_near_null_space(distance: float) -> Callable[[], Inputs]:
    """Keys span eight directions; queries are orthogonal to them but for a part this large."""

    def make() -> Inputs:
        basis = torch.linalg.qr(normal(DEPTH, DEPTH, dtype=torch.float64))[0]
        span, null = basis[:, :8], basis[:, 8:]
        keys = normal(1, 2, KEYS, 8, dtype=torch.float64) @ span.T
        queries = normal(1, 2, KEYS, DEPTH - 8, dtype=torch.float64) @ null.T
        queries += distance * normal(1, 2, KEYS, 8, dtype=torch.float64) @ span.T
        return queries.float(), keys.float(), normal()

    return make


def equal_keys() -> Inputs:
    return normal(), normal(1, 2, 1, DEPTH).expand(SHAPE).contiguous(), normal()


def repeated_keys() -> Inputs:
    return normal(), normal(1, 2, 16, DEPTH).repeat(1, 1, KEYS // 16, 1), normal()


def zero_queries() -> Inputs:
    q, k, v = plain()
    q[:, :, ::3] = 0
    return q, k, v


def decaying_keys() -> Inputs:
    """The last direction is the weakest by 1e-7, and half of the queries have only that one."""
    q, k, v = plain()
    q[:, :, ::2, :-1] = 0
    return q, k * torch.logspace(0, -7, DEPTH), v


def offset_keys() -> Inputs:
    """Keys are far from 0 in one direction, to which queries are orthogonal."""
    q, k, v = plain()
    direction = nn.functional.normalize(normal(1, 2, 1, DEPTH), dim=-1)
    return q - (q * direction).sum(-1, keepdim=True) * direction, k + 100 * direction, v


def uneven_rows() -> Inputs:
    q, k, v = plain()
    q[:, :, ::2] *= 1e-12
    q[:, :, 1::2] *= 1e12
    return q, k, v


CASES: dict[str, Callable[[], Inputs]] = {
    "plain": plain,
    "low-rank keys": low_rank_keys,
    "queries in the null space": queries_near_null_space(0.0),
    "queries 1e-3 off it": queries_near_null_space(1e-3),
    "queries 1e-5 off it": queries_near_null_space(1e-5),
    "equal keys": equal_keys,
    "repeated keys": repeated_keys,
    "zero queries": zero_queries,
    "zero keys": scaled(1.0, 0.0, 1.0),
    "decaying keys": decaying_keys,
    "offset keys": offset_keys,
    "uneven rows": uneven_rows,
    "scores of 1e4": scaled(40.0, 40.0, 1.0),
    "queries of 1e-20": scaled(1e-20, 1.0, 1.0),
    "queries of 1e18": scaled(1e18, 1.0, 1.0),
    "keys of 1e-20": scaled(1.0, 1e-20, 1.0),
    "values of 1e-20": scaled(1.0, 1.0, 1e-20),
    "values of 1e18": scaled(1.0, 1.0, 1e18),
    "queries and keys of 1e-15": scaled(1e-15, 1e-15, 1.0),
    "queries and keys of 1e8": scaled(1e8, 1e8, 1.0),
    "squares that overflow": scaled(1e10, 1e10, 1.0),  # eager gives zeros
    "all sums that overflow": scaled(1e15, 1e15, 1.0),
}


@pytest.fixture(scope="module")
def compiled() -> Callable[..., Both]:
    """Our form and the streamed one, compiled once for all inputs of a dtype."""
    made: dict[object, Both] = {}

    def find(function: Callable[..., Tensor], dtype: torch.dtype) -> Both:
        if (function, dtype) not in made:
            ours = diagc.compile(function, dynamic=False)
            made[function, dtype] = ours, diagc.compile(function, reassociate="off", dynamic=False)
        return made[function, dtype]

    return find


def error(found: Tensor, exact: Tensor) -> float:
    """Largest difference; infinite where a result is NaN or infinite and the exact one is not."""
    difference = (found.double() - exact)[exact.isfinite()].abs()
    return float(difference.nan_to_num(math.inf, math.inf).max()) if difference.numel() else 0.0


def assert_no_worse(
    ours: Tensor, others: list[Tensor], exact: Tensor, what: str, floor: float = 0.0
) -> None:
    """Finite where the exact result is, and as near to it as the others allow."""
    found, peers = error(ours, exact), [error(other, exact) for other in others]
    allowed = FACTOR * max([peer for peer in peers if math.isfinite(peer)], default=0.0) + floor
    assert found <= allowed, f"{what}: error {found:.3g}, of the others {peers}"


@DTYPES
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("function", [spherical, linear_attention])
def test_reassociated(
    function: Callable[..., Tensor],
    case: str,
    dtype: torch.dtype,
    compiled: Callable[..., Both],
) -> None:
    torch.manual_seed(len(case))
    inputs = [tensor.to(dtype) for tensor in CASES[case]()]
    exact = function(*(tensor.double() for tensor in inputs))
    ours, streamed = compiled(function, dtype)
    results = [streamed(*inputs), function(*inputs)]
    tiny = torch.finfo(dtype).tiny  # what rounds to 0 there
    assert_no_worse(ours(*inputs), results, exact, case, tiny)


def test_the_long_ones_are_reassociated() -> None:
    ours = diagc.compile(spherical, *plain(), dynamic=False)
    streamed = diagc.compile(spherical, *plain(), reassociate="off", dynamic=False)
    assert len(ours.kernels) > len(streamed.kernels)  # the guard and what it falls back to


@DTYPES
@pytest.mark.parametrize("scale", [1e-20, 1.0, 40.0, 1e8])
def test_softmax_of_any_scale(scale: float, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    inputs = [(normal(2, 3, 70, 32) * s).to(dtype) for s in (scale, scale, 1.0)]
    exact = softmax_attention(*(tensor.double() for tensor in inputs))
    ours, eager = diagc.compile(softmax_attention)(*inputs), softmax_attention(*inputs)
    floor = 4e-7 if dtype is torch.float32 else 4e-3  # eager may be exact: one key takes all
    assert_no_worse(ours, [eager], exact, f"scale {scale}", floor)


@DTYPES
def test_softmax_with_infinite_masks(dtype: torch.dtype) -> None:
    """Rows with many, one and no key; where eager has NaN, ours are zeros."""

    def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return torch.softmax(q @ k.transpose(-2, -1) + mask, dim=-1) @ v

    torch.manual_seed(4)
    q, k, v = (normal(2, 70, 32).to(dtype) for _ in range(3))
    q = q * 40
    keep = torch.rand(70, 70) < 0.5
    keep[3], keep[7], keep[7, 69] = False, False, True
    mask = torch.zeros(70, 70).masked_fill(~keep, -math.inf).to(dtype)
    exact = masked(q.double(), k.double(), v.double(), mask.double())
    ours, eager = diagc.compile(masked)(q, k, v, mask), masked(q, k, v, mask)
    assert exact[:, 3].isnan().all()
    assert (ours[:, 3] == 0).all()
    rows = keep.any(-1)
    floor = 4e-7 if dtype is torch.float32 else 8e-3
    assert_no_worse(ours[:, rows], [eager[:, rows]], exact[:, rows], "mask", floor)
    assert torch.equal(ours[:, 7], v[:, 69])


@DTYPES
@pytest.mark.parametrize("library", ["torch", "none"])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_layer_norm_far_from_zero(mean: float, library: str, dtype: torch.dtype) -> None:
    """The mean is a hundred standard deviations: variance as a difference would lose all."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.LayerNorm(192), nn.Linear(192, 64)).to(dtype)
    x = (normal(40, 192) + mean).to(dtype)
    with torch.no_grad():
        compiled_model = diagc.compile(model, x, library=library)
        ours, eager = compiled_model(x), model(x)
        exact = model.double()(x.double())
    assert_no_worse(ours, [eager], exact, f"mean {mean}", torch.finfo(dtype).eps)
