"""One law however it is spelled: attention in plain torch code, written in many ways.

Every spelling must give the stream of its reference spelling, state by state, in one kernel, and
the numbers of its own formula in float64.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import diagc

HEADS, QUERIES, KEYS, WIDTH, VALUES = 2, 40, 72, 16, 24
INF = float("inf")

Weights = Callable[[Tensor], Tensor]


# ---- normalisers ---------------------------------------------------------------------------------


def total(x: Tensor) -> Tensor:
    return x.sum(-1, keepdim=True)


def shifted(s: Tensor) -> Tensor:
    return torch.exp(s - s.amax(-1, keepdim=True))


def over_sum(e: Tensor) -> Tensor:
    return e / total(e)


def nothing(s: Tensor) -> Tensor:
    return torch.zeros_like(s[..., :1])


def above_zero(s: Tensor) -> Tensor:
    return s.amax(-1, keepdim=True).clamp_min(0)


def by_hand_logsumexp(s: Tensor) -> Tensor:
    m = s.max(dim=-1, keepdim=True).values
    return torch.exp(s - (m + torch.log(total(torch.exp(s - m)))))


SOFTMAX: Mapping[str, Weights] = {
    "softmax": lambda s: torch.softmax(s, -1),
    "F.softmax": lambda s: F.softmax(s, dim=-1, dtype=s.dtype),
    "softmin": lambda s: F.softmin(-s, dim=-1),
    "amax": lambda s: shifted(s) / total(shifted(s)),
    "max.values": lambda s: (s - s.max(dim=-1, keepdim=True)[0]).exp().div(total(shifted(s))),
    "reciprocal": lambda s: shifted(s) * total(shifted(s)).reciprocal(),
    "one over": lambda s: shifted(s) * (1.0 / total(shifted(s))),
    "no maximum": lambda s: s.exp() / total(s.exp()),
    "no maximum, einsum": lambda s: s.exp() / torch.einsum("hqx->hq", s.exp())[..., None],
    "maximum of all": lambda s: torch.exp(s - s.max()) / total(torch.exp(s - s.max())),
    "detached": lambda s: (s - s.amax(-1, keepdim=True).detach()).exp().div(total(shifted(s))),
    "mean subtracted": lambda s: over_sum(torch.exp(s - s.mean(-1, keepdim=True))),
    "exp2": lambda s: over_sum(torch.exp2(s * 1.4426950408889634)),
    "power of e": lambda s: over_sum(torch.pow(2.718281828459045, s)),
    "logsumexp": lambda s: torch.exp(s - torch.logsumexp(s, -1, keepdim=True)),
    "logsumexp by hand": by_hand_logsumexp,
    "logsumexp without maximum": lambda s: torch.exp(s - total(s.exp()).log()),
    "log_softmax": lambda s: F.log_softmax(s, dim=-1).exp(),
    "ratio of logs": lambda s: torch.exp(torch.log_softmax(s, -1)),
}  # fmt: skip

SOFTMAX1: Mapping[str, Weights] = {
    "clamped": lambda s: (
        torch.exp(s - above_zero(s))
        / (torch.exp(-above_zero(s)) + total(torch.exp(s - above_zero(s))))
    ),
    "no maximum": lambda s: s.exp() / (1 + total(s.exp())),
    "no maximum, reciprocal": lambda s: s.exp() * (total(s.exp()) + 1.0).reciprocal(),
    "zero in front": lambda s: F.pad(s, (1, 0)).softmax(-1)[..., 1:],
    "zero behind": lambda s: over_sum(shifted(F.pad(s, (0, 1))))[..., :-1],
    "zeros joined": lambda s: F.softmax(torch.cat([s, nothing(s)], -1), -1)[..., :-1],
}  # fmt: skip

L2: Mapping[str, Weights] = {
    "vector_norm": lambda s: s / torch.linalg.vector_norm(s, dim=-1, keepdim=True),
    "linalg.norm": lambda s: s / torch.linalg.norm(s, dim=-1, keepdim=True),
    "norm": lambda s: s / s.norm(dim=-1, keepdim=True),
    "norm p=2": lambda s: s * (1.0 / s.norm(p=2, dim=-1, keepdim=True)),
    "sqrt(sum(square))": lambda s: s / torch.sqrt(torch.sum(torch.square(s), -1, keepdim=True)),
    "pow(2)": lambda s: s / s.pow(2).sum(-1, keepdim=True).sqrt(),
    "x * x": lambda s: s / total(s * s) ** 0.5,
    "rsqrt": lambda s: s * torch.rsqrt(total(s * s)),
    "pow(-0.5)": lambda s: s * total(s * s).pow(-0.5),
    "abs ** 2": lambda s: s / total(s.abs() ** 2).sqrt(),
    "mean times n": lambda s: s / (s.square().mean(-1, keepdim=True) * s.shape[-1]).sqrt(),
    "div": lambda s: s.div(total(s.square()).sqrt()),
}

L1: Mapping[str, Weights] = {
    "abs().sum()": lambda s: s / s.abs().sum(-1, keepdim=True),
    "vector_norm": lambda s: s / torch.linalg.vector_norm(s, ord=1, dim=-1, keepdim=True),
    "norm p=1": lambda s: s / s.norm(p=1, dim=-1, keepdim=True),
    "normalize": lambda s: F.normalize(s, p=1.0, dim=-1, eps=0.0),
    "sign * abs": lambda s: s.sign() * s.abs() / total(s.abs()),
    "relu of both signs": lambda s: s / total(F.relu(s) + F.relu(-s)),
    "maximum of both signs": lambda s: s / total(torch.maximum(s, -s)),
    "sqrt of squares": lambda s: s / total((s * s).sqrt()),
}

RELU: Mapping[str, Weights] = {
    "relu": lambda s: F.relu(s) / total(F.relu(s)),
    "clamp": lambda s: s.clamp(min=0) / total(s.clamp(min=0)),
    "clamp_min": lambda s: s.clamp_min(0.0) * total(s.clamp_min(0.0)).reciprocal(),
    "maximum": lambda s: torch.maximum(s, torch.zeros(())) / total(F.relu(s)),
}

LAWS: Mapping[str, Mapping[str, Weights]] = {
    "softmax": SOFTMAX, "softmax1": SOFTMAX1, "l2": L2, "l1": L1, "relu": RELU,
}  # fmt: skip


# ---- products, scales, masks ---------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """How scores are made from queries and keys, and results from weights and values."""

    scores: Callable[[Tensor, Tensor], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]


PRODUCTS: Mapping[str, Product] = {
    "@": Product(lambda q, k: q @ k.transpose(-2, -1), lambda w, v: w @ v),
    "matmul, mT": Product(lambda q, k: torch.matmul(q, k.mT), torch.matmul),
    "bmm": Product(lambda q, k: torch.bmm(q, k.permute(0, 2, 1)), torch.bmm),
    "einsum": Product(
        lambda q, k: torch.einsum("hqd,hxd->hqx", q, k),
        lambda w, v: torch.einsum("hqx,hxe->hqe", w, v),
    ),
    "keys first": Product(
        lambda q, k: torch.einsum("hxd,hqd->hxq", k, q).transpose(-1, -2),
        lambda w, v: torch.einsum("hxe,hqx->hqe", v, w),
    ),
    "transposed": Product(
        lambda q, k: (k @ q.transpose(-2, -1)).transpose(-2, -1),
        lambda w, v: (v.transpose(-2, -1) @ w.transpose(-2, -1)).transpose(-2, -1),
    ),
    "heads inside": Product(
        lambda q, k: torch.einsum("qhd,xhd->hqx", q.transpose(0, 1), k.transpose(0, 1)),
        lambda w, v: torch.einsum("hqx,xhe->qhe", w, v.transpose(0, 1)).transpose(0, 1),
    ),
    "product and sum": Product(
        lambda q, k: (q[:, :, None, :] * k[:, None, :, :]).sum(-1),
        lambda w, v: (w[..., None] * v[:, None]).sum(-2),
    ),
}

SCALES: Mapping[str, Callable[[Product, Tensor, Tensor], Tensor]] = {
    "after": lambda p, q, k: p.scores(q, k) * WIDTH**-0.5,
    "divided": lambda p, q, k: p.scores(q, k) / WIDTH**0.5,
    "queries": lambda p, q, k: p.scores(q * WIDTH**-0.5, k),
    "keys": lambda p, q, k: p.scores(q, k / WIDTH**0.5),
    "both": lambda p, q, k: p.scores(q * WIDTH**-0.25, k * WIDTH**-0.25),
}

MASKS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "where": lambda s, keep: torch.where(keep, s, -INF),
    "masked_fill": lambda s, keep: s.masked_fill(~keep, -INF),
    "additive": lambda s, keep: s + torch.zeros_like(s).masked_fill(~keep, -INF),
    "log of mask": lambda s, keep: s + keep.to(s.dtype).log(),
}


def multiplied(s: Tensor, keep: Tensor) -> Tensor:
    """The mask as a factor of the exponential."""
    e = s.exp() * keep
    return e / total(e)


def zeroed(s: Tensor, keep: Tensor) -> Tensor:
    e = torch.where(keep, s.exp(), 0.0)
    return e / total(e)


# ---- what is asserted ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What the compiler made: kernels, streams state by state, what stayed outside."""

    kernels: int
    states: tuple[str, ...]
    outside: tuple[str, ...]
    error: float


def operands() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    sizes = ((QUERIES, WIDTH), (KEYS, WIDTH), (KEYS, VALUES))
    q, k, v = (torch.randn(HEADS, *size, generator=generator) for size in sizes)
    keep = torch.rand(QUERIES, KEYS, generator=generator) < 0.7
    keep[:, 0] = True
    return q, k, v, keep


def found(function: Callable[..., Tensor], *tensors: Tensor) -> Found:
    compiled = diagc.compile(function, *tensors, reassociate="off")
    report = json.loads(compiled.explain("json"))
    exact = function(*(t.double() if t.is_floating_point() else t for t in tensors))
    error = float((compiled(*tensors).double() - exact).abs().max() / exact.abs().max())
    streams = [stream for kernel in report["kernels"] for stream in kernel["streams"]]
    lines = [canonical(line) for stream in streams for line in stream["law"]]
    outside = [work["what"] for work in report["outside"]]
    return Found(len(report["kernels"]), tuple(lines), tuple(outside), error)


def canonical(line: str) -> str:
    """A state's law without the scale of scores and the order of factors; masks as one select."""
    line = (
        re.sub(r" \* (0\.25|0\.5)| / (4|2)\b", "", line)
        .replace("(a)", "a")
        .replace("absa", "abs(a)")
    )
    line = line.replace("select(not a, -inf, b)", "select(a, b, -inf)")
    line = line.replace("a + select(b, 0, -inf)", "select(a, b, -inf)")
    return re.sub(r"^o: sum of b \* ([^,]*(?:\([^)]*\))?)(?=,|$)", r"o: sum of \1 * b", line)


def attention(weights: Weights, product: str = "@", scale: str = "after") -> Callable[..., Tensor]:
    p = PRODUCTS[product]

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return p.apply(weights(SCALES[scale](p, q, k)), v)

    return function


@cache
def reference(law: str) -> Found:
    return found(attention(next(iter(LAWS[law].values()))), *operands()[:3])


def assert_same(one: Found, law: Found) -> None:
    assert sorted(one.states) == sorted(law.states)
    assert (one.kernels, one.outside) == (law.kernels, law.outside)
    assert one.error < 2e-6


# ---- one law -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "spelling"), [(law, name) for law, names in LAWS.items() for name in names]
)
def test_normaliser_is_found_however_it_is_spelled(law: str, spelling: str) -> None:
    assert reference(law).states, "the reference streams"
    assert_same(found(attention(LAWS[law][spelling]), *operands()[:3]), reference(law))


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(("law", "spelling"), [("softmax", "no maximum"), ("l2", "rsqrt")])
def test_product_is_found_however_it_is_spelled(law: str, spelling: str, product: str) -> None:
    assert_same(found(attention(LAWS[law][spelling], product), *operands()[:3]), reference(law))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("law", "spelling"), [("softmax", "log_softmax"), ("l1", "sign * abs")])
def test_scale_stands_anywhere(law: str, spelling: str, scale: str) -> None:
    function = attention(LAWS[law][spelling], "einsum", scale)
    assert_same(found(function, *operands()[:3]), reference(law))


@cache
def masked_reference() -> Found:
    def function(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return torch.softmax((q @ k.mT * 0.25).masked_fill(~keep, -INF), -1) @ v

    return found(function, *operands())


@pytest.mark.parametrize("mask", ["where", "masked_fill", "additive"])
@pytest.mark.parametrize("spelling", ["softmax", "amax", "no maximum", "log_softmax"])
def test_mask_is_found_however_it_is_spelled(spelling: str, mask: str) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return SOFTMAX[spelling](MASKS[mask](q @ k.mT * 0.25, keep)) @ v

    assert_same(found(function, *operands()), masked_reference())


@pytest.mark.parametrize("weights", [multiplied, zeroed])
def test_mask_after_the_exponential_is_a_mask_before(
    weights: Callable[[Tensor, Tensor], Tensor],
) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return weights(q @ k.mT * 0.25, keep) @ v

    assert_same(found(function, *operands()), masked_reference())


def late(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Divided after the values."""
    e = (q @ k.mT * 0.25).exp()
    return (e @ v) / total(e)


def appended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Divided after the values, and with a mean for a sum."""
    e = (q @ k.mT * 0.25).exp()
    return (e @ v) / e.shape[-1] / e.mean(-1, keepdim=True)


@pytest.mark.parametrize("function", [late, appended])
def test_division_after_the_values(function: Callable[..., Tensor]) -> None:
    assert_same(found(function, *operands()[:3]), reference("softmax"))


LSE: Mapping[str, Weights] = {
    "logsumexp": lambda s: torch.logsumexp(s, -1),
    "no maximum": lambda s: s.exp().sum(-1).log(),
    "by hand": lambda s: s.amax(-1) + (s - s.amax(-1, keepdim=True)).exp().sum(-1).log(),
    "from log_softmax": lambda s: (s - s.log_softmax(-1)).amax(-1),
}


@pytest.mark.parametrize("spelling", LSE)
def test_log_sum_exp_beside_attention_has_no_state_of_its_own(spelling: str) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        s = q @ k.mT * 0.25
        return torch.cat([SOFTMAX["no maximum"](s) @ v, LSE[spelling](s)[..., None]], -1)

    made = found(function, *operands()[:3])
    assert made.error < 2e-6
    if spelling in ("logsumexp", "no maximum"):
        assert made.states == reference("softmax").states


ENTROPIES: Mapping[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "log_softmax": lambda s: (s.softmax(-1), s.log_softmax(-1)),
    "log of softmax": lambda s: (s.softmax(-1), s.softmax(-1).log()),
    "log of a quotient": lambda s: (over_sum(shifted(s)), over_sum(shifted(s)).log()),
    "log of a product": lambda s: (
        over_sum(s.exp()),
        torch.log(s.exp() * total(s.exp()).reciprocal()),
    ),
}


@pytest.mark.parametrize("product", ["sum", "einsum"])
@pytest.mark.parametrize("spelling", ENTROPIES)
def test_entropy_streams_beside_attention(spelling: str, product: str) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        p, log_p = ENTROPIES[spelling](q @ k.mT * 0.25)
        entropy = total(p * log_p)
        if product == "einsum":
            entropy = torch.einsum("hqx,hqx->hq", p, log_p)[..., None]
        return p @ v - entropy

    got = found(function, *operands()[:3])
    assert (got.kernels, got.outside) == (1, ())
    assert any("- m" in line for line in got.states), "scores below their maximum are summed"
    assert got.error < 2e-6


def test_entropy_is_finite_where_weights_are_too_small() -> None:
    def entropy(s: Tensor) -> Tensor:
        return -(s.softmax(-1) * s.softmax(-1).log()).sum(-1)

    scores = torch.linspace(-300, 0, 5000).repeat(3, 1)
    exact = -(scores.double().softmax(-1) * scores.double().log_softmax(-1)).sum(-1)
    torch.testing.assert_close(diagc.compile(entropy, scores)(scores), exact.float())
    masked = scores.masked_fill(torch.arange(5000) < 10, -INF)
    assert diagc.compile(entropy, masked)(masked).isnan().all(), "0 * log 0, as in eager torch"


def test_an_element_of_a_softmax_that_a_label_picks_streams() -> None:
    generator = torch.Generator().manual_seed(5)
    x, w = (torch.randn(n, WIDTH, generator=generator) for n in (QUERIES, 3 * KEYS))
    labels = torch.randint(0, 3 * KEYS, (QUERIES,), generator=generator)
    for log_p in (lambda s: s.log_softmax(-1), lambda s: s.softmax(-1).log()):
        got = found(lambda x, w, t, log_p=log_p: F.nll_loss(log_p(x @ w.T), t), x, w, labels)
        assert got.states
        assert got.outside == ("diagc.check_labels.default",)
        assert got.error < 2e-6


DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": lambda q, k: ((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1),
    "absolute": lambda q, k: (q.unsqueeze(-2) - k.unsqueeze(-3)).abs().sum(-1),
    "largest": lambda q, k: (q.unsqueeze(-2) - k.unsqueeze(-3)).abs().amax(-1),
}


@pytest.mark.parametrize("distance", DISTANCES)
def test_attention_by_distances_streams_as_that_by_products(distance: str) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (-DISTANCES[distance](q, k) * 0.25).softmax(-1) @ v

    got = found(function, *operands()[:3])
    assert (got.kernels, got.outside) == (1, ())
    assert got.states
    assert got.error < 2e-6


def test_norms_of_keys_alone_are_no_scores_of_pairs() -> None:
    got = found(lambda q, k, v: (-k.square().sum(-1)).softmax(-1)[:, None] @ v, *operands()[:3])
    assert not got.states, "one score a key is stored: a short row is no reason for a stream"
    assert got.error < 2e-6
