"""One kernel serves all lengths, batches and numbers of heads: no storms of compilations."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import diagc
from diagc.runtime.group import Group
from diagc.testing.seed import SEED
from diagc.torch_backend.report import collecting

WIDTH = 16


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Group]:
    """Everything that `diagc` compiles, in order."""
    found: list[Group] = []
    specialize = Group.specialize

    def counted(group: Group, *args: Any) -> Any:
        found.append(group)
        return specialize(group, *args)

    monkeypatch.setattr(Group, "specialize", counted)
    return found


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


def library(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def across_memory(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads lie inside of rows."""
    found = library(*(x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)))
    return found.transpose(1, 2)


FUNCTIONS = [attention, library, across_memory]


def shapes(count: int = 200) -> Iterator[list[Tensor]]:
    """Queries and keys of different lengths; sizes 0 and 1 are kinds of their own to torch."""
    draw = random.Random(SEED)
    for _ in range(count):
        batch, heads, rows, keys = (draw.randint(2, most) for most in (6, 8, 40, 40))
        yield [torch.randn(batch, heads, length, WIDTH) for length in (rows, keys, keys)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_torch_compile(function: Callable[..., Tensor], compilations: list[Group]) -> None:
    options: dict[str, Any] = {"rest": "eager", "take": "streams"}
    compiled: Any = torch.compile(function, backend="diagc", dynamic=True, options=options)
    with collecting() as reports:
        for args in shapes():
            torch.testing.assert_close(compiled(*args), function(*args), rtol=1e-4, atol=1e-5)
    assert 1 <= len(reports) <= 2
    assert all(len(report.regions) == 1 for report in reports)
    assert len(compilations) <= 2


@pytest.mark.parametrize(("function", "dynamic"), [(attention, True), (library, None)])
def test_compile(
    function: Callable[..., Tensor], dynamic: bool | None, compilations: list[Group]
) -> None:
    compiled = diagc.compile(function, dynamic=dynamic)
    calls = list(shapes())
    first, second = (args[0].shape[:3] for args in calls[:2])
    for args in calls:
        torch.testing.assert_close(compiled(*args), function(*args), rtol=1e-4, atol=1e-5)
    # without `dynamic` a size is opened when it has changed
    changed = all(a != b for a, b in zip(first, second, strict=True))
    assert len(compilations) <= (2 if dynamic or changed else 5)
    (kernel,) = compiled.kernels
    assert len(kernel.streams) == 3  # scores are not in memory


def test_each_width_has_a_kernel(
    compilations: list[Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Widths are in the state of a stream: each of a few is fixed, and then they stay open."""
    monkeypatch.setattr("diagc.torch_build.MOST_FIXED", 2)
    compiled = diagc.compile(attention, dynamic=True)
    for width, count in ((16, 1), (24, 2), (16, 2), (32, 3), (40, 3)):
        args = [torch.randn(2, 3, 20, width) for _ in range(3)]
        torch.testing.assert_close(compiled(*args), attention(*args), rtol=1e-4, atol=1e-5)
        assert len(compilations) == count


@pytest.mark.parametrize("rest", ["eager", "inductor"])
def test_width_that_changes_in_a_graph(rest: str) -> None:
    compiled: Any = torch.compile(
        attention, backend="diagc", dynamic=True, options={"rest": rest, "take": "streams"}
    )
    for width, length in ((16, 40), (24, 30), (16, 50)):
        args = [torch.randn(2, 3, length, width) for _ in range(3)]
        torch.testing.assert_close(compiled(*args), attention(*args), rtol=1e-4, atol=1e-5)


def test_width_that_is_declared_open() -> None:
    """It gets no guard, so that the region stays in torch."""
    options: dict[str, Any] = {"rest": "eager", "take": "streams"}
    compiled: Any = torch.compile(attention, backend="diagc", dynamic=True, options=options)
    with collecting() as reports:
        for width in (16, 24):
            args = [torch.randn(2, 3, 20, width) for _ in range(3)]
            for x in args:
                torch._dynamo.mark_dynamic(x, 3)
            torch.testing.assert_close(compiled(*args), attention(*args), rtol=1e-4, atol=1e-5)
    (report,) = reports
    assert not report.regions
    assert any("declared open" in reason for reason in report.reasons)
