"""A function compiled for one kind of call: a program, and where its inputs and outputs go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from diagc.runtime.captured import CapturedTensor
from diagc.runtime.guards import holds
from diagc.runtime.plan import Plan
from diagc.runtime.program import Program
from diagc.runtime.sizes import Sizes
from diagc.runtime.torch_launch import TORCH_DTYPES

__all__ = ["Backward", "ProgramResult", "Ready", "ShardedAxis", "Specialization"]


@dataclass(frozen=True)
class ProgramResult:
    """Marks an output that is result number `index` of the program; others are constants."""

    index: int


@dataclass(frozen=True)
class Backward:
    """How gradients by some inputs of a program are computed.

    Args:
        program: takes the inputs, a cotangent for each result that holds floats, and what the
            forward pass has saved; gives the gradients. None where the function itself is run
            again.
        reason: why there is none.
    """

    program: Program | None
    reason: str = ""


@dataclass(frozen=True)
class ShardedAxis:
    """An axis that may be cut into shards.

    Args:
        inputs: for each input of the program the dim of its tensor; None where it lacks the axis.
        outputs: likewise of the results.
    """

    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]


@dataclass
class Specialization:
    """A compiled program with its bindings.

    Args:
        program: to run.
        sources: for each input of the program, the number of the user's tensor or a captured one.
        outputs: flattened outputs of the function.
        output_spec: how they are put together.
        shapes: of the user's tensors at the import.
        source_ir: text of the diag module.
        dynamic: whether some size is open.
        fixed_because: why none is, where some should be.
        conditions: see `diagc.runtime.guards.holds`.
        random: whether it draws random numbers, which a backward pass would draw anew.
        unused: numbers of the inputs that nothing reads: they have no gradients, not even zeros.
        axes: that the function keeps apart, so that shards of them may be computed alone.
        checked: whether results of it have been found right.
        backward: by the numbers of the inputs whose gradients are wanted, and whether it takes what
            the forward pass has saved; made when first needed.
        saving: a program that gives more results, which `backward` takes; None when not made yet,
            or where nothing is worth saving: then `saves` is false.
        saves: whether there may be such a program.
    """

    program: Program
    sources: tuple[int | CapturedTensor, ...]
    outputs: tuple[Any, ...]
    output_spec: pytree.TreeSpec
    shapes: tuple[tuple[int, ...], ...]
    source_ir: str
    dynamic: bool = False
    fixed_because: str = ""
    conditions: tuple[str, ...] = ()
    random: bool = False
    unused: frozenset[int] = frozenset()
    axes: tuple[ShardedAxis, ...] = ()
    checked: bool = False
    backward: dict[tuple[tuple[int, ...], bool], Backward] = field(default_factory=dict)
    saving: Program | None = None
    saves: bool = True

    def __post_init__(self) -> None:
        """See what is plain: one result that is the value, inputs that are the user's tensors."""
        self._takes_all = self.sources == tuple(range(len(self.sources)))
        self._is_single = self.outputs == (ProgramResult(0),) and self.output_spec.is_leaf()

    def inputs(
        self,
        tensors: Sequence[torch.Tensor],
        captured: Mapping[object, torch.Tensor] = MappingProxyType({}),
    ) -> list[torch.Tensor]:
        """The program's inputs for a call; `captured` replaces captured tensors, by identity."""
        if self._takes_all:
            return list(tensors[: len(self.sources)])
        device = tensors[0].device if tensors else None
        if not captured:
            return [tensors[s] if isinstance(s, int) else s.get(device) for s in self.sources]
        return [
            tensors[s] if isinstance(s, int) else captured.get(s.identity, s.get(device))
            for s in self.sources
        ]

    def example_tensors(self) -> tuple[torch.Tensor, ...]:
        """Tensors without values, of the shapes and dtypes of the user's at the import."""
        dtypes = {
            source: TORCH_DTYPES[entry.type.dtype]
            for source, entry in zip(self.sources, self.program.inputs, strict=True)
            if isinstance(source, int)
        }
        return tuple(
            torch.empty(shape, dtype=dtypes.get(number), device="meta")
            for number, shape in enumerate(self.shapes)
        )

    def admits(self, shapes: Sequence[Sizes]) -> bool:
        """Whether the function takes the same branches for tensors of these shapes."""
        return holds(self.conditions, shapes)

    def accepts(self, shapes: Sequence[Sizes]) -> bool:
        """Whether sizes that are plain ints fit those that the program fixes.

        A symbolic size fits only an open one: torch would turn a comparison into a guard.
        """
        if not self.admits(shapes):
            return False
        for source, entry in zip(self.sources, self.program.inputs, strict=True):
            if not isinstance(source, int):
                continue
            known = dict(zip(entry.type.labels, entry.sizes, strict=True))
            for group, size in zip(entry.dims, shapes[source], strict=True):
                if not _fits([known[label] for label in group], size):
                    return False
        return True

    def results_of(self, value: Any) -> list[torch.Tensor]:
        """The program's results, from what the function returned."""
        leaves = zip(self.outputs, pytree.tree_leaves(value), strict=True)
        found = {item.index: leaf for item, leaf in leaves if isinstance(item, ProgramResult)}
        return [found[index] for index in sorted(found)]

    def value(self, results: Sequence[torch.Tensor]) -> Any:
        """What the function returns, from the program's results."""
        if self._is_single:
            return results[0]
        leaves = [
            results[item.index] if isinstance(item, ProgramResult) else item
            for item in self.outputs
        ]
        return pytree.tree_unflatten(leaves, self.output_spec)


def _fits(parts: Sequence[int | None], size: Any) -> bool:
    total = 1
    for part in parts:
        if part is None:
            return True
        total *= part
    return isinstance(size, int) and size == total


class Ready(NamedTuple):
    """A call that only has to be run."""

    specialization: Specialization
    inputs: list[torch.Tensor]
    plan: Plan

    def run(self, fresh: bool = False) -> list[torch.Tensor]:
        """The program's results; `fresh`: none shares memory with anything."""
        return self.specialization.program.execute(self.plan, self.inputs, fresh)
