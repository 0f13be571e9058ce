"""The short way of ops to their kernels: taken where nothing is recorded and nobody looks on."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from diagc.runtime.op_gradients import register_gradients
from diagc.testing.seed import SEED

GENERATOR = torch.Generator().manual_seed(SEED)
calls: list[bool] = []
"""For each run of the implementation, whether autograd called it by itself."""


def _double(tensors: Sequence[Tensor], key: str) -> list[Tensor]:
    assert type(tensors[0]) is Tensor
    assert tensors[0].device.type == "cpu"
    assert not tensors[0].is_neg()
    calls.append(_short_way())
    return [2 * tensor for tensor in tensors]


def _short_way() -> bool:
    """Whether the dispatcher has not been asked again, so that its caller is our function."""
    import inspect

    return any(frame.filename.endswith("op_gradients.py") for frame in inspect.stack()[2:3])


def _backward(ctx: Any, gradients: Sequence[Tensor]) -> tuple[list[Tensor], None]:
    return [2 * gradient for gradient in gradients], None


@pytest.fixture(scope="module", autouse=True)
def op() -> Iterator[Any]:
    library = torch.library.Library("diagc_test", "FRAGMENT")
    library.define("double(Tensor[] tensors, str key) -> Tensor[]")
    library.impl("double", _double, "CPU")
    found = torch.ops.diagc_test.double.default

    def shapes(tensors: Sequence[Tensor], key: str) -> list[Tensor]:
        return [torch.empty_like(tensor) for tensor in tensors]

    torch.library.register_fake("diagc_test::double", shapes, lib=library)
    register_gradients(library, found, _double, _backward, lambda ctx, inputs, output: None)
    yield found
    library._destroy()


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


def test_where_nothing_is_recorded_the_way_is_short(op: Any) -> None:
    x = torch.randn(3, generator=GENERATOR)
    (found,) = op([x], "")
    torch.testing.assert_close(found, x + x)
    with torch.no_grad():
        assert op([x.requires_grad_()], "")[0].grad_fn is None
    assert calls == [True, True]


def test_gradients_are_recorded(op: Any) -> None:
    x = torch.randn(3, generator=GENERATOR, requires_grad=True)
    (found,) = op([x], "")
    (gradient,) = torch.autograd.grad(found, x, torch.ones(3))
    assert gradient.tolist() == [2.0] * 3
    assert calls == [False]


def test_whoever_looks_on_is_asked(op: Any) -> None:
    x = torch.randn(3, generator=GENERATOR)
    assert op([x.to("meta")], "")[0].is_meta
    with FakeTensorMode():
        assert op([torch.ones(3)], "")[0].shape == (3,)
    assert calls == []
    (found,) = op([torch._neg_view(x)], "")
    torch.testing.assert_close(found, -x - x)
    assert calls == [False]
