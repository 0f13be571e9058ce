"""A program that is run once for each block of an axis, with states that go from block to block.

How long a block is depends on the sizes of a call: what is written of a block shall fit
`BLOCK_BYTES`. Buffers of a block are those of the block before, so that no memory is new to the
machine but once.
"""

from collections.abc import Sequence

import torch

from diagc.runtime.layout import array_types
from diagc.runtime.plan import Array, Plan, Values
from diagc.runtime.plan_scope import Scope
from diagc.runtime.sizes import array_sizes, label_sizes
from diagc.runtime.steps import Blocks, View
from diagc.runtime.strides import permuted_strides

__all__ = ["BLOCK_BYTES", "block_length", "lay_out_blocks"]

BLOCK_BYTES = 32 << 20
"""Bytes of all wires of a block: about what a third level of cache holds and matrices like."""

SHORTEST = 128
"""Positions of a block at least: shorter ones make slow matrix products."""

MULTIPLE = 64
"""Blocks are a multiple of this many positions, so that rows stay aligned."""


def lay_out_blocks(scope: Scope, step: Blocks) -> list[Array]:
    """Append the loop; the states are dense, in the order of their labels."""
    first = len(scope.arrays)
    states = [_dense(scope, scope.arrays[number]) for number in step.states]
    args = [scope.arrays[number] for number in step.args]
    results = [_result(scope, first + place) for place in range(len(states))]
    size = next(a.shape[axis] for a, axis in zip(args, step.cut, strict=True) if axis is not None)
    loop = _Loop(scope, step, states, args, size)
    slots = [result.slot for result in results]

    def action(values: Values) -> None:
        for slot, state in zip(slots, loop.run(values), strict=True):
            values[slot] = state

    scope.planner.emit(action, [*states, *args], results)
    return results


def _dense(scope: Scope, array: Array) -> Array:
    """A state as later blocks find it."""
    dense = permuted_strides(array.shape, range(len(array.shape)))
    if array.strides == dense and not scope.planner.is_constant(array):
        return array
    return scope.planner.copy(array, range(len(array.shape)))


def _result(scope: Scope, number: int) -> Array:
    sizes, dtype = scope.sizes[number], scope.dtype(scope.types[number].dtype)
    return scope.planner.buffer(sizes, range(len(sizes)), dtype)


class _Loop:
    """The blocks of one step, with the plans of a full one and of the rest."""

    def __init__(
        self,
        scope: Scope,
        step: Blocks,
        states: Sequence[Array],
        args: Sequence[Array],
        size: int,
    ) -> None:
        self._size, self._cut = size, step.cut
        self._states = [scope.planner.getter(array) for array in states]
        self._args = [scope.planner.getter(array) for array in args]
        shapes = [array.shape for array in (*states, *args)]
        self.length = block_length(step, shapes, size)

        def planned(length: int) -> Plan:
            examples = [_example(array, None, 0) for array in states]
            pairs = zip(args, step.cut, strict=True)
            examples += [_example(array, axis, length) for array, axis in pairs]
            return scope.plan_block(step.body, examples, scope.resources)

        self._full = planned(self.length) if size >= self.length > 0 else None
        self._rest = planned(size % self.length) if size % self.length else None

    def run(self, values: Values) -> list[torch.Tensor]:
        """The states behind the last block."""
        states = [get(values) for get in self._states]
        args = [get(values) for get in self._args]
        kept: dict[int, torch.Tensor] = {}
        for start in range(0, self._size, self.length):
            length = min(self.length, self._size - start)
            block = [
                arg if axis is None else arg.narrow(axis, start, length)
                for arg, axis in zip(args, self._cut, strict=True)
            ]
            plan = self._full if length == self.length else self._rest
            assert plan is not None
            if length < self.length:
                kept = {}
            states = plan.run([*states, *block], kept)
        return states


def _example(array: Array, axis: int | None, length: int) -> torch.Tensor:
    """A tensor without memory of the shape, strides and dtype of an array or of a block of it."""
    shape = list(array.shape)
    if axis is not None:
        shape[axis] = length
    return torch.empty_strided(shape, array.strides, dtype=array.dtype, device="meta")


def block_length(step: Blocks, shapes: Sequence[Sequence[int]], size: int) -> int:
    """Positions of a block: as many as `BLOCK_BYTES` hold of what the steps write, at most all.

    Args:
        step: the loop.
        shapes: of the inputs of its program, with the whole axis.
        size: of the axis.
    """
    if size == 0:
        return MULTIPLE
    inputs, steps = step.body.inputs, step.body.steps
    known = label_sizes(inputs, [tuple(shape) for shape in shapes])
    sizes = array_sizes([tuple(known[x] for x in entry.type.labels) for entry in inputs], steps)
    axis = next(
        inputs[len(step.states) + i].type.labels[cut]
        for i, cut in enumerate(step.cut)
        if cut is not None
    )
    types = array_types(inputs, steps)
    number, written = len(inputs), 0
    for inner in steps:
        for _ in inner.types:
            if not isinstance(inner, View) and axis in types[number].labels:
                written += _bytes(types[number].dtype, sizes[number])
            number += 1
    most = BLOCK_BYTES * size // max(written, 1)
    return min(size, max(SHORTEST, most // MULTIPLE * MULTIPLE))


def _bytes(dtype: str, sizes: Sequence[int]) -> int:
    from diagc.runtime.torch_launch import TORCH_DTYPES

    count = TORCH_DTYPES[dtype].itemsize
    for size in sizes:
        count *= size
    return count
