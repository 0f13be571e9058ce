"""Random chains of views, elementwise ops, reductions and products keep their meaning."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from diagc.frontend.torch import ImportedProgram, import_torch

Step = Callable[[Tensor], Tensor]
Run = Callable[[ImportedProgram, tuple[Any, ...]], Any]
Draw = Callable[..., Any]

MAX_ELEMENTS = 4096


def _factors(size: int) -> list[int]:
    return [f for f in range(1, size + 1) if size % f == 0]


def _split(draw: Draw, shape: list[int]) -> Step:
    dim = draw(st.integers(0, len(shape) - 1))
    outer = draw(st.sampled_from(_factors(shape[dim])))
    target = [*shape[:dim], outer, shape[dim] // outer, *shape[dim + 1 :]]
    return lambda x: x.reshape(target)


def _merge(draw: Draw, shape: list[int]) -> Step:
    if len(shape) < 2:
        return lambda x: x
    dim = draw(st.integers(0, len(shape) - 2))
    target = [*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2 :]]
    return lambda x: x.reshape(target)


def _permute(draw: Draw, shape: list[int]) -> Step:
    order = draw(st.permutations(range(len(shape))))
    return lambda x: x.permute(order)


def _select(draw: Draw, shape: list[int]) -> Step:
    dim = draw(st.integers(0, len(shape) - 1))
    index = draw(st.integers(-shape[dim], shape[dim] - 1))
    return lambda x: x.select(dim, index) if x.dim() > 1 else x


def _slice(draw: Draw, shape: list[int]) -> Step:
    dim = draw(st.integers(0, len(shape) - 1))
    start = draw(st.integers(0, shape[dim] - 1))
    stop = draw(st.integers(start + 1, shape[dim]))
    step = draw(st.integers(1, 2))
    index = tuple(slice(start, stop, step) if i == dim else slice(None) for i in range(len(shape)))
    return lambda x: x[index]


def _expand(draw: Draw, shape: list[int]) -> Step:
    dim, size = draw(st.integers(0, len(shape))), draw(st.integers(1, 3))
    if math.prod(shape) * size > MAX_ELEMENTS:
        return lambda x: x
    return lambda x: x.unsqueeze(dim).expand(*shape[:dim], size, *shape[dim:])


def _cat(draw: Draw, shape: list[int]) -> Step:
    dim, length = draw(st.integers(0, len(shape) - 1)), draw(st.integers(1, 3))
    if 2 * math.prod(shape) > MAX_ELEMENTS:
        return lambda x: x
    return lambda x: torch.cat([x, -x.narrow(dim, 0, min(length, x.shape[dim]))], dim)


def _elementwise(draw: Draw, shape: list[int]) -> Step:
    return draw(
        st.sampled_from(
            [
                lambda x: x * 2 - 1,
                lambda x: torch.tanh(x) + x,
                lambda x: x + torch.arange(x.shape[-1], dtype=x.dtype),
                lambda x: torch.where(x > 0, x, x * x),
            ]
        )
    )


def _reduce(draw: Draw, shape: list[int]) -> Step:
    dim = draw(st.integers(0, len(shape) - 1))
    return draw(
        st.sampled_from(
            [
                lambda x: x.softmax(dim),
                lambda x: x - x.mean(dim, keepdim=True),
                lambda x: x / (1 + x.abs().amax(dim, keepdim=True)),
            ]
        )
    )


def _product(draw: Draw, shape: list[int]) -> Step:
    if len(shape) < 2 or math.prod(shape) * shape[-2] > MAX_ELEMENTS:
        return lambda x: x
    return lambda x: torch.tanh(x @ x.mT) @ x


STEPS = (
    *(_split, _merge, _permute, _select, _slice, _expand),
    *(_cat, _elementwise, _reduce, _product),
)


@st.composite
def chains(draw: Draw) -> tuple[list[int], list[Step]]:
    """A shape and steps that fit it."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=3))
    x = torch.zeros(shape)
    steps: list[Step] = []
    for make in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=7)):
        if x.dim() == 0:
            break
        steps.append(make(draw, list(x.shape)))
        x = steps[-1](x)
    return shape, steps


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(chain=chains(), seed=st.integers(0, 1000))
def test_random_chain(chain: tuple[list[int], list[Step]], seed: int, interpret: Run) -> None:
    shape, steps = chain
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def function(value: Tensor) -> Tensor:
        for step in steps:
            value = step(value)
        return value

    program = import_torch(function, (x,))
    assert program.module.operation.verify()
    torch.testing.assert_close(interpret(program, (x,)), function(x), rtol=1e-9, atol=1e-9)
