"""Elementwise ops, casts, masks and tensors made of nothing, raised by both adapters."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagc.frontend.torch import ImportedProgram

GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(3, 5, 8, generator=GENERATOR)
Y = torch.randn(3, 5, 8, generator=GENERATOR)
POSITIVE = X.abs() + 0.1
ROW = torch.randn(8, generator=GENERATOR)
INTEGERS = torch.randint(-9, 9, (4, 5), generator=GENERATOR)

ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    *(F.relu, F.relu6, F.silu, F.gelu, F.elu, F.selu, F.celu, F.mish, F.softplus, F.leaky_relu),
    *(F.hardswish, F.hardsigmoid, F.hardtanh, F.logsigmoid, torch.sigmoid, torch.tanh),
    *(torch.exp, torch.exp2, torch.expm1, torch.sin, torch.cos, torch.erf, torch.erfc),
    *(torch.abs, torch.neg, torch.sign, torch.sgn, torch.floor, torch.ceil, torch.trunc),
    *(torch.round, torch.frac, torch.square, torch.reciprocal, torch.atan, torch.sinh),
    *(torch.isnan, torch.isinf, torch.isfinite, torch.signbit, torch.logical_not),
    torch.nan_to_num,
)
OF_POSITIVE = (torch.log, torch.log2, torch.log10, torch.log1p, torch.sqrt, torch.rsqrt)


def _name(function: Any) -> str:
    return str(function.__name__)


@pytest.mark.parametrize("function", ACTIVATIONS, ids=_name)
def test_function_of_one_number(
    function: Any, check_import: Callable[..., ImportedProgram]
) -> None:
    assert not check_import(lambda x: function(x * 3), X).externs


@pytest.mark.parametrize("function", OF_POSITIVE, ids=_name)
def test_function_of_one_positive_number(
    function: Any, check_import: Callable[..., ImportedProgram]
) -> None:
    assert not check_import(function, POSITIVE).externs


BINARY: dict[str, Callable[..., Any]] = {
    "arithmetic": lambda a, b: (a + b * 2 - b / 3) * (1 - a) / (b.abs() + 1),
    "scaled": lambda a, b: torch.add(a, b, alpha=2) - torch.sub(a, b, alpha=3),
    "reversed": lambda a, b: (2 - a, 2 / (b.abs() + 1), torch.rsub(a, b, alpha=2)),
    "powers": lambda a, b: (a**2, a**3, a.abs() ** 0.5, a.abs() ** 1.7, 2**a, a.abs() ** b),
    "extremes": lambda a, b: (torch.maximum(a, b), torch.minimum(a, b), torch.max(a, b)),
    "clamp": lambda a, b: (a.clamp(-1, 1), a.clamp(min=0), a.clamp(max=0.5), a.clamp(b - 1, b)),
    "remainders": lambda a, b: (a % b, torch.fmod(a, b), a // b, torch.remainder(a, 0.7)),
    "rounded division": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "two arguments": lambda a, b: (torch.atan2(a, b), torch.hypot(a, b), torch.copysign(a, b)),
    "log add exp": lambda a, b: torch.logaddexp(a * 100, b * 100),
    "lerp": lambda a, b: (torch.lerp(a, b, 0.3), torch.lerp(a, b, b)),
    "fused": lambda a, b: (
        torch.addcmul(a, a, b, value=0.5),
        torch.addcdiv(a, a, b.abs() + 1, value=2),
    ),
    "where": lambda a, b: (torch.where(a > b, a, 0.0), torch.where(a > b, a, b)),
    "masked fill": lambda a, b: a.masked_fill(b > 0, 3.0),
    "comparisons": lambda a, b: (a > b, a <= b, a == b, a != b, a >= 0, a < 0.5),
    "logic": lambda a, b: (
        torch.logical_and(a > 0, b > 0),
        torch.logical_xor(a > 0, b > 0),
        torch.logical_or(a, b),
        (a > 0) & (b > 0) | ~(a != b),
    ),
    "casts of bools": lambda a, b: ((a > b).float(), (a > b).sum(), (a > b).to(torch.int32) * 2),
    "gelu with tanh": lambda a, b: F.gelu(a, approximate="tanh") + b,
    "broadcast": lambda a, b: a * b[0, 0] + a[:, :1] * b[:1] + b[1, 2, 3],
}


@pytest.mark.parametrize("name", BINARY)
def test_function_of_two_numbers(name: str, check_import: Callable[..., ImportedProgram]) -> None:
    assert not check_import(BINARY[name], X, Y).externs


def test_integer_arithmetic(check_import: Callable[..., ImportedProgram]) -> None:
    def function(a: Tensor) -> tuple[Tensor, ...]:
        quotients = (a // 3, a % 3, torch.div(a, 3, rounding_mode="trunc"), torch.fmod(a, 4))
        return *quotients, a * 2 + 1, -a, a.abs(), a > 1, a.float() / 2, a / 2, a**2, a & 3, ~a

    assert not check_import(function, INTEGERS).externs


def test_unsigned_bytes_are_not_signed(check_import: Callable[..., ImportedProgram]) -> None:
    pixels = torch.tensor([0, 1, 127, 128, 255], dtype=torch.uint8)
    assert not check_import(lambda a: (a.double() / 255, a.long() + 1, a > 100), pixels).externs


def test_values_that_are_not_finite(check_import: Callable[..., ImportedProgram]) -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan])

    def function(a: Tensor) -> tuple[Tensor, ...]:
        return torch.relu(a), a.clamp(-2, 2), a.sign(), torch.maximum(a, -a), a.nan_to_num(1.0)

    check_import(function, x)


def test_bf16_is_computed_in_f32_and_rounded_once(
    check_import: Callable[..., ImportedProgram],
) -> None:
    x = X.to(torch.bfloat16)
    program = check_import(lambda a: F.gelu(a) * 1.5, x, double=False, tolerance=1e-2)
    text = str(program.module)
    assert text.count("arith.extf") == 2  # one for each op: values between ops are bf16
    assert text.count("arith.truncf") == 2
    assert "bf16, " in text


def test_casts(check_import: Callable[..., ImportedProgram]) -> None:
    program = check_import(
        lambda a: (a.double() * 2, a.half().float(), a.int(), a.bool(), a.to(torch.bfloat16)),
        X,
        tolerance=1e-2,
    )
    assert not program.externs


def test_tensors_of_nothing_need_no_extern(check_import: Callable[..., ImportedProgram]) -> None:
    def function(a: Tensor) -> tuple[Tensor, ...]:
        steps = torch.arange(8), torch.arange(0, 10, 2), torch.arange(5.0) / 2
        filled = torch.zeros(3), torch.ones(2, 2), torch.full((2,), 4.0), torch.zeros_like(a)
        sums = a + steps[0], a * torch.linspace(0, 1, 8, dtype=a.dtype), torch.eye(5) @ a.float()
        return *steps, *filled, *sums, torch.tril(a, 1), torch.triu(a, -1)

    program = check_import(function, X, tolerance=1e-6)
    assert not program.externs


def test_numbers_wrapped_in_tensors_are_literals(
    check_import: Callable[..., ImportedProgram],
) -> None:
    program = check_import(lambda a: (a * torch.tensor(2.5), None, 3, "text"), X)
    assert len(program.parameters) == 1
    assert program.outputs.rebuild([X])[1:] == (None, 3, "text")


def test_other_constants_are_arguments(check_import: Callable[..., ImportedProgram]) -> None:
    table = torch.arange(8.0, dtype=torch.float64)
    program = check_import(lambda a: a + table + torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8]), X)
    assert len(program.parameters) == 3
    assert "dense" not in str(program.module)


# --- indexing by positions ------------------------------------------------------------------------

COUNTED: dict[str, Callable[[Tensor], Any]] = {
    "all": lambda x: x[torch.arange(3)],
    "inner": lambda x: x[:, torch.arange(5)],
    "two": lambda x: x[torch.arange(3)[:, None], torch.arange(5)],
    "swapped": lambda x: x[:, torch.arange(5)[None], torch.arange(8)[:, None]],
    "apart": lambda x: x[torch.arange(3)[:, None], :, torch.arange(8)],
    "repeated": lambda x: x[:, torch.arange(5)[:, None].expand(5, 2)],
    "of size 1": lambda x: x[None][torch.arange(1)[:, None, None], torch.arange(3)],
}
OTHER_INDICES: dict[str, Callable[[Tensor], Any]] = {
    "part": lambda x: x[torch.arange(2)],
    "shifted": lambda x: x[torch.arange(3) - 1],
    "diagonal": lambda x: x[torch.arange(3), torch.arange(3)],
    "both": lambda x: x[:, torch.arange(5), torch.arange(5)],
    "data": lambda x: x[(x[:, 0, 0] > 0).long()],
}


@pytest.mark.parametrize("name", COUNTED)
def test_indices_that_count_positions_are_views(
    name: str, check_import: Callable[..., ImportedProgram]
) -> None:
    assert not check_import(lambda x: COUNTED[name](x) * 2, X).externs


@pytest.mark.parametrize("name", OTHER_INDICES)
def test_other_indices_stay_in_torch(
    name: str, check_import: Callable[..., ImportedProgram]
) -> None:
    program = check_import(lambda x: OTHER_INDICES[name](x) * 2, X)
    assert [call.target for call in program.externs.values()] == ["aten.index.Tensor"]


@pytest.mark.parametrize("bound", [-1, 0, 1, 7, 8])
def test_positions_are_not_negative(
    bound: int,
    check_import: Callable[..., ImportedProgram],
    ops: Callable[[ImportedProgram], list[str]],
) -> None:
    def choose(x: Tensor) -> Tensor:
        positions = torch.arange(8)
        return torch.where(positions >= bound, x, -x) + torch.where(positions < bound, x, 2 * x)

    assert ("index" in ops(check_import(choose, X))) == (0 < bound < 8)  # else sizes decide
