"""Sizes that change between calls: open after the second, and programs do not pile up."""

from collections.abc import Callable

import pytest
import torch

import diagc
from diagc.runtime import group, plan_products

Tensor = torch.Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1) * 0.25, dim=-1) @ v


def check(compiled: diagc.CompiledFunction, *sizes: int) -> None:
    batch, queries, keys = sizes
    q = torch.randn(batch, 2, queries, 16)
    k, v = (torch.randn(batch, 2, keys, 16) for _ in range(2))
    torch.testing.assert_close(compiled(q, k, v), attention(q, k, v), rtol=1e-5, atol=1e-5)


def programs(compiled: diagc.CompiledFunction) -> int:
    return sum(len(g.specializations) for g in compiled._calls.groups)


def test_sizes_that_change_become_open() -> None:
    compiled = diagc.compile(attention)
    check(compiled, 2, 40, 40)
    assert programs(compiled) == 1
    check(compiled, 2, 33, 50)
    assert programs(compiled) == 2
    for queries, keys in ((64, 64), (7, 90), (128, 3), (40, 40)):
        check(compiled, 2, queries, keys)
    assert programs(compiled) == 2
    check(compiled, 5, 20, 30)
    assert programs(compiled) == 3
    check(compiled, 3, 21, 31)
    assert programs(compiled) == 3
    check(compiled, 3, 1, 17)  # a size of 1 is never open
    assert programs(compiled) == 4


def by_size(x: Tensor) -> Tensor:
    if x.shape[0] == 1:
        return x + 1
    return x * 2 if x.shape[0] > 5 else x * 3


@pytest.mark.parametrize("dynamic", [None, True, False])
def test_branches_on_sizes_are_taken_anew(dynamic: bool | None) -> None:
    compiled = diagc.compile(by_size, dynamic=dynamic)
    for size in (4, 5, 3, 6, 9, 2, 1, 5, 7):
        x = torch.randn(size, 4)
        assert torch.equal(compiled(x), by_size(x)), size


@pytest.mark.parametrize("dynamic", [None, True])
def test_sizes_that_are_returned_or_divided_are_those_of_the_call(dynamic: bool | None) -> None:
    def sizes(x: Tensor) -> tuple[Tensor, int, torch.Size]:
        return x * x.shape[0] + 1 / x.shape[1], x.shape[0], x.shape

    compiled = diagc.compile(sizes, dynamic=dynamic)
    for size in (3, 4, 5, 6):
        x = torch.randn(size, size + 1)
        found, expected = compiled(x), sizes(x)
        torch.testing.assert_close(found[0], expected[0])
        assert found[1:] == expected[1:]


def test_all_sizes_open_from_the_start() -> None:
    compiled = diagc.compile(attention, dynamic=True)
    for sizes in ((2, 40, 40), (3, 12, 50), (4, 5, 6)):
        check(compiled, *sizes)
    assert programs(compiled) == 1


def test_no_size_open_and_old_programs_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "MAX_SPECIALIZATIONS", 4)
    compiled = diagc.compile(attention, dynamic=False)
    for queries in range(10, 10 + 8):
        check(compiled, 1, queries, 20)
    assert programs(compiled) == 4
    assert not any(s.dynamic for g in compiled._calls.groups for s in g.specializations)


@pytest.mark.parametrize("sizes", [(2, 0, 40), (0, 8, 8), (2, 8, 0)])
def test_empty_axes(sizes: tuple[int, int, int]) -> None:
    """No key: rows have nothing to normalise, and give zeros."""
    check(diagc.compile(attention), *sizes)


def test_no_features() -> None:
    """The scale of scores is one over the root of their depth."""
    q, k, v = (torch.randn(2, 8, depth) for depth in (0, 0, 4))
    library = torch.nn.functional.scaled_dot_product_attention
    torch.testing.assert_close(diagc.compile(library)(q, k, v), library(q, k, v))


IDS, TABLE = torch.arange(64)[None], torch.randn(64, 16)


def learned_positions(x: Tensor) -> Tensor:
    """As BERT has them: a slice of a buffer, as long as the input."""
    return torch.relu(x + torch.nn.functional.embedding(IDS[:, : x.shape[1]], TABLE))


def positions_alone(x: Tensor) -> Tensor:
    """As GPT-2 has them: `arange`, whose axis no tensor has."""
    return torch.relu(x + torch.nn.functional.embedding(torch.arange(x.shape[1]), TABLE))


def halves(x: Tensor) -> Tensor:
    return x[:, : x.shape[1] // 2].sum(1) + x[:, 1:].amax(1)


@pytest.mark.parametrize("function", [learned_positions, positions_alone, halves])
def test_axes_that_arguments_lack(function: Callable[[Tensor], Tensor]) -> None:
    """Their sizes are computed from open sizes of arguments, for torch's ops too."""
    compiled = diagc.compile(function, torch.randn(2, 10, 16), dynamic=True)
    for batch, length in ((2, 10), (3, 37), (5, 4)):
        x = torch.randn(batch, length, 16)
        torch.testing.assert_close(compiled(x), function(x), rtol=1e-5, atol=1e-5)
    assert programs(compiled) == 1


def test_kernels_are_shared_between_sizes() -> None:
    compiled = diagc.compile(attention, dynamic=False)
    check(compiled, 1, 192, 64)  # both are whole tiles, whatever the width of vectors
    first = compiled.program.kernels
    check(compiled, 1, 384, 64)
    assert compiled.program.kernels[0] is first[0]


def test_a_product_of_one_row_or_column_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch copies a matrix of one row whose rows lie 0 apart."""
    strides: list[tuple[int, ...]] = []

    def multiply(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        strides.extend((first.stride(), second.stride()))
        return torch.mm(first, second)

    monkeypatch.setitem(plan_products._FUNCTIONS, (True, False), multiply)
    x, w, u = torch.randn(1, 40), torch.randn(40, 30), torch.randn(30, 1)
    compiled = diagc.compile(lambda x, w, u: torch.tanh(x @ w) @ u, x, w, u, dynamic=False)
    torch.testing.assert_close(compiled(x, w, u), torch.tanh(x @ w) @ u)
    assert strides == [(40, 1), (30, 1), (30, 1), (1, 1)]
