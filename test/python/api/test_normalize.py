"""`diagc.normalize`: eager, compiled, cached, differentiated; refused where it does not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diagc
from diagc.algebra.normalizers import NORMALIZERS
from diagc.debug import CACHE_DIR
from diagc.errors import UserError
from diagc.scalars import exp
from diagc.testing.registered import CASES, Case, reference

pytestmark = pytest.mark.usefixtures("registry")
Tensor = torch.Tensor


def attention(case: Case) -> Callable[..., Tensor]:
    """Of q, k, v, keep and the parameters."""

    def function(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, *parameters: Tensor) -> Tensor:
        params = dict(zip(case.parameters, parameters, strict=True))
        scores = q @ k.transpose(-2, -1)
        return diagc.normalize(scores, case.name, dim=-1, keep=keep, params=params) @ v

    return function


def data(case: Case, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(1)
    q, k, v = (torch.randn(2, n, w).to(dtype) for n, w in ((6, 8), (70, 8), (70, 4)))
    keep = torch.rand(6, 70) < 0.6
    keep[2] = False
    return [q, k, v, keep, *(torch.tensor(p, dtype=dtype) for p in case.parameters.values())]


def wanted(case: Case, inputs: list[Tensor]) -> Any:
    q, k, v = (t.double() for t in inputs[:3])
    keep = inputs[3].expand(2, 6, 70).numpy()
    scores = (q @ k.mT).numpy()
    return reference(case, scores, keep) @ v.numpy()


TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 5e-2}


@pytest.mark.parametrize("target", ["interp", "cpu"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_compiled_attention_is_right(case: Case, dtype: torch.dtype, target: str) -> None:
    case.register()
    inputs = data(case, dtype)
    compiled = diagc.compile(attention(case), *inputs, target=target)
    found, expected = compiled(*inputs), wanted(case, inputs)
    assert not compiled.outside
    assert '"diag.normalize' in compiled.source_ir
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        found.double().numpy(), expected, rtol=0, atol=TOLERANCE[dtype] * scale
    )
    assert not found[:, 2].any()
    eager = attention(case)(*inputs)
    assert eager.dtype == dtype
    atol = TOLERANCE[dtype] * scale
    np.testing.assert_allclose(eager.double().numpy(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_eager_is_differentiable(case: Case) -> None:
    """Finite differences, also beside rows that are masked whole."""
    case.register()
    torch.manual_seed(2)
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    keep = torch.ones(3, 5, dtype=torch.bool)
    keep[1] = False
    keep[2, 3] = False
    parameters = [
        torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in case.parameters.values()
    ]

    def function(x: Tensor, *given: Tensor) -> Tensor:
        params = dict(zip(case.parameters, given, strict=True))
        return diagc.normalize(x, case.name, keep=keep, params=params)

    assert torch.autograd.gradcheck(function, (x, *parameters))


def test_gradients_of_compiled_attention_are_those_of_torch() -> None:
    case = next(c for c in CASES if c.name == "sink")
    case.register()
    inputs = data(case, torch.float64)
    mine = [t.clone().requires_grad_(t.is_floating_point()) for t in inputs]
    compiled = diagc.compile(attention(case))
    compiled(*mine).sum().backward()
    found = [t.grad for t in mine if t.grad is not None]
    theirs = (t.clone().requires_grad_(t.is_floating_point()) for t in inputs)
    q, k, v, keep, sink = theirs
    scores = (q @ k.mT).masked_fill(~keep, -torch.inf)
    weights = torch.cat([scores, sink.expand(2, 6, 1)], -1).softmax(-1)[..., :-1]
    (weights @ v).sum().backward()
    for a, b in zip(found, (q.grad, k.grad, v.grad, sink.grad), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", list(NORMALIZERS))
def test_built_in_normalisers_too(name: str) -> None:
    torch.manual_seed(3)
    x = torch.randn(4, 9)
    eps = 1e-3 if name in ("rms", "layer") else 0.0
    found = diagc.compile(lambda x: diagc.normalize(x, name, eps=eps), x)(x)
    torch.testing.assert_close(found, diagc.normalize(x, name, eps=eps), rtol=1e-5, atol=1e-6)


def test_the_size_of_rows_may_stay_open() -> None:
    diagc.register_normalizer("softmax1", exp, [exp], lambda z: 1 + z)
    compiled = diagc.compile(lambda x: diagc.normalize(x, "softmax1"), dynamic=True)
    for n in (5, 33):
        x = torch.randn(3, n)
        expected = torch.exp(x) / (1 + torch.exp(x).sum(-1, keepdim=True))
        torch.testing.assert_close(compiled(x), expected)
        assert "?x?xf32" in compiled.source_ir


def test_programs_with_registered_normalisers_are_kept(tmp_path: Path) -> None:
    """A law that was replaced makes another program."""

    def function(x: Tensor) -> Tensor:
        return diagc.normalize(x, "mine") * 2.0

    x = torch.randn(4, 30)
    with CACHE_DIR.override(tmp_path):
        diagc.register_normalizer("mine", exp, [exp])
        first = diagc.compile(function, x, target="cpu")
        again = diagc.compile(function, x, target="cpu")
        assert list(again.report.seconds) == ["cache"]
        diagc.register_normalizer("mine", exp, [exp], lambda z: 1 + z, replace=True)
        other = diagc.compile(function, x, target="cpu")
        assert "passes" in other.report.seconds
    torch.testing.assert_close(first(x), again(x))
    weights = torch.exp(x)
    torch.testing.assert_close(other(x), 2 * weights / (1 + weights.sum(-1, keepdim=True)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "moon"}, "no normaliser 'moon'"),
        ({"dim": 2}, "no such dim"),
        ({"keep": torch.ones(4)}, "'keep' is no mask"),
        ({"keep": torch.ones(5, dtype=torch.bool)}, "'keep' does not fit"),
        ({"eps": -1.0}, "bad eps"),
        ({"eps_place": "beside"}, "bad eps"),
        ({"params": {}}, "wrong parameters for 'sink', expected sink, found none"),
        ({"params": {"sink": torch.ones(4)}}, "'sink' varies along rows"),
        ({"params": {"sink": torch.ones(3)}}, "'sink' does not fit"),
        ({"x": torch.ones(4, dtype=torch.int32)}, "nothing to normalise"),
        ({"x": torch.tensor(1.0)}, "nothing to normalise"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    diagc.register_normalizer(
        "sink", exp, [exp], lambda z, sink: z + exp(sink), params={"sink": "h"}
    )
    given = {"x": torch.ones(2, 4), "name": "sink", "params": {"sink": torch.ones(2, 1)}}
    with pytest.raises(UserError, match=message):
        diagc.normalize(**{**given, **arguments})


def test_the_page_about_normalisers_tells_the_truth() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/normalizers.md").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    lines = str(diagc.derivation("sink")).splitlines()
    assert all(f"    {line}\n" in page for line in lines)
    q, k, v = (torch.randn(2, 3, n, 8) for n in (5, 9, 9))
    arguments = (q, k, v, torch.randn(3, 1, 1), torch.rand(5, 9) < 0.5)
    torch.testing.assert_close(names["fast"](*arguments), names["attention"](*arguments))
