"""Tiles: sums of two products of the same rows, scaled or not and whichever way they lie."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import diagc
from diagc.testing.seed import SEED

SUMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": lambda q, a, b: q @ a + q @ b,
    "first scaled": lambda q, a, b: (q @ a) * 0.5 + q @ b,
    "second scaled": lambda q, a, b: q @ a + (q @ b) * 0.25,
    "second turned": lambda q, a, b: q @ a + q @ b.mT,
    "first turned": lambda q, a, b: q @ a.mT + q @ b,
    "difference": lambda q, a, b: q @ a - q @ b.mT,
}
DTYPES = {
    "f32": (torch.float32,) * 3,
    "f16": (torch.float16,) * 3,
    "bf16": (torch.bfloat16,) * 3,
    "f32, f16": (torch.float32, torch.float16, torch.float32),
    "f32, bf16": (torch.float32, torch.float32, torch.bfloat16),
}


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("name", SUMS)
def test_two_products_of_the_same_rows(name: str, dtypes: str) -> None:
    generator = torch.Generator().manual_seed(SEED)
    shapes = ((2, 3, 40, 32), (2, 3, 32, 32), (2, 3, 32, 32))
    inputs = [
        torch.randn(shape, generator=generator).to(dtype)
        for shape, dtype in zip(shapes, DTYPES[dtypes], strict=True)
    ]

    def function(q: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return SUMS[name](q.float(), a.float(), b.float())

    compiled = diagc.compile(function, *inputs, target="nvptx:sm_80", library="none")
    found, report = diagc.simulate(compiled, *inputs)
    exact = SUMS[name](*(x.double() for x in inputs))
    assert not report.findings
    assert float((found - exact).abs().max()) <= 1e-6 * float(exact.abs().max())
