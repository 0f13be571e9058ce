"""Formulas that look like a known law and mean something else: each must keep its own meaning."""

import json
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import diagc

INF = float("inf")
TOLERANCE = 2e-6

Function = Callable[..., Tensor]


def total(x: Tensor, dim: int = -1) -> Tensor:
    return x.sum(dim, keepdim=True)


def operands(scale: float = 0.25) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    q, k, v = (torch.randn(2, n, 16, generator=generator) for n in (40, 40, 40))
    keep = torch.rand(40, 40, generator=generator) < 0.7
    keep[:, 0] = True
    return q * scale, k, v, keep


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT


def check(function: Function, *tensors: Tensor, tolerance: float = TOLERANCE) -> list[str]:
    """See that a compiled function gives the formula's numbers; gives its laws."""
    compiled = diagc.compile(function, *tensors)
    exact = function(*(t.double() if t.is_floating_point() else t for t in tensors))
    error = float((compiled(*tensors).double() - exact).abs().max() / exact.abs().max())
    assert error < tolerance
    report = json.loads(compiled.explain("json"))
    return [line for k in report["kernels"] for s in k["streams"] for line in s["law"]]


# ---- other axes, other places --------------------------------------------------------------------


def summed_over_queries(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    e = scores(q, k).exp()
    return (e / total(e, -2)) @ v


def maximum_of_columns(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """What is subtracted varies along the row, so it does not cancel."""
    s = scores(q, k)
    e = torch.exp(s - s.amax(-2, keepdim=True))
    return (e / total(e)) @ v


def divided_by_another_sum(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """The sum is not that of the exponentials above it."""
    s = scores(q, k)
    return (torch.exp(s - s.amax(-1, keepdim=True)) / total(s.exp())) @ v


def divided_by_the_sum_of_squares(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """Of degree -1 in the scale."""
    e = scores(q, k).exp()
    return (e / total(e * e)) @ v


def logarithm_of_another_sum(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    s = scores(q, k)
    return torch.exp(s - total(torch.exp(2 * s)).log()) @ v


def plain_sum(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    return scores(q, k).exp() @ v


def added_to_every_element(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    e = scores(q, k).exp() + 1
    return (e / total(e)) @ v


def masked_after(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """The sum counts all keys."""
    return (torch.softmax(scores(q, k), -1) * keep) @ v


def masked_below_only(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    e = scores(q, k).exp()
    return (e / total(e * keep)) @ v


def weighted(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """Factors of any size, 0 among them."""
    e = scores(q, k).exp() * F.relu(k[:, None, :, 0] - 0.5)
    return (e / total(e)) @ v


COUNTERS = (
    summed_over_queries, maximum_of_columns, divided_by_another_sum,
    divided_by_the_sum_of_squares, logarithm_of_another_sum, plain_sum, added_to_every_element,
    masked_after, masked_below_only, weighted,
)  # fmt: skip


@pytest.mark.parametrize("function", COUNTERS)
def test_keeps_its_own_meaning(function: Function) -> None:
    check(function, *operands())


@pytest.mark.parametrize("function", [plain_sum, masked_below_only])
def test_no_maximum_is_subtracted_where_it_does_not_cancel(function: Function) -> None:
    assert not any("maximum" in line for line in check(function, *operands()))


def test_mask_after_the_normaliser_leaves_its_sum_alone() -> None:
    laws = check(masked_after, *operands())
    sums = [line for line in laws if line.startswith("z")]
    assert sums
    assert not any("select" in line for line in sums)


# ---- eps -----------------------------------------------------------------------------------------

EPS = 3.0  # as large as the norms, so that its place shows

NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "inside the root": lambda s: s / (total(s * s) + EPS).sqrt(),
    "outside the root": lambda s: s / (total(s * s).sqrt() + EPS),
    "at least": lambda s: F.normalize(s, dim=-1, eps=EPS),
    "of the mean": lambda s: s * torch.rsqrt(s.square().mean(-1, keepdim=True) + EPS),
    "beside exponentials": lambda s: s.exp() / (total(s.exp()) + EPS),
    "of exponentials at least": lambda s: s.exp() / total(s.exp()).clamp_min(40 * EPS),
}


@pytest.mark.parametrize("place", NORMS)
def test_eps_stays_in_its_place(place: str) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return NORMS[place](scores(q, k)) @ v

    assert check(function, *operands()[:3])


# ---- range ---------------------------------------------------------------------------------------


def naive(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    e = scores(q, k).exp()
    return (e / total(e)) @ v


def one_more(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    e = scores(q, k).exp()
    return (e / (1 + total(e))) @ v


def naive_log(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    return scores(q, k).exp().sum(-1).log()


def multiplied(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    e = (scores(q, k) + 300.0 * ~keep).exp() * keep
    return (e / total(e)) @ v


def in_another_place(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    s = scores(q, k)
    e = torch.exp(s - s.max())
    return (e / total(e)) @ v


@pytest.mark.parametrize("function", [naive, one_more, naive_log, multiplied, in_another_place])
def test_large_scores_do_not_overflow(function: Function) -> None:
    """Scores up to some 200, and excluded ones 300 above: exp overflows in f32, not in f64."""
    q, k, v, keep = operands(scale=12.0)
    assert float(scores(q, k).max()) > 100
    check(function, q, k, v, keep, tolerance=1e-4)  # 12 digits of a score of 200 are 1e-5


@pytest.mark.parametrize("scale", [-12.0, 12.0])
def test_small_rows_beside_a_large_one_do_not_vanish(scale: float) -> None:
    q, k, v, keep = operands(scale=scale)
    q[:, ::2] *= 0.01
    check(in_another_place, q, k, v, keep, tolerance=1e-4)


@pytest.mark.parametrize("lse", [lambda s: s.exp().sum(-1).log(), lambda s: s.logsumexp(-1)])
def test_log_sum_exp_of_infinite_rows(lse: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(3, 5000, generator=torch.Generator().manual_seed(3))
    x[0, 7], x[1] = INF, -INF
    found = diagc.compile(lse, x)(x)
    assert torch.equal(found[:2], torch.tensor([INF, -INF]))
    torch.testing.assert_close(found[2], x[2].double().logsumexp(-1).float())


def test_nan_of_one_score_stays_in_its_row() -> None:
    q, k, v, keep = operands()
    q[0, 3] = float("nan")
    for function in (naive, multiplied):
        found = diagc.compile(function, q, k, v, keep)(q, k, v, keep)
        assert found[0, 3].isnan().all()
        assert not found[0, :3].isnan().any()


WITH_NAN: dict[str, Callable[[Tensor], Tensor]] = {
    "where": lambda s: torch.where(s > 0, s, 0.0),
    "product": lambda s: s * (s > 0),
    "sign * abs": lambda s: s.sign() * s.abs(),
    "root of the square": lambda s: (s * s).sqrt(),
    "both signs": lambda s: F.relu(s) + F.relu(-s),
}


@pytest.mark.parametrize("name", WITH_NAN)
def test_nan_and_infinities_are_those_of_the_formula(name: str) -> None:
    x = torch.tensor([[1.0, -2.0, float("nan"), INF, -INF, 0.0, -0.0, 1e-30]]).repeat(4, 1)
    found = diagc.compile(WITH_NAN[name], x)(x)
    expected = WITH_NAN[name](x)
    torch.testing.assert_close(found[:, :7], expected[:, :7], equal_nan=True)
