"""Tensors made of positions alone: they stay expressions of positions, and equal torch's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from diagc.frontend.torch import ImportedProgram

Ops = Callable[[ImportedProgram], list[str]]
Check = Callable[..., ImportedProgram]

N = 12
X = torch.arange(N, dtype=torch.float64)


def _position() -> Tensor:
    return torch.arange(N)


MADE: dict[str, Callable[[], Tensor]] = {
    "shift forth and back": lambda: (_position() + 3)[2:] - 3,
    "join and slice": lambda: torch.cat([_position()[:1] - 1, _position()])[1:],
    "two pieces": lambda: torch.cat([_position(), _position() * 2]),
    "three pieces": lambda: torch.cat([_position()[:2], _position()[5:6], _position()[3:]]),
    "differences": lambda: torch.diff(_position() * 3, prepend=_position()[:1]),
    "count": lambda: torch.ones(N, dtype=torch.bool).cumsum(0) - 1,
    "count of nothing": lambda: (_position() < 0).cumsum(0),
    "backwards": lambda: _position().flip(0)[1:5],
    "every third": lambda: (_position()[:, None] <= _position()).flatten(1)[::3, 2],
    "rows of a table": lambda: _position().view(3, 4)[1] * 2 + _position().view(3, 4)[:, 2, None],
    "gathered": lambda: (_position() + 5)[torch.arange(N)],
    "one choice": lambda: torch.where(_position() < 1, -1, _position() - 1),
    "no choice": lambda: torch.where(_position() < 1, 7, _position() - 1),
    "choice at the end": lambda: torch.where(_position() == N - 1, 10, _position() - 1),
}


@pytest.mark.parametrize("name", MADE)
def test_is_computed_from_positions(name: str, check_import: Check, ops: Ops) -> None:
    def function(x: Tensor) -> Tensor:
        made = MADE[name]()
        return made * x[:1].sum()

    program = check_import(function, X + 2)
    assert not program.externs
    made_of = set(ops(program))
    assert made_of <= {"index", "map", "reindex", "reduce", "contract"}


@pytest.mark.parametrize(
    ("holds", "function"),
    [
        (True, lambda i: (i + 1) - 1 >= 0),
        (True, lambda i: i - 8 < i),
        (True, lambda i: i < N),
        (False, lambda i: i * 2 > 2 * (N - 1)),
        (None, lambda i: i < N - 1),
        (None, lambda i: i * 2 >= i + 1),
        (None, lambda i: i - 1 >= 0),
    ],
)
def test_comparisons_that_hold_everywhere(
    holds: bool | None, function: Any, check_import: Check
) -> None:
    program = check_import(lambda x: torch.where(function(_position()), x, -x), X)
    assert ("arith.cmpi" in str(program.module)) == (holds is None)


def test_running_sums_of_data_stay_in_torch(check_import: Check) -> None:
    program = check_import(lambda x: (x > 3).cumsum(0), X)
    assert [note.op for note in program.notes] == ["aten.cumsum.default"]


def test_running_sums_of_positions_stay_in_torch(check_import: Check) -> None:
    program = check_import(lambda x: _position().cumsum(0) + x.long(), X)
    assert len(program.externs) == 1
