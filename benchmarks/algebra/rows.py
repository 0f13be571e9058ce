"""A row of the table: plain torch code, its inputs, and what the compiler should make of it.

Shapes stand in `<group>.toml`, one table per row, and are fixed before anything is measured:

    [softmax]
    shapes = [{heads = 16, queries = 1024, keys = 1024, width = 64}, ...]
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

__all__ = [
    "TOLERANCES",
    "Explained",
    "Row",
    "Shape",
    "Tensor",
    "has_stream",
    "in_kernels",
    "one_kernel",
    "reassociated",
]

Tensor: TypeAlias = torch.Tensor
Shape: TypeAlias = Mapping[str, int]
Explained: TypeAlias = Mapping[str, Any]
"""What explain("json") says, read."""

TOLERANCES: Mapping[torch.dtype, float] = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Largest difference from float64 over its largest value, by dtype of the inputs."""


# ---- what counts as derived ----------------------------------------------------------------------


def in_kernels(report: Explained) -> bool:
    """All of it runs in kernels of ours: nothing is left to torch."""
    return bool(report["kernels"]) and not report["fall_back"] and not report["outside"]


def one_kernel(report: Explained) -> bool:
    """All of it runs in one kernel, launched once."""
    return in_kernels(report) and [kernel["calls"] for kernel in report["kernels"]] == [1]


def has_stream(report: Explained) -> bool:
    """Some kernel streams an axis, and no kernel fell back."""
    streams = [stream for kernel in report["kernels"] for stream in kernel["streams"]]
    return bool(streams) and not report["fall_back"]


def reassociated(report: Explained) -> bool:
    """A chain of contractions was contracted in another order."""
    return not report["fall_back"] and any("instead of" in n["text"] for n in report["done"])


# ---- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        name: unique in its group.
        group: which file the row and its shapes stand in.
        function: plain torch code, without anything of diagc.
        inputs: makes the arguments for a shape, from a seeded generator.
        derived: whether the compiler found what this row is about, told from explain().
        tolerances: by dtype of the first floating-point argument.
        options: of `diagc.compile`.
    """

    name: str
    group: str
    function: Callable[..., Any]
    inputs: Callable[[Shape, torch.Generator], tuple[Any, ...]]
    derived: Callable[[Explained], bool] = has_stream
    tolerances: Mapping[torch.dtype, float] = field(default_factory=lambda: TOLERANCES)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> Sequence[Shape]:
        """The shapes that are committed for this row; at least two.

        Raises:
            ValueError: there are fewer.
        """
        found: Sequence[Shape] = _shapes(self.group).get(self.name, {}).get("shapes", ())
        if len(found) < 2:
            raise ValueError(f"{self.group}.toml has {len(found)} shapes for row '{self.name}'")
        return found

    def arguments(self, shape: Shape, seed: int) -> tuple[Any, ...]:
        """The arguments for a shape; equal seeds give equal numbers."""
        return self.inputs(shape, torch.Generator().manual_seed(seed))

    def tolerance(self, arguments: Sequence[Any]) -> float:
        """The largest error allowed."""
        return self.tolerances[next(a.dtype for a in arguments if _is_floating(a))]


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


@cache
def _shapes(group: str) -> Mapping[str, Any]:
    text = (Path(__file__).parent / f"{group}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
