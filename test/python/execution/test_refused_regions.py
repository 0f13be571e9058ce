"""What no law licenses runs unfused, gives what eager gives, and explain says which law fails."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import diagc
from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.errors import DiagcError
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.report import render
from diagc.targets import interp

Tensor = torch.Tensor


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT


def over_median(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = scores(q, k)
    return (s / s.abs().median(-1, keepdim=True).values) @ v


def sorted_scores(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.sort(scores(q, k), -1).values @ v


def largest_twenty(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.topk(scores(q, k), 20, -1).values.softmax(-1)


def running_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cumsum(scores(q, k), -1) @ v


def dropped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Both readers must see the same weights."""
    p = functional.dropout(torch.softmax(scores(q, k), -1), 0.5)
    return p @ v + p.sum(-1, keepdim=True)


def squashed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = scores(q, k)
    return torch.tanh(s - s.amax(-1, keepdim=True)) @ v


def around_the_mean(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """In range, but a running mean would not keep it there."""
    s = scores(q, k)
    return torch.exp(s - s.mean(-1, keepdim=True)) @ v


def above_the_minimum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = scores(q, k)
    return torch.exp(s + s.amin(-1, keepdim=True)) @ v


def multiplied(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = scores(q, k)
    return torch.prod(1.0 + 0.1 * torch.tanh(s - s.amax(-1, keepdim=True)), -1)


REFUSED = [
    (over_median, "aten.median.dim", "streaming fails: its result depends on the order"),
    (sorted_scores, "aten.sort.default", "streaming fails: its result depends on the order"),
    (largest_twenty, "aten.topk.default", "streaming fails: its result depends on the order"),
    (running_sums, "aten.cumsum.default", "every result needs those at the positions before it"),
    (dropped, "aten.dropout.default", "sliding over a copy fails: it draws random numbers"),
    (squashed, "diag.contract", r"by no law of rank up to 6: singular values of \[phi"),
    (around_the_mean, "diag.contract", "leaves the range of floats.*on the row"),
    (above_the_minimum, "diag.contract", "leaves the range of floats.*on the row"),
    (multiplied, "diag.reduce", "no law lets a reduction by 'mul' follow a statistic"),
]


@pytest.mark.parametrize(
    ("function", "op", "law"), REFUSED, ids=lambda x: getattr(x, "__name__", "")
)
def test_refused_in_torch_code(function: Callable[..., Tensor], op: str, law: str) -> None:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (0.3 * torch.randn(2, n, 8, generator=generator) for n in (6, 70, 70))
    compiled = diagc.compile(function, q, k, v)
    results = []
    for run in (compiled, function):
        torch.manual_seed(11)
        results.append(run(q, k, v))
    torch.testing.assert_close(results[0], results[1], rtol=2e-4, atol=2e-4)
    (line,) = [
        text for text in str(compiled.explain()).splitlines() if op in text and re.search(law, text)
    ]
    first = inspect.getsourcelines(function)[1]
    last = first + len(inspect.getsource(function).splitlines())
    place = re.search(r"test_refused_regions\.py:(\d+):\d+", line)
    assert place is not None
    assert first <= int(place[1]) < last


def test_small_rows_of_dropout_are_shared_by_both_readers() -> None:
    """The difference of what two readers see of one dropout is 0."""

    def function(x: Tensor) -> Tensor:
        p = functional.dropout(x, 0.5)
        return p.sum(-1) - (p * 1.0).sum(-1)

    x = torch.ones(4, 64)
    assert (diagc.compile(function, x)(x) == 0.0).all()


DIAGRAM = """axis b = 2, x
diagram main(X: b x, Y: b x) {{
{body}
}}
"""
DECLINED = [
    ("  M = mean(X) over x\n  return sum(erf(Y - M)) over x", "by no law of rank up to 6", 4),
    ("  M = mean(X) over x\n  return sum(exp(X - M)) over x", "leaves the range of floats", 4),
    ("  M = sum(X) over x\n  return max(Y * M) over x", "by no shift that is the same", 4),
    ("  M = max(X) over x\n  return prod(tanh(X - M)) over x", "reduction by 'mul'", 4),
    (
        "  M = sum(X) over x\n  N = 1 / M\n  return sum((Y - N) * (Y - N)) over x",
        "1 / z, may be infinite or no number at first",
        5,
    ),
]


@pytest.mark.parametrize(("body", "law", "line"), DECLINED)
def test_refused_in_diagrams(body: str, law: str, line: int, tmp_path: Path) -> None:
    file = tmp_path / "refused.diag"
    file.write_text(DIAGRAM.format(body=body))
    with make_context(), ir.Location.unknown():
        program = compile_module(parse(file.read_text(), str(file)), "cpu")
    lines = [text for text in render(program.report, "text").splitlines() if law in text]
    assert lines
    assert all(f"refused.diag:{line}:" in text for text in lines)
    x, y = (torch.randn(2, 9, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    with make_context(), ir.Location.unknown():
        inputs = [x.double().numpy(), y.double().numpy()]
        (wanted,) = interp.evaluate(parse(file.read_text()), inputs)
    (found,) = program([x, y])
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["median", "sort", "topk", "dropout"])
def test_diagrams_have_no_such_functions(name: str) -> None:
    source = DIAGRAM.format(body=f"  return {name}(X) over x")
    with make_context(), pytest.raises(DiagcError, match=f"{name}'") as found:
        parse(source, "mine.diag")
    assert str(found.value.location).startswith("mine.diag:3:")
