"""Reductions, softmax and norms, raised by both adapters."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagc.frontend.torch import ImportedProgram

GENERATOR = torch.Generator().manual_seed(2)
X = torch.randn(3, 5, 8, generator=GENERATOR)
ROW = torch.randn(8, generator=GENERATOR)
norm = torch.linalg.vector_norm

CASES: dict[str, Callable[[Tensor], Any]] = {
    "sum": lambda a: (a.sum(), a.sum(1), a.sum((0, 2), keepdim=True), a.sum(-1, True)),
    "mean": lambda a: (a.mean(), a.mean(-1), a.mean((0, 1), keepdim=True)),
    "extremes": lambda a: (a.amax(1), a.amin((0, 2)), a.max(), a.min(), a.max(1).values),
    "product": lambda a: (a.prod(1), a.prod()),
    "any and all": lambda a: ((a > 0).any(1), (a > 0).all(), a.any(), a.all(2, keepdim=True)),
    "variance": lambda a: (
        a.var(1),
        a.var((0, 1), unbiased=False),
        a.var(),
        a.var(1, correction=0),
    ),
    "deviation": lambda a: (a.std(2, keepdim=True), torch.var_mean(a, 1)),
    "log sum exp": lambda a: (a.logsumexp(1), torch.logsumexp(a * 1000, (0, 2), keepdim=True)),
    "norms": lambda a: (a.norm(dim=1), a.norm(), a.norm(p=1, dim=2), torch.linalg.norm(a, dim=1)),
    "vector norms": lambda a: (norm(a, 1, 1), norm(a, math.inf, (1, 2)), norm(a, -math.inf, 1)),
    "other norms": lambda a: (norm(a, 3, 1), norm(a, 0, 1), norm(a, 2.5, keepdim=True)),
    "softmax": lambda a: (a.softmax(-1), a.softmax(0), F.softmin(a, 1), (a * 1000).softmax(1)),
    "log softmax": lambda a: (F.log_softmax(a, 1), F.log_softmax(a * 1000, -1)),
    "rms norm": lambda a: (
        F.rms_norm(a, (8,), eps=1e-3),
        F.rms_norm(a, (5, 8)),
        F.rms_norm(a, (8,)),
    ),
    "layer norm": lambda a: (F.layer_norm(a, (8,)), F.layer_norm(a, (5, 8), eps=0.1)),
    "normalize": lambda a: (F.normalize(a, dim=-1), F.normalize(a, p=1, dim=1)),
    "group norm": lambda a: F.group_norm(a.transpose(1, 2), 2),
    "batch norm": lambda a: F.batch_norm(a, a.new_zeros(5), a.new_ones(5)),
    "of broadcasts": lambda a: (
        a[:, None].expand(3, 4, 5, 8).sum(1),
        a[:, None].expand(3, 4, 5, 8).softmax(1),
    ),
    "along size 1": lambda a: (
        a[:, :1].softmax(1),
        a[..., :1].mean(-1),
        F.layer_norm(a[..., :1], (1,)),
        F.rms_norm(a[..., :1], (1,)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_reduction(name: str, check_import: Callable[..., ImportedProgram]) -> None:
    assert not check_import(CASES[name], X).externs


def test_norms_with_gain_and_bias(check_import: Callable[..., ImportedProgram]) -> None:
    def function(a: Tensor, gain: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        return F.layer_norm(a, (8,), gain, bias), F.rms_norm(a, (8,), gain, 1e-3)

    program = check_import(function, X, ROW, ROW + 1)
    assert not program.externs
    assert 'kind = "layer"' in str(program.module)
    assert 'kind = "rms"' in str(program.module)


def test_native_layer_norm_with_statistics(check_import: Callable[..., ImportedProgram]) -> None:
    assert not check_import(
        lambda a, g: torch.native_layer_norm(a, (8,), g, g, 1e-5), X, ROW
    ).externs


def test_sums_of_bf16_are_taken_in_f32(check_import: Callable[..., ImportedProgram]) -> None:
    x = X.to(torch.bfloat16)
    program = check_import(lambda a: (a.sum(1), a.mean(), norm(a)), x, double=False, tolerance=1e-2)
    assert '"diag.reduce"' in str(program.module)
    for line in str(program.module).splitlines():
        assert '"diag.reduce"' not in line or "bf16" not in line


def test_norm_of_bf16_is_rounded_once(check_import: Callable[..., ImportedProgram]) -> None:
    x = X.to(torch.bfloat16)
    program = check_import(
        lambda a, g: F.layer_norm(a, (8,), g, g), x, ROW.bfloat16(), double=False, tolerance=1e-2
    )
    assert str(program.module).count("arith.truncf") == 1


def test_empty_axis(check_import: Callable[..., ImportedProgram]) -> None:
    check_import(lambda a: (a.sum(1), a.prod(1)), torch.randn(3, 0))
