"""Tensors that cannot be meant: what eager torch refuses is refused, and no numbers are wrong."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import diagc
from diagc.errors import DiagcError, InternalError, UserError

Function = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("fresh_dynamo")


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax((q @ k.transpose(-1, -2)).masked_fill(mask, -torch.inf), -1) @ v


def library(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v, mask)


def biased(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) + bias, -1) @ v


def products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2)) @ v + 1


def floats(count: int = 3, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(2, 3, 10, 8).to(dtype) for _ in range(count)]


def integers() -> list[Tensor]:
    return [torch.randint(-5, 6, (2, 3, 10, 8)) for _ in range(3)]


def mask(*shape: int) -> Tensor:
    return torch.rand(shape) < 0.3


# A function, and tensors for it.
CASES: dict[str, tuple[Function, Callable[[], list[Tensor]]]] = {
    "integers": (attention, integers),
    "integers, products alone": (products, integers),
    "complex": (attention, lambda: floats(dtype=torch.complex64)),
    "complex, products alone": (products, lambda: floats(dtype=torch.complex64)),
    "one is complex": (attention, lambda: [*floats(2), *floats(1, torch.complex64)]),
    "one is f64": (attention, lambda: [*floats(2), *floats(1, torch.float64)]),
    "one is of integers": (attention, lambda: [*floats(2), integers()[0]]),
    "mask of other keys": (masked, lambda: [*floats(), mask(10, 9)]),
    "mask of other heads": (masked, lambda: [*floats(), mask(2, 2, 10, 10)]),
    "mask of other queries": (library, lambda: [*floats(), mask(2, 1, 11, 10)]),
    "mask of integers": (library, lambda: [*floats(), mask(10, 10).long()]),
    "bias of other keys": (biased, lambda: [*floats(), torch.randn(3, 10, 7)]),
    "mixed devices": (attention, lambda: [*floats(2), *(x.to("meta") for x in floats(1))]),
    "other features": (attention, lambda: [*floats(1), torch.randn(2, 3, 10, 7), *floats(1)]),
}
GOOD: dict[Function, Callable[[], list[Tensor]]] = {
    masked: lambda: [*floats(), mask(10, 10)],
    library: lambda: [*floats(), mask(10, 10)],
    biased: lambda: [*floats(), torch.randn(10, 10)],
}


def backend(function: Function) -> Function:
    return torch.compile(function, backend="diagc", options={"rest": "eager"})


def outcome(function: Function, args: list[Tensor]) -> Any:
    """The result of a call, or its exception."""
    try:
        return function(*args)
    except Exception as error:
        return error


@cache
def used(function: Function) -> Function:
    """Compiled, and called with good tensors."""
    compiled, good = diagc.compile(function), GOOD.get(function, floats)()
    torch.testing.assert_close(compiled(*good), function(*good), rtol=1e-5, atol=1e-5)
    return compiled


def compare(name: str, door: Callable[[Function], Function]) -> tuple[Any, Any]:
    """What eager mode and a compiled function give; their numbers agree where both give some."""
    function, make = CASES[name]
    args = make()
    wanted, found = outcome(function, args), outcome(door(function), args)
    if isinstance(found, Tensor):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    return wanted, found


@pytest.mark.parametrize("door", [diagc.compile, used])
@pytest.mark.parametrize("name", CASES)
def test_never_wrong_numbers(name: str, door: Callable[[Function], Function]) -> None:
    """At the first call, and where a program is there already."""
    _wanted, found = compare(name, door)
    assert isinstance(found, Tensor | DiagcError)
    assert not isinstance(found, InternalError)


@pytest.mark.parametrize("name", CASES)
def test_the_backend_takes_what_eager_mode_takes(name: str) -> None:
    wanted, found = compare(name, backend)
    # torch lets tensors without values meet others, but not in a graph
    assert isinstance(found, Tensor) or isinstance(wanted, Exception) or wanted.is_meta


# ---- versions of torch ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.12.1", "2.14.0+cpu", "3.0.0"])
@pytest.mark.parametrize("door", [diagc.compile, backend])
def test_other_versions_of_torch(
    version: str, door: Callable[[Function], Function], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = floats()
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(Exception, match=r"version of torch.*expected 2\.13.*found " + version[:4]):
        door(attention)(*args)


def test_the_version_is_that_of_the_package() -> None:
    from diagc.runtime.torch_settings import _SUPPORTED

    text = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text()
    assert f'"torch>={_SUPPORTED},' in text
    with pytest.raises(UserError, match="nothing to compile"):
        diagc.compile(3)  # type: ignore[arg-type]
