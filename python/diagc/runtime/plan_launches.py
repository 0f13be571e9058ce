"""Kernel launches: slots and strides are checked and fixed, a call only fills in addresses."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from diagc.runtime.host_kernel import HostKernel, host_array
from diagc.runtime.launch_plan import ArrayInfo
from diagc.runtime.plan import Action, Array, Planner, Values
from diagc.runtime.plan_scope import Scope
from diagc.runtime.planned_kernel import PlannedKernel
from diagc.runtime.signature import STORAGE, Wire
from diagc.runtime.steps import KernelCall

__all__ = ["lay_out_launch"]


def lay_out_launch(scope: Scope, step: KernelCall) -> list[Array]:
    """Append the action of a launch, after copies of arguments that are not dense enough."""
    kernel = scope.resources.kernels[step.kernel]
    wires = kernel.signature.args
    args = [
        _dense_enough(scope, wire, scope.arrays[i])
        for wire, i in zip(wires, step.args, strict=True)
    ]
    first = len(scope.arrays)
    orders = [
        _result_order(scope, wire, first + i) for i, wire in enumerate(kernel.signature.results)
    ]
    results = [_result(scope, order, first + i) for i, order in enumerate(orders)]
    if isinstance(kernel, HostKernel):
        _call(scope, kernel, args, list(zip(results, orders, strict=True)))
    else:
        _launch(scope, kernel, args, results)
    return results


def _is_dense_enough(wire: Wire, array: Array) -> bool:
    if not wire.unit_stride or not array.shape:
        return True
    return array.strides[-1] == 1 or array.shape[-1] <= 1


def _dense_enough(scope: Scope, wire: Wire, array: Array) -> Array:
    if _is_dense_enough(wire, array):
        return array
    return scope.planner.copy(array, range(len(array.shape)))


def _result_order(scope: Scope, wire: Wire, number: int) -> tuple[int, ...]:
    """As consumers like it, unless the kernel needs its last axis dense."""
    order = scope.orders[number]
    long = [axis for axis in order if scope.sizes[number][axis] != 1]
    if not wire.unit_stride or not long or long[-1] == len(order) - 1:
        return order
    return tuple(range(len(order)))


def _result(scope: Scope, order: Sequence[int], number: int) -> Array:
    dtype = scope.dtype(scope.types[number].dtype)
    return scope.planner.buffer(scope.sizes[number], order, dtype)


def _info(wire: Wire, array: Array, device: str) -> ArrayInfo:
    dtype = STORAGE.get(wire.dtype, wire.dtype)
    return ArrayInfo(array.shape, array.strides, dtype, device)


def _launch(
    scope: Scope, kernel: PlannedKernel[Any], args: Sequence[Array], results: Sequence[Array]
) -> None:
    device = scope.planner.device
    pairs = zip(kernel.signature.wires, (*args, *results), strict=True)
    infos = [_info(wire, array, str(device)) for wire, array in pairs]
    plan = kernel.make_plan(infos[: len(args)], infos[len(args) :])
    places = [(a.slot, a.offset * a.dtype.itemsize) for a in (*args, *results)]
    launch = kernel.launch

    def make(planner: Planner) -> Action:
        # with all arguments bound it takes less than half the time of torch.empty
        fresh = [
            (
                a.slot,
                partial(torch.empty_strided, *planner.base(a.slot), dtype=a.dtype, device=device),
            )
            for a in results
        ]

        def allocate(values: Values) -> None:
            for slot, empty in fresh:
                values[slot] = empty()

        def action(values: Values) -> None:
            for slot, empty in fresh:
                if values[slot] is None:  # else kept from the block before
                    values[slot] = empty()
            launch(plan, [values[slot].data_ptr() + offset for slot, offset in places])

        return allocate if plan.empty else action

    scope.planner.emit_launch(make, args, results, keeps=not plan.empty)


def _call(
    scope: Scope,
    kernel: HostKernel,
    args: Sequence[Array],
    results: Sequence[tuple[Array, tuple[int, ...]]],
) -> None:
    getters = [scope.planner.getter(array) for array in args]
    function, device = kernel.function, scope.planner.device

    def action(values: Values) -> None:
        outputs = function([host_array(get(values)) for get in getters])
        for (array, order), output in zip(results, outputs, strict=True):
            tensor = torch.tensor(output, dtype=array.dtype)  # a copy: outputs may be read-only
            values[array.slot] = tensor.permute(order).contiguous().to(device)

    scope.planner.emit(action, args, [array for array, _ in results])
