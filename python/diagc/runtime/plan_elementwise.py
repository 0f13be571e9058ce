"""Maps of one operation, run by torch on views that are broadcast by label."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from diagc.runtime.plan import Array, Values
from diagc.runtime.plan_scope import Scope
from diagc.runtime.steps import Elementwise

__all__ = ["OPERATIONS", "lay_out_elementwise"]

# every function takes `out`
OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "copy": lambda source, out: out.copy_(source),
    "arith.addf": torch.add,
    "arith.subf": torch.sub,
    "arith.mulf": torch.mul,
    "arith.divf": torch.div,
    "arith.maximumf": torch.maximum,
    "arith.minimumf": torch.minimum,
    "arith.negf": torch.neg,
    "math.exp": torch.exp,
    "math.log": torch.log,
    "math.sqrt": torch.sqrt,
    "math.tanh": torch.tanh,
    "math.sin": torch.sin,
    "math.cos": torch.cos,
    "math.absf": torch.abs,
}


def lay_out_elementwise(scope: Scope, step: Elementwise) -> list[Array]:
    """Append the calls; the result is dense, in the order that the program wants."""
    number = len(scope.arrays)
    result = scope.buffer(number)
    shape, slot = scope.planner.slot_shape(result.slot), result.slot
    reads: list[Array] = []
    calls = []
    wide = _compute_dtype(scope, step, result)
    for name, operands in step.operations:
        arrays = [
            _array(scope, step, result, operand, wide or result.dtype) for operand in operands
        ]
        reads += [array for array in arrays if array is not None]
        getters = [
            None if array is None else _converted(scope.planner.getter(array), array, wide)
            for array in arrays
        ]
        earlier = [int(value) for kind, value in operands if kind == "result"]
        calls.append((OPERATIONS[name], getters, earlier))
    target, device = scope.planner.getter(result), scope.planner.device

    def action(values: Values) -> None:
        values[slot] = torch.empty(shape, dtype=result.dtype, device=device)
        found: list[torch.Tensor] = []
        for function, getters, earlier in calls:
            pending = iter(earlier)
            args = [found[next(pending)] if get is None else get(values) for get in getters]
            last = len(found) == len(calls) - 1
            found.append(function(*args, out=target(values)) if last else function(*args))

    scope.planner.emit(action, reads, [result])
    return [result]


def _compute_dtype(scope: Scope, step: Elementwise, result: Array) -> torch.dtype | None:
    """The dtype that operands are converted to; None where torch computes as the IR says.

    torch would compute with mixed or 16-bit operands in 16 bits, and round between operations.
    """
    dtypes = {result.dtype, *(scope.arrays[number].dtype for number in step.arrays())}
    wide = torch.float64 if torch.float64 in dtypes else torch.float32
    return None if dtypes == {wide} or (len(dtypes) == 1 and len(step.operations) == 1) else wide


def _converted(
    get: Callable[[Values], torch.Tensor], array: Array, wide: torch.dtype | None
) -> Callable[[Values], torch.Tensor]:
    if wide is None or array.dtype == wide:
        return get
    return lambda values: get(values).to(wide)


def _array(
    scope: Scope,
    step: Elementwise,
    result: Array,
    operand: tuple[str, int | float],
    dtype: torch.dtype,
) -> Array | None:
    """An operand as an array; None for the result of an earlier operation."""
    kind, value = operand
    if kind == "result":
        return None
    if kind == "number":
        return scope.planner.constant(torch.tensor(value, dtype=dtype))
    number, labels = int(value), step.types[0].labels
    return _broadcast(scope.arrays[number], scope.types[number].labels, labels, result.shape)


def _broadcast(
    array: Array, own: Sequence[str], labels: Sequence[str], shape: Sequence[int]
) -> Array:
    """A view with the axes `labels`; those that the array lacks have stride 0."""
    strides = [array.strides[own.index(x)] if x in own else 0 for x in labels]
    return array._replace(shape=tuple(shape), strides=tuple(strides))
