"""Streams whose deep products the library computes block by block: numbers, memory, refusals.

Blocks are made short here, so that few positions make several and a rest.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import diagc
from diagc.runtime import plan_blocks

WIDTH = 512
Tensor = torch.Tensor


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_blocks, "BLOCK_BYTES", 1 << 19)


def log_sum_exp(x: Tensor, w: Tensor) -> Tensor:
    return torch.logsumexp(x @ w.T, dim=-1)


def cross_entropy(x: Tensor, w: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(x @ w.T, labels, reduction="none")


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.T * WIDTH**-0.5, dim=-1) @ v


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.T * WIDTH**-0.5
    rows, columns = torch.arange(q.shape[0])[:, None], torch.arange(k.shape[0])[None, :]
    return torch.softmax(scores.masked_fill(columns > rows, -torch.inf), dim=-1) @ v


def spread(x: Tensor, w: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    scores = x @ w.T + bias
    return scores.amin(dim=-1), scores.square().sum(dim=-1)


def top_1(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    value, place = (x @ w.T).max(dim=-1)
    return value, place


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def weights(count: int) -> Tensor:
    return rows(count, 1) * WIDTH**-0.5


def labels(count: int, classes: int) -> Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(2))


CASES: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "log-sum-exp": (log_sum_exp, (rows(300), weights(5000))),
    "whole-blocks": (log_sum_exp, (rows(512), weights(4096))),
    "cross-entropy": (cross_entropy, (rows(300), weights(5003), labels(300, 5003))),
    "attention": (attention, (rows(600), rows(4500, 3), rows(4500, 4)[:, :64])),
    "causal": (causal, (rows(4200), rows(4200, 3), rows(4200, 4)[:, :64])),
    "bias": (spread, (rows(300), weights(5000), rows(10, 5).flatten()[:5000])),
    "positions": (top_1, (rows(300), weights(5001))),
}


def is_blocked(compiled: Any) -> bool:
    report = json.loads(compiled.explain("json"))
    return any("goes by in blocks" in note["text"] for note in report["done"])


def assert_close(found: Any, exact: Any, relative: float = 2e-6) -> None:
    pairs = [(found, exact)] if isinstance(found, Tensor) else zip(found, exact, strict=True)
    for one, other in pairs:
        if not other.is_floating_point():
            assert torch.equal(one, other)
            continue
        assert one.shape == other.shape
        assert float((one - other).abs().max()) <= relative * float(other.abs().max())


def in_f64(arguments: tuple[Tensor, ...]) -> list[Tensor]:
    return [a.double() if a.is_floating_point() else a for a in arguments]


@pytest.mark.parametrize("name", CASES)
def test_blocks_give_what_float64_gives(name: str) -> None:
    function, arguments = CASES[name]
    compiled = diagc.compile(function, *arguments)
    assert is_blocked(compiled)
    assert_close(compiled(*arguments), function(*in_f64(arguments)))


def test_the_interpreter_runs_the_same_blocks() -> None:
    function, arguments = CASES["log-sum-exp"]
    compiled = diagc.compile(function, *arguments, target="interp")
    assert is_blocked(compiled)
    assert_close(compiled(*arguments), function(*in_f64(arguments)), 1e-6)


def test_open_sizes_find_their_blocks_at_the_call() -> None:
    compiled = diagc.compile(log_sum_exp)
    for count, classes in ((300, 5000), (300, 4097), (500, 9000)):
        x, w = rows(count), weights(classes)
        assert_close(compiled(x, w), log_sum_exp(x.double(), w.double()))
        assert is_blocked(compiled)
    for count, classes in ((300, 70), (1, 5)):
        x, w = rows(count), weights(classes)
        assert_close(compiled(x, w), log_sum_exp(x.double(), w.double()))


def test_parameters_go_by_in_blocks() -> None:
    layer = torch.nn.Linear(WIDTH, 5000)

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return torch.logsumexp(self.layer(x), dim=-1)

    module, x = Loss(), rows(300)
    compiled = diagc.compile(module, x)
    assert is_blocked(compiled)
    with torch.no_grad():
        found = compiled(x)
        assert_close(found, module.double()(x.double()))


def test_no_more_than_a_block_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library writes every block of products into the memory of the one before."""
    written: set[int] = set()
    largest = 0
    multiply = torch.mm

    def mm(left: Tensor, right: Tensor, *, out: Tensor | None = None) -> Tensor:
        nonlocal largest
        made = multiply(left, right, out=out)
        written.add(made.data_ptr())
        largest = max(largest, made.numel())
        return made

    monkeypatch.setattr(torch, "mm", mm)
    from diagc.runtime import plan_products

    functions = {**plan_products._FUNCTIONS, (True, False): mm}
    monkeypatch.setattr(plan_products, "_FUNCTIONS", functions)
    x, w = rows(512), weights(4096)
    compiled = diagc.compile(log_sum_exp, x, w)
    compiled(x, w)
    assert largest * 4 <= plan_blocks.BLOCK_BYTES
    assert len(written) == 1


@pytest.mark.parametrize(
    ("count", "classes", "width"), [(8, 32768, 512), (300, 5000, 64), (256, 1100, 512)]
)
def test_small_and_shallow_products_stay_in_kernels(count: int, classes: int, width: int) -> None:
    x, w = rows(count)[:, :width].contiguous(), weights(classes)[:, :width].contiguous()
    compiled = diagc.compile(log_sum_exp, x, w)
    assert not is_blocked(compiled)
    assert_close(compiled(x, w), log_sum_exp(x.double(), w.double()))


def test_no_rows_and_no_classes_are_what_torch_says() -> None:
    compiled = diagc.compile(log_sum_exp, dynamic=True)
    assert compiled(rows(300), weights(5000)).shape == (300,)
    assert is_blocked(compiled)
    assert compiled(rows(0), weights(5000)).shape == (0,)
    assert torch.equal(compiled(rows(3), weights(0)), log_sum_exp(rows(3), weights(0)))
