"""Kernels of gradients, as training launches them, in the simulator: against float64 autograd."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.nn import functional

import diagc
from diagc import compiler
from diagc.runtime.program import Program
from diagc.simulator.program import program_report, simulated_program
from diagc.targets.nvptx.kernel import LoadedKernel
from diagc.targets.nvptx.ptxas import assemble, find_tool
from diagc.testing.seed import SEED

Tensor = torch.Tensor
Function = Callable[..., Tensor]
Shape = tuple[int, ...]


def softmax(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Causal, of heads that share keys, with an additive bias."""
    later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    mask = bias.masked_fill(later, -torch.inf)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def absolute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT
    return scores / scores.abs().sum(-1, keepdim=True) @ v


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.normalize((q @ k.mT).tril(8), dim=-1) @ v


def rms_linear(x: Tensor, gain: Tensor, weight: Tensor) -> Tensor:
    return functional.rms_norm(x, (x.shape[-1],), gain) @ weight


def cross_entropy(x: Tensor, weight: Tensor) -> Tensor:
    return functional.cross_entropy(x @ weight.mT * 0.25, torch.arange(x.shape[0]) % 7)


HEADS: list[Shape] = [(2, 20, 16), (2, 20, 16), (2, 20, 8)]
CASES: dict[str, tuple[Function, list[Shape]]] = {
    "softmax": (softmax, [(1, 2, 20, 16), (1, 1, 20, 16), (1, 1, 20, 16), (2, 20, 20)]),
    "l1": (absolute, HEADS),
    "l2": (spherical, HEADS),
    "rms, linear": (rms_linear, [(20, 64), (64,), (64, 32)]),
    "cross entropy": (cross_entropy, [(20, 16), (60, 16)]),
}


def simulated(program: Program, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Results of a program without a finding of the simulator; some kernel is of a GPU."""
    made = simulated_program(program)
    results = list(made(inputs))
    report = program_report(made)
    assert not report.findings, str(report)
    assert report.checking
    assert made.kernels != program.kernels
    return results


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    torch.manual_seed(SEED)
    function, shapes = CASES[name]
    tensors = [torch.randn(shape) for shape in shapes]
    compiled = diagc.compile(function, *tensors, target="nvptx")
    (group,) = compiled._calls.groups
    (forward,) = group.specializations
    saving = group.saving(forward)
    found = simulated(saving or forward.program, tensors)
    count = len(forward.program.outputs)
    results, saved = found[:count], found[count:]
    cotangents = [torch.randn_like(result) for result in results]
    backward = group.backward(forward, tuple(range(len(tensors))), bool(saved))
    assert backward.program is not None, backward.reason
    gradients = simulated(backward.program, [*tensors, *cotangents, *saved])
    for mine, right in zip(gradients, exact(function, tensors, cotangents), strict=True):
        assert mine.shape == right.shape
        assert float((mine - right).abs().max()) <= 1e-5 * float(right.abs().max())


@pytest.mark.parametrize("name", ["softmax", "l2"])
def test_narrow_gradients_are_on_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of rows, which divide cotangents, leave products: nearer to float64 than eager's."""
    monkeypatch.setattr(compiler, "_program_key", lambda *_: None)
    torch.manual_seed(SEED)
    function = CASES[name][0] if name == "l2" else weighted
    tensors = [torch.randn(1, 40, 16).to(torch.bfloat16) for _ in range(3)]
    program = gradient_program(function, tensors)
    cotangent = torch.randn(1, 40, 16).to(torch.bfloat16)
    assert all(isinstance(k, LoadedKernel) and k.tiles for k in program.kernels)
    found = simulated(program, [*tensors, cotangent])
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    eager = torch.autograd.grad(function(*leaves), leaves, [cotangent])
    wanted = exact(function, tensors, [cotangent.double()])
    for mine, theirs, right in zip(found, eager, wanted, strict=True):
        assert (mine.double() - right).norm() <= (theirs.double() - right).norm()


@pytest.mark.skipif(find_tool() is None, reason="NOT TESTED: registers, for there is no ptxas")
def test_no_gradient_spills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of long rows, both kernels are on tensor cores."""
    monkeypatch.setattr(compiler, "_program_key", lambda *_: None)
    tensors = [torch.zeros(16, 4096, 128, dtype=torch.bfloat16) for _ in range(3)]
    program = gradient_program(weighted, tensors, target="nvptx:sm_90a", device="h200")
    assert len(program.kernels) == 2
    for kernel in program.kernels:
        assert isinstance(kernel, LoadedKernel)
        assert kernel.tiles is not None
        made = assemble(kernel.kernel.ptx, kernel.kernel.arch)
        assert made is not None
        assert all(used.spills == 0 for used in made.resources.values())


def weighted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal averages, as one spells them."""
    later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    return torch.softmax((q @ k.mT * 0.125).masked_fill(later, -torch.inf), dim=-1) @ v


def gradient_program(
    function: Function, tensors: Sequence[Tensor], target: str = "nvptx:sm_80", **options: Any
) -> Program:
    """The program of gradients by all arguments, of which the forward pass saves nothing."""
    compiled = diagc.compile(function, *tensors, target=target, **options)
    (group,) = compiled._calls.groups
    (forward,) = group.specializations
    backward = group.backward(forward, tuple(range(len(tensors))), False)
    assert backward.program is not None, backward.reason
    return backward.program


def exact(function: Function, tensors: Sequence[Tensor], cotangents: Any) -> Sequence[Tensor]:
    leaves = [tensor.double().requires_grad_() for tensor in tensors]
    given = [cotangent.double() for cotangent in cotangents]
    return torch.autograd.grad(function(*leaves), leaves, given)
