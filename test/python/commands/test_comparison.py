"""The verdict of `diagc run` is right about rounding, wrong terms, NaN, shapes and dtypes."""

import math

import pytest
import torch

from diagc.commands.timing import time_calls
from diagc.runtime.comparison import compare, compare_with, max_error


def softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, -1)


INPUTS = (torch.randn(5, 7, generator=torch.Generator().manual_seed(0)),)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_another_order_of_summation_is_equal(dtype: torch.dtype) -> None:
    def reordered(x: torch.Tensor) -> torch.Tensor:
        return softmax(x.flip(-1)).flip(-1)

    comparison = compare(softmax, reordered, (INPUTS[0].to(dtype),))
    assert comparison.equal
    assert comparison.reference == "float64"


@pytest.mark.parametrize("wrong", [1e-4, math.inf, math.nan])
def test_a_wrong_element_differs(wrong: float) -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        result = softmax(x)
        result[0, 0] += wrong
        return result

    comparison = compare(softmax, broken, INPUTS)
    assert not comparison.equal
    assert "DIFFERS FROM EAGER" in comparison.text()


def test_a_missing_result_differs() -> None:
    assert not compare(lambda x: (x, x), lambda x: (x,), INPUTS).equal
    assert not compare(lambda x: x, lambda x: x[0], INPUTS).equal


def test_modules_are_compared_in_float64() -> None:
    module = torch.nn.Linear(7, 3)
    comparison = compare(module, module, INPUTS)
    assert comparison.equal
    assert 0 < (comparison.eager_error or 0) < 1e-6
    assert module.weight.dtype == torch.float32


def test_a_program_that_insists_on_its_dtype_is_its_own_reference() -> None:
    weight = torch.ones(7, 2)
    comparison = compare(lambda x: x @ weight, lambda x: x @ weight, INPUTS)
    assert comparison.equal
    assert comparison.reference.startswith("eager in its own dtype (float64 failed: ")


def test_rows_without_meaning_do_not_count() -> None:
    reference = torch.tensor([1.0, math.nan, math.inf])
    assert max_error(torch.tensor([1.5, 0.0, 0.0]), reference) == 0.5


def test_integers_count_differences() -> None:
    assert max_error(torch.tensor([1, 2, 3]), torch.tensor([1, 0, 0])) == 2


def test_empty_results_are_equal() -> None:
    assert compare(lambda x: x[:0], lambda x: x[:0], INPUTS).equal


def test_reference_alone_grants_rounding_only() -> None:
    exact = torch.linspace(0, 1, 9, dtype=torch.float64)
    assert compare_with([exact], [exact.float()]).equal
    assert not compare_with([exact], [exact.float() + 1e-4]).equal


def test_times_are_taken_in_turns() -> None:
    calls: list[str] = []
    timing = time_calls(lambda x: calls.append("ours"), lambda x: calls.append("eager"), INPUTS)
    assert calls[:4] == ["ours", "eager", "ours", "eager"]
    assert timing.compiled > 0
    assert timing.ratio is not None
    assert time_calls(lambda x: x, None, INPUTS).ratio is None
