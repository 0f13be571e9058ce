"""Lay a program of steps out for inputs of given shapes and strides."""

from collections.abc import Sequence

import torch

from diagc.runtime.layout import array_types, preferred_orders
from diagc.runtime.plan import Array, Plan, Planner
from diagc.runtime.plan_scope import Resources, Scope
from diagc.runtime.plan_steps import as_tensor, lay_out
from diagc.runtime.sizes import Sizes, array_sizes, label_sizes
from diagc.runtime.steps import HostProgram, Input, Output
from diagc.runtime.strides import permuted_strides

__all__ = ["Layout"]


class Layout:
    """What does not depend on sizes: types of all arrays, and their orders in memory."""

    def __init__(self, program: HostProgram) -> None:
        """Work it out."""
        self.program = program
        self.types = array_types(program.inputs, program.steps)
        self._orders = preferred_orders(program.inputs, program.steps, program.outputs)

    def plan(
        self, tensors: Sequence[torch.Tensor], resources: Resources, *, reuse: bool = False
    ) -> Plan:
        """Lay the program out.

        Args:
            tensors: example inputs; only shapes, strides and dtypes are read.
            resources: what the steps call, and where.
            reuse: keep the large buffers of a run for the next one.
        """
        entries = self.program.inputs
        known = label_sizes(entries, [tuple(tensor.shape) for tensor in tensors])
        inputs = [tuple(known[label] for label in entry.type.labels) for entry in entries]
        sizes = array_sizes(inputs, self.program.steps)
        planner = Planner(tensors, resources.device, reuse)
        scope = Scope(planner, self.types, sizes, self._orders, resources, _plan_block)
        for slot, (entry, tensor) in enumerate(zip(entries, tensors, strict=True)):
            scope.arrays.append(_input_array(slot, entry, tensor, inputs[slot]))
        for step in self.program.steps:
            lay_out(scope, step)
        return Plan(planner, [self._result(scope, output) for output in self.program.outputs])

    def _result(self, scope: Scope, output: Output) -> Array:
        """The array that a result is: fresh and dense in its order, or a view of an input."""
        planner, array = scope.planner, scope.arrays[output.source]
        labels = self.types[output.source].labels
        order = [labels.index(label) for dim in output.order for label in output.dims[dim]]
        dense = permuted_strides(array.shape, order)
        if planner.is_constant(array) or not (planner.is_input(array) or _same(array, dense)):
            array = planner.copy(array, order)
        return as_tensor(scope, array, labels, output.dims)


def _plan_block(
    program: HostProgram, tensors: Sequence[torch.Tensor], resources: Resources
) -> Plan:
    """The plan of one block: its large buffers live as long as the loop."""
    return Layout(program).plan(tensors, resources, reuse=True)


def _same(array: Array, strides: Sequence[int]) -> bool:
    """Whether strides are these, but for axes of size 1."""
    triples = zip(array.shape, array.strides, strides, strict=True)
    return 0 in array.shape or all(size == 1 or a == b for size, a, b in triples)


def _input_array(slot: int, entry: Input, tensor: torch.Tensor, sizes: Sizes) -> Array:
    """Split the dims of a user's tensor into labelled axes: always a view."""
    known = dict(zip(entry.type.labels, sizes, strict=True))
    strides: dict[str, int] = {}
    for group, stride in zip(entry.dims, tensor.stride(), strict=True):
        step = stride
        for label in reversed(group):
            strides[label] = step
            step *= known[label]
    axes = tuple(strides[label] for label in entry.type.labels)
    return Array(slot, 0, tuple(sizes), axes, tensor.dtype)
