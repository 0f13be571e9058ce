"""Bad input: one paragraph that says where, what was expected, what was found, what to do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diagc.errors import DiagcError, UnsupportedError, UserError
from diagc.frontend.torch import import_torch

X = torch.randn(3, 4)


def _fails(function: Any, inputs: Any, kind: type[DiagcError], *words: str, **how: Any) -> None:
    with pytest.raises(kind) as caught:
        import_torch(function, inputs, **how)
    text = caught.value.render()
    for word in words:
        assert word in text
    assert caught.value.message[0].islower() or caught.value.message[0] in "'<_"


def test_not_a_function() -> None:
    _fails(3, (X,), UserError, "expected a function", "found int")


def test_inputs_that_are_no_tuple() -> None:
    _fails(torch.relu, X, UserError, "expected tuple", "found Tensor")
    _fails(torch.relu, [X], UserError, "expected tuple", "found list")


@pytest.mark.parametrize("value", [2.5, "text", None])
def test_input_that_is_no_tensor(value: Any) -> None:
    _fails(lambda a, b: a, (X, value), UserError, "example input 1", "functools.partial")


def test_sparse_input() -> None:
    _fails(torch.relu, (X.to_sparse(),), UserError, "not a dense tensor", "sparse")


def test_unknown_adapter() -> None:
    _fails(torch.relu, (X,), UserError, "'fx' or 'torch-mlir'", "'onnx'", adapter="onnx")


def test_wrong_number_of_inputs() -> None:
    _fails(lambda a, b: a + b, (X,), UserError, "missing 1 required positional argument")


def test_shapes_that_do_not_fit() -> None:
    def product(a: Tensor) -> Tensor:
        return a @ a

    _fails(
        product, (X,), UserError, "test_torch_errors.py", "product fails", "cannot be multiplied"
    )


def test_error_of_the_function_itself() -> None:
    def broken(a: Tensor) -> Tensor:
        raise ValueError("no luck today")

    _fails(broken, (X,), UserError, "broken fails", "no luck today", "eager")


def test_branch_on_data() -> None:
    def branch(a: Tensor) -> Tensor:
        return a + 1 if a.sum() > 0 else a

    _fails(branch, (X,), UnsupportedError, "aten.is_nonzero", "test_torch_errors.py", "values")


def test_number_from_a_tensor() -> None:
    _fails(lambda a: a * a.max().item(), (X,), UnsupportedError, "aten.item", "values of tensors")


@pytest.mark.parametrize(
    "function",
    [lambda a: a[a > 0], torch.nonzero, torch.unique, lambda a: torch.masked_select(a, a > 0)],
)
def test_shapes_that_depend_on_data(function: Any) -> None:
    _fails(function, (X,), UnsupportedError)


def test_complex_numbers() -> None:
    _fails(lambda a: a * 2, (X.to(torch.complex64),), UnsupportedError, "argument 'a'", "complex64")
    _fails(lambda a: torch.fft.fft(a).abs(), (X,), UnsupportedError, "aten.fft_fft", "complex64")


def test_write_into_an_argument() -> None:
    _fails(lambda a: a.add_(1), (X,), UnsupportedError, "aten.add_", "clone")


def test_write_into_an_argument_through_a_view() -> None:
    def write(a: Tensor) -> Tensor:
        a[:, 0] = 1
        return a * 2

    _fails(write, (X,), UnsupportedError, "clone")


def test_statistics_that_a_module_updates() -> None:
    _fails(nn.BatchNorm1d(4).train(), (X,), UnsupportedError, "eval()")


def test_nothing_is_left_behind() -> None:
    compiler = torch.compiler
    before = compiler.is_compiling(), torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(UserError):
        import_torch(lambda a: a @ a, (X,))
    assert (compiler.is_compiling(), torch.backends.mha.get_fastpath_enabled()) == before
    torch.testing.assert_close(torch.relu(X) + 1, X.clamp(min=0) + 1)
