"""Regions that nobody listed, made at random, compile to kernels and stream; no fall-back.

Each is a chain of one to three contractions, or none, with a function of the scores between them
and one or two statistics below the line; some give the statistics as results, too.
"""

import json
import math
from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import Tensor

import diagc

Row = Callable[[Tensor], Tensor]

FUNCTIONS: dict[str, Row] = {
    "itself": lambda s: s,
    "relu": torch.relu,
    "square": torch.square,
    "exponential": lambda s: torch.exp(s - s.amax(-1, keepdim=True)),
    "sigmoid": torch.sigmoid,
    "soft threshold": lambda s: torch.where(s.abs() > 0.5, s - 0.5 * torch.sign(s), 0.0),
    "window": lambda s: s.tril() if s.shape[-1] == s.shape[-2] else s,
}
STATISTICS: dict[str, Row] = {
    "sum of absolutes": lambda s: s.abs().sum(-1, keepdim=True),
    "norm": lambda s: s.square().sum(-1, keepdim=True).sqrt(),
    "largest": lambda s: s.abs().amax(-1, keepdim=True),
    "mean square": lambda s: s.square().mean(-1, keepdim=True),
    "log of sum": lambda s: torch.log1p(torch.relu(s).sum(-1, keepdim=True)),
}


class Region:
    """A function of queries, keys and values, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        rng = Random(seed)
        self.function = rng.choice(list(FUNCTIONS))
        self.statistics = rng.sample(list(STATISTICS), rng.choice([1, 2, 2]))
        self.contractions = seed % 4
        self.gives_statistics = rng.random() < 0.5

    def __str__(self) -> str:
        parts = [f"{self.contractions} contractions", self.function, *self.statistics]
        return ", ".join(parts + ["given"] * self.gives_statistics)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) if self.contractions else q * 1.5
        weights = FUNCTIONS[self.function](scores)
        found = [STATISTICS[name](scores) for name in self.statistics]
        out = weights / (sum(found[1:], found[0]) + 0.1)
        out = out @ v if self.contractions > 1 else out.sum(-1)
        if self.contractions > 2:
            out = torch.tanh(out @ k.transpose(-2, -1)) @ v
        return (out, *found) if self.gives_statistics else (out,)


def operands(seed: int, contractions: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    length = 150 + seed
    shapes = [(2, length, 24)] * 3 if contractions else [(40, 6000)] * 3
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    return q, k, v


@pytest.mark.parametrize("seed", range(16))
def test_region(seed: int) -> None:
    region = Region(seed)
    inputs = operands(seed, region.contractions)
    compiled = diagc.compile(region, *inputs)
    report = json.loads(compiled.explain("json"))
    assert report["fall_back"] is False, region
    assert [kernel["fall_back"] for kernel in report["kernels"] if kernel["fall_back"]] == []
    if region.contractions != 1:  # else the axis is short and nothing is contracted over it
        assert any(kernel["streams"] for kernel in report["kernels"]), region
    exact = region(*(t.double() for t in inputs))
    results = zip(compiled(*inputs), region(*inputs), exact, strict=True)
    for number, (found, eager, wanted) in enumerate(results):
        error, peer = (float((t.double() - wanted).abs().max()) for t in (found, eager))
        unit = 2e-6 * float(wanted.abs().max())
        assert error <= 4 * peer + unit, f"{region}, result {number}: {error:.2g}, {peer:.2g}"
