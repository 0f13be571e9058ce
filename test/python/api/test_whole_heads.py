"""Gradients by one stream a head, which adds up the tiles of keys for the gradient of queries."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import diagc
from diagc.api import CompiledFunction
from diagc.compiler import emit, find_entry, run_pipeline
from diagc.context import make_context
from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.frontend.text.printer import print_module
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.targets.cpu import pass_options
from diagc.targets.cpu.schedule import read_schedule
from diagc.testing.seed import SEED
from diagc.viz.read import read_picture

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
HEADS = pass_options()["emits"]
"""As many as are enough on this machine."""
GRADIENTS = CompileOptions(target="cpu", wrt=("q", "k", "v"), saves=True)
QUERIES, KEYS, WIDTH = 70, 85, 8  # tails of chunks and of tiles


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(SEED)


def absolute_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = (q @ k.transpose(-2, -1)).tril(4)
    return s / s.abs().sum(-1, keepdim=True) @ v


def padded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Some rows of the mask have no key at all."""
    lengths = torch.arange(QUERIES)[:, None] % 40
    keep = torch.arange(KEYS) < lengths
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def draw(
    queries: int = HEADS, keys: int = HEADS, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    shapes = [(1, queries, QUERIES), (1, keys, KEYS), (1, keys, KEYS)]
    return [torch.randn(*s, WIDTH, dtype=dtype, requires_grad=True) for s in shapes]


def gradients(function: Function, tensors: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(function(*tensors), tensors, cotangent))


def streams(compiled: CompiledFunction) -> int:
    (made,) = compiled.report.gradients
    assert made.report is not None, made.reason
    assert not made.report.fall_back
    return sum(len(kernel.streams) for kernel in made.report.kernels)


@pytest.mark.parametrize(
    ("function", "group", "dtype"),
    [
        (absolute_causal, 1, torch.float32),
        (padded, 1, torch.float64),
        (grouped, 2, torch.float32),
    ],
)
def test_one_stream_gives_all_gradients(function: Function, group: int, dtype: torch.dtype) -> None:
    """Twice, for the memory of results is used again, and holds the last ones."""
    tensors = [t.detach().to(dtype).requires_grad_() for t in draw(group * HEADS)]
    compiled = diagc.compile(function, *tensors, dynamic=False)
    for _ in range(2):
        cotangent = torch.randn_like(tensors[0])
        wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
        wanted = gradients(function, wide, cotangent.double())
        found = gradients(compiled, tensors, cotangent)
        for ours, exact in zip(found, wanted, strict=True):
            if function is padded:
                exact = exact.nan_to_num()  # rows without keys have gradient 0 here
            bound = 1e-4 if dtype == torch.float32 else 1e-10
            torch.testing.assert_close(ours.double(), exact, rtol=bound, atol=bound)
        again = gradients(compiled, tensors, cotangent)
        assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert streams(compiled) == 1


def test_one_program_for_all_lengths() -> None:
    """Open lengths; without keys, the gradient of queries is 0."""
    compiled = diagc.compile(absolute_causal)
    with torch.no_grad():
        compiled(*(torch.randn(HEADS, n, WIDTH) for n in (30, 50, 50)))
    for queries, keys in ((50, 34), (90, 120)):
        shapes = [(HEADS, n, WIDTH) for n in (queries, keys, keys)]
        tensors = [torch.randn(shape, requires_grad=True) for shape in shapes]
        wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
        cotangent = torch.randn_like(tensors[0])
        wanted = gradients(absolute_causal, wide, cotangent.double())
        found = gradients(compiled, tensors, cotangent)
        for ours, exact in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours.double(), exact.nan_to_num(), rtol=1e-4, atol=1e-4)
    programs = [
        made.program
        for specialization in compiled._calls.groups[0].specializations
        for made in specialization.backward.values()
        if specialization.dynamic
    ]
    (program,) = programs
    assert program is not None
    assert sum(len(kernel.streams) for kernel in program.report.kernels) == 1
    empty = [torch.randn(HEADS, n, WIDTH) for n in (20, 0, 0, 20)]
    by_queries, *_ = program([*empty, torch.ones(HEADS, 20), torch.ones(HEADS, 20, WIDTH)])
    assert torch.equal(by_queries, torch.zeros(HEADS, 20, WIDTH))


def test_few_heads_and_batch_invariance_take_two_streams() -> None:
    """Whole heads would leave cores idle, and their digits depend on how many there are."""
    few = diagc.compile(absolute_causal, *draw(2, 2), dynamic=False)
    many = diagc.compile(absolute_causal, *draw(), dynamic=False)
    strict = replace(GRADIENTS, batch_invariant=True)
    found = [(few, GRADIENTS, 2), (many, GRADIENTS, 1), (many, strict, 2)]
    for compiled, options, count in found:
        assert emit(compiled.source_ir, "streams", options).count('"diag.stream"') == count


@contextmanager
def lowered(stage: str) -> Iterator[ir.Module]:
    """The gradients of whole heads at a stage; a context is ambient."""
    compiled = diagc.compile(absolute_causal, *draw(), dynamic=False)
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(compiled.source_ir)
        run_pipeline(module, GRADIENTS, stage)
        yield module


def test_lanes_that_are_not_summed_are_refused() -> None:
    """Tasks that split another axis would each hold a part of the sum."""
    with lowered("schedules") as module:
        kernels = [op for op in diag.functions(module) if diag.is_kernel(op)]
        (kernel,) = [op for op in kernels if '"diag.stream"' in str(op)]
        assert read_schedule(kernel, 8).serial
        entries = ir.DictAttr(kernel.attributes["diag.schedule"])
        changed = {entry.name: entry.attr for entry in entries}
        changed["mode"] = ir.StringAttr.get("features")
        kernel.attributes["diag.schedule"] = ir.DictAttr.get(changed)
        with pytest.raises(UnsupportedError, match="add up parts"):
            read_schedule(kernel, 8)


def test_what_is_given_of_chunks_is_shown() -> None:
    """In a drawing the loop has an output more than states; the text has a yield more."""
    with lowered("streams") as module:
        frames = read_picture(module, find_entry(module)).operations
        (loop,) = [frame for frame in frames if frame.text.startswith("stream over")]
        assert len(loop.outputs) == 3
        text = print_module(module)
    body = text[text.index("body(") :]
    assert body[body.index("yield") :].split("\n")[0].count(",") == 2
