"""Copies and pickles of compiled functions, which are attributes of models."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import diagc


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / 8, -1) @ v


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.attention = diagc.compile(attention)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(x)
        out: Tensor = self.attention(y, y, y)
        return out


def test_models_are_copied_with_their_compiled_functions() -> None:
    x, layer = torch.randn(2, 10, 8), Layer()
    wanted = layer(x)
    twin = copy.deepcopy(layer)
    nn.init.zeros_(twin.project.weight)
    assert not torch.equal(twin(x), wanted)
    torch.testing.assert_close(layer(x), wanted)


def test_copies_of_compiled_modules_have_weights_of_their_own() -> None:
    x = torch.randn(2, 10, 8)
    compiled = diagc.compile(nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1)), x)
    wanted = compiled(x)
    twin = copy.deepcopy(compiled)
    torch.testing.assert_close(twin(x), wanted)
    nn.init.zeros_(twin.function[0].weight)  # type: ignore[index]
    assert not torch.equal(twin(x), wanted)
    torch.testing.assert_close(compiled(x), wanted)


def test_pickles_are_compiled_again() -> None:
    args = [torch.randn(2, 10, 8) for _ in range(3)]
    compiled = diagc.compile(attention, *args, reassociate="off")
    again = pickle.loads(pickle.dumps(compiled))
    assert again.options == compiled.options
    torch.testing.assert_close(again(*args), compiled(*args))


def test_functions_that_cannot_be_imported_are_copied_but_not_pickled() -> None:
    compiled = diagc.compile(lambda x: x * 2 + 1, torch.ones(3))
    for twin in (copy.copy(compiled), copy.deepcopy(compiled)):
        assert torch.equal(twin(torch.ones(3)), torch.full((3,), 3.0))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(compiled)


class OfItself(nn.Module):
    """Holds a compiled method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.compiled = diagc.compile(self.inner)

    def inner(self, x: Tensor) -> Tensor:
        return torch.softmax(self.project(x), -1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.compiled(x)
        return out


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_compiled_methods_are_those_of_the_copy(again: Callable[[nn.Module], nn.Module]) -> None:
    x, model = torch.randn(2, 8), OfItself()
    wanted = model(x)
    twin = again(model)
    assert list(twin.state_dict()) == ["project.weight", "project.bias"]
    torch.testing.assert_close(twin(x), wanted)
    nn.init.zeros_(twin.project.weight)  # type: ignore[union-attr,arg-type]
    assert not torch.equal(twin(x), wanted)
    torch.testing.assert_close(model(x), wanted)
