"""What a forward pass saves for its gradients: statistics of rows and sums, never scores."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import diagc
from diagc.api import CompiledFunction
from diagc.compiler import emit
from diagc.options import CompileOptions
from diagc.testing.saved_tensors import saved_shapes
from diagc.testing.seed import SEED

BATCH, QUERIES, KEYS, WIDTH = 2, 40, 56, 8
Function = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(SEED)


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1), -1) @ v


def masked_l1(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = (q @ k.transpose(-2, -1)).tril(20)
    return s / s.abs().sum(-1, keepdim=True) @ v


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = q @ k.transpose(-2, -1)
    return s / torch.linalg.vector_norm(s, dim=-1, keepdim=True) @ v


def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.relu(q * k[:, :QUERIES]) @ v.transpose(-2, -1)


def draw() -> list[Tensor]:
    shapes = [(BATCH, n, WIDTH) for n in (QUERIES, KEYS, KEYS)]
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def gradients(function: Function, tensors: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(function(*tensors), tensors, cotangent))


def check(compiled: Function, function: Function, tensors: Sequence[Tensor]) -> None:
    """Compare gradients with those in float64."""
    cotangent = torch.randn_like(function(*tensors))
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    wanted = gradients(function, wide, cotangent.double())
    for ours, exact in zip(gradients(compiled, tensors, cotangent), wanted, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-4)


def streams_of_gradients(compiled: CompiledFunction) -> int:
    """How many streams the program of the gradients has, which has been compiled once."""
    (made,) = compiled.report.gradients
    assert made.report is not None
    return sum(len(kernel.streams) for kernel in made.report.kernels)


ROW, OUT = (BATCH, QUERIES), (BATCH, QUERIES, WIDTH)


@pytest.mark.parametrize(
    ("function", "expected"),
    [(softmax, [ROW, ROW, OUT]), (masked_l1, [ROW, OUT]), (spherical, []), (linear, [])],
)
def test_rows_are_saved_and_no_scores(function: Function, expected: list[tuple[int, ...]]) -> None:
    """Softmax: maximum, sum, product with values; what is re-associated has no scores to save."""
    tensors = draw()
    compiled = diagc.compile(function, *tensors)
    assert saved_shapes(compiled, tensors) == sorted(expected)
    check(compiled, function, tensors)


def test_gradients_need_no_pass_for_statistics() -> None:
    """Queries' gradient over keys, those of keys and values over queries: 3 and 4 products."""
    tensors = draw()
    compiled = diagc.compile(softmax, *tensors)
    gradients(compiled, tensors, torch.randn(OUT))
    assert streams_of_gradients(compiled) == 2


def test_grouped_heads_of_fixed_sizes_store_no_scores() -> None:
    """Sums over the queries of all heads of a group run over two axes."""

    def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    shapes = [(1, 4, 40, WIDTH), (1, 2, KEYS, WIDTH), (1, 2, KEYS, WIDTH)]
    tensors = [torch.randn(shape, requires_grad=True) for shape in shapes]
    compiled = diagc.compile(grouped, *tensors, dynamic=False)
    check(compiled, grouped, tensors)
    assert streams_of_gradients(compiled) == 2
    again = CompileOptions(target="cpu", wrt=("q", "k", "v"))  # as tracers have it: none saved
    assert emit(compiled.source_ir, "streams", again).count('"diag.stream"') == 3


@pytest.mark.parametrize("length", [40, 64])
def test_a_sum_over_a_short_axis_of_tasks_splits_it(
    length: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It would stay inside the tasks to repeat no product, but then nothing could add up tiles."""
    tensors = [torch.randn(8, 4, length, 16, requires_grad=True) for _ in range(3)]
    check(diagc.compile(spherical, *tensors), spherical, tensors)
    assert not caplog.messages


def test_a_changed_input_is_noticed() -> None:
    tensors = draw()
    compiled = diagc.compile(softmax, *tensors)
    out = compiled(*tensors)
    with torch.no_grad():
        tensors[1].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_no_graph_saves_nothing() -> None:
    tensors = [tensor.detach() for tensor in draw()]
    compiled = diagc.compile(softmax, *tensors)
    assert saved_shapes(compiled, tensors) == []
    assert compiled.latest.saving is None


def sink_by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = q @ k.transpose(-2, -1)
    m = s.amax(-1, keepdim=True).clamp(min=0.5)
    e = torch.exp(s - m)
    return e / (e.sum(-1, keepdim=True) + torch.exp(0.5 - m)) @ v


def sink_joined(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = functional.pad(q @ k.transpose(-2, -1), (0, 1), value=0.5)
    s = s - s.amax(-1, keepdim=True)
    return s.softmax(-1)[..., :-1] @ v


def with_a_floor(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The maximum does not cancel, so it has a gradient of its own."""
    s = q @ k.transpose(-2, -1)
    m = torch.clamp(s.amax(-1, keepdim=True), min=0.5)
    e = torch.exp(s - m)
    return e / (e.sum(-1, keepdim=True) + 1) @ v


@pytest.mark.parametrize("function", [sink_by_hand, sink_joined, with_a_floor])
def test_maxima_of_rows_are_those_of_the_scores_they_are_compared_with(function: Function) -> None:
    tensors = draw()
    compiled = diagc.compile(function, *tensors)
    check(compiled, function, tensors)
    assert streams_of_gradients(compiled) or function is with_a_floor
