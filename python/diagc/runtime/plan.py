"""A program laid out for inputs of given shapes and strides: views, buffers, launches are fixed.

A plan is a list of actions on a list of tensors, by slot: inputs first, then constants and buffers.
An array is a description of memory in a slot, so views cost nothing at a call. A buffer is
forgotten after the last action that uses it.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

import torch

from diagc.runtime.strides import collapse, nests, permuted_strides

__all__ = ["Action", "Array", "Plan", "Planner", "Shape", "Values"]

Values: TypeAlias = list[Any]
Action: TypeAlias = Callable[[Values], None]
Shape: TypeAlias = tuple[int, ...]
_Make: TypeAlias = "Callable[[Planner], Action]"


class Array(NamedTuple):
    """A strided array in a slot; offset and strides count elements."""

    slot: int
    offset: int
    shape: Shape
    strides: Shape
    dtype: torch.dtype

    def permuted(self, order: Sequence[int]) -> "Array":
        """The same memory with axis i where axis `order[i]` was."""
        shape, strides = ([seq[axis] for axis in order] for seq in (self.shape, self.strides))
        return self._replace(shape=tuple(shape), strides=tuple(strides))

    def grouped(self, groups: Sequence[Sequence[int]]) -> "Array | None":
        """The same memory with groups of axes merged, or None where a group does not nest."""
        merged = []
        for group in groups:
            sizes, strides = [self.shape[a] for a in group], [self.strides[a] for a in group]
            if 0 in self.shape:  # nothing is read, whatever the strides
                merged.append((prod(sizes), 1))
            elif nests(sizes, strides):
                merged.append(collapse(sizes, strides))
            else:
                return None
        shape, steps = (tuple(part) for part in zip(*merged, strict=True)) if merged else ((), ())
        return self._replace(shape=shape, strides=steps)


class Plan:
    """Actions in order, with the buffers that each uses last, and where the results are."""

    def __init__(self, planner: "Planner", results: Sequence[Array]) -> None:
        """Take over what a planner has gathered."""
        for result in results:
            planner.keep(result)
            planner.adopt(result)
        self._tail = planner.initial_values()
        self._actions = planner.actions_with_last_uses()
        self._whole = [r.slot for r in results] if all(map(planner.is_whole, results)) else None
        self._results = tuple(planner.getter(result) for result in results)
        self.direct = self._whole is not None and planner.only_launches
        """Whether torch does nothing but allocate: there is nothing that autograd could record."""
        slots = [result.slot for result in results]
        self._lasting = planner.lasting_slots()
        self.owned = tuple(
            not planner.is_input(result) and result.slot not in slots[:i]
            for i, result in enumerate(results)
        )
        """For each result whether its memory is that of no input and no earlier result."""

    def run(
        self, tensors: Sequence[torch.Tensor], kept: dict[int, torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """Run on tensors that have the shapes, strides and dtypes of the plan.

        Args:
            tensors: the inputs.
            kept: buffers of an earlier run of a plan that reuses them, by slot; filled by the run.
        """
        values = [*tensors, *self._tail]
        for slot, tensor in (kept or {}).items():
            values[slot] = tensor
        for action, dead in self._actions:
            action(values)
            for slot in dead:
                values[slot] = None
        if kept is not None:
            kept.update((slot, values[slot]) for slot in self._lasting)
        if self._whole is not None:
            return [values[slot] for slot in self._whole]
        return [result(values) for result in self._results]


class Planner:
    """Gathers slots and actions; the rules of the steps (`plan_steps`) fill it.

    Args:
        tensors: example inputs; only shapes, strides and dtypes are read.
        device: where the inputs are, hence constants, buffers and results.
        reuse: whether a run leaves its buffers to the next one, but those of results.
    """

    def __init__(
        self, tensors: Sequence[torch.Tensor], device: torch.device, reuse: bool = False
    ) -> None:
        """Give every input its slot."""
        self.device = device
        self.reuses = reuse
        self._lasting: set[int] = set()
        self.input_count = len(tensors)
        self._bases = [(tuple(t.shape), t.stride()) for t in tensors]
        self._constants: dict[int, torch.Tensor] = {}
        self._actions: list[tuple[_Make, tuple[int, ...]]] = []
        self._kept: set[int] = set()
        self._launched: set[int] = set()  # slots that kernels allocate
        self._viewed: set[int] = set()
        self.only_launches = True
        """Whether all actions so far are launches."""

    # ---- slots -------------------------------------------------------------------------------

    def new_slot(self, shape: Sequence[int]) -> int:
        """A slot for a dense tensor that an action will make."""
        dense = permuted_strides(shape, range(len(shape)))
        self._bases.append((tuple(shape), dense))
        return len(self._bases) - 1

    def buffer(self, sizes: Shape, order: Sequence[int], dtype: torch.dtype) -> Array:
        """A new array whose axes lie in memory in `order`, slowest first."""
        slot = self.new_slot([sizes[axis] for axis in order])
        return Array(slot, 0, sizes, permuted_strides(sizes, order), dtype)

    def constant(self, tensor: torch.Tensor) -> Array:
        """An array that holds the same at every call."""
        slot = self.new_slot(tensor.shape)
        self._constants[slot] = tensor.contiguous().to(self.device)
        dense = permuted_strides(tensor.shape, range(tensor.dim()))
        return Array(slot, 0, tuple(tensor.shape), dense, tensor.dtype)

    def base(self, slot: int) -> tuple[Shape, Shape]:
        """Shape and strides that the tensor in a slot has; settled when actions are made."""
        return self._bases[slot]

    def slot_shape(self, slot: int) -> Shape:
        """Shape that the tensor in a slot has."""
        return self._bases[slot][0]

    def is_input(self, array: Array) -> bool:
        """Whether an array is memory of the caller's."""
        return array.slot < self.input_count

    def is_constant(self, array: Array) -> bool:
        """Whether an array is memory that later calls read again."""
        return array.slot in self._constants

    # ---- actions -----------------------------------------------------------------------------

    def emit(
        self,
        action: Action,
        reads: Sequence[Array],
        writes: Sequence[Array] = (),
        *,
        keeps: bool = False,
    ) -> None:
        """Append an action; `keeps`: it writes into buffers that it finds in its slots."""
        self.only_launches = False
        self._append(lambda _: action, reads, writes, keeps)

    def emit_launch(
        self, make: _Make, reads: Sequence[Array], writes: Sequence[Array], *, keeps: bool
    ) -> None:
        """Append an action that allocates `writes` and else only asks for addresses.

        Args:
            make: gives the action, from this planner, when the `base` of every slot is settled;
                it must not hold the planner, lest kernels live on in a cycle.
            reads: arrays of earlier actions, inputs or constants.
            writes: new arrays.
            keeps: as in `emit`.
        """
        self._launched.update(array.slot for array in writes)
        self._append(make, reads, writes, keeps)

    def _append(
        self, make: _Make, reads: Sequence[Array], writes: Sequence[Array], keeps: bool
    ) -> None:
        self._actions.append((make, tuple(a.slot for a in (*reads, *writes))))
        if keeps and self.reuses:
            self._lasting.update(array.slot for array in writes)

    def getter(self, array: Array) -> Callable[[Values], Any]:
        """A function from values to the array as a tensor: the slot's own, or a view of it."""
        slot, offset, shape, strides, _ = array
        self._viewed.add(slot)
        if self.is_whole(array):
            return lambda values: values[slot]
        if offset == 0:
            return lambda values: values[slot].as_strided(shape, strides)
        return lambda values: values[slot].as_strided(
            shape, strides, values[slot].storage_offset() + offset
        )

    def is_whole(self, array: Array) -> bool:
        """Whether an array is the tensor in its slot, not another view of it."""
        return array.offset == 0 and (array.shape, array.strides) == self._bases[array.slot]

    def adopt(self, result: Array) -> None:
        """Let a kernel allocate a result with its final shape and strides, if nobody minds.

        It must be all of the memory, and no action may view it.
        """
        slot, count = result.slot, prod(result.shape)
        dims = zip(result.shape, result.strides, strict=True)
        reach = sum((size - 1) * step for size, step in dims) + 1
        fits = result.offset == 0 and prod(self._bases[slot][0]) == count == reach
        if fits and slot in self._launched - self._viewed:
            self._viewed.add(slot)
            self._bases[slot] = (result.shape, result.strides)

    def copy(self, array: Array, order: Sequence[int], dtype: torch.dtype | None = None) -> Array:
        """A dense copy whose axes lie in memory in `order`; converted to `dtype`."""
        result = self.buffer(array.shape, order, dtype or array.dtype)
        slot, shape, kind = result.slot, self.slot_shape(result.slot), result.dtype
        get, device = self.getter(array.permuted(order)), self.device

        def action(values: Values) -> None:
            values[slot] = torch.empty(shape, dtype=kind, device=device).copy_(get(values))

        self.emit(action, [array], [result])
        return result

    def keep(self, array: Array) -> None:
        """Do not forget the memory of an array: it is a result."""
        self._kept.add(array.slot)

    # ---- for Plan ----------------------------------------------------------------------------

    def initial_values(self) -> Values:
        """What the slots after the inputs hold at the start."""
        slots = range(self.input_count, len(self._bases))
        return [self._constants.get(slot) for slot in slots]

    def lasting_slots(self) -> tuple[int, ...]:
        """Slots whose buffers the next run may overwrite: those of no result."""
        return tuple(sorted(self._lasting - self._kept))

    def actions_with_last_uses(self) -> tuple[tuple[Action, tuple[int, ...]], ...]:
        """Each action with the slots that nobody uses after it."""
        alive = self._kept | self._lasting
        found: list[tuple[Action, tuple[int, ...]]] = []
        for make, slots in reversed(self._actions):
            found.append((make(self), tuple(sorted(set(slots) - alive))))
            alive.update(slots)
        return tuple(reversed(found))
