"""What the rules that lay out steps share: types, sizes and arrays by number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from diagc.runtime.host_kernel import HostKernel
from diagc.runtime.plan import Array, Plan, Planner
from diagc.runtime.planned_kernel import PlannedKernel
from diagc.runtime.sizes import Sizes
from diagc.runtime.steps import ArrayType, HostProgram
from diagc.runtime.torch_launch import TORCH_DTYPES

__all__ = ["Externs", "Kernel", "PlanBlock", "Resources", "Scope"]

Kernel: TypeAlias = PlannedKernel[Any] | HostKernel
Externs: TypeAlias = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Resources:
    """What the steps of a program call, and where it runs.

    Args:
        kernels: of the program.
        externs: callables by symbol.
        float64: whether every float is computed as f64, whatever the types say.
        device: where the inputs are.
    """

    kernels: Sequence[Kernel]
    externs: Externs
    float64: bool
    device: torch.device


PlanBlock: TypeAlias = Callable[[HostProgram, Sequence[torch.Tensor], Resources], Plan]


@dataclass
class Scope:
    """State while one program is laid out.

    Args:
        planner: gathers actions.
        types: of all arrays of the program.
        sizes: of all arrays, for these inputs.
        orders: of all arrays, as their consumers like them.
        resources: of the program.
        plan_block: lays out the program of one block of an axis.
        arrays: those laid out so far.
    """

    planner: Planner
    types: Sequence[ArrayType]
    sizes: Sequence[Sizes]
    orders: Sequence[tuple[int, ...]]
    resources: Resources
    plan_block: PlanBlock
    arrays: list[Array] = field(default_factory=list)

    def dtype(self, name: str) -> torch.dtype:
        """The torch dtype of an element type."""
        dtype = TORCH_DTYPES[name]
        return torch.float64 if self.resources.float64 and dtype.is_floating_point else dtype

    def buffer(self, number: int) -> Array:
        """A new buffer for array `number`, as its consumers like it."""
        dtype = self.dtype(self.types[number].dtype)
        return self.planner.buffer(self.sizes[number], self.orders[number], dtype)
