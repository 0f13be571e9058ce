"""How each kind of step becomes actions of a plan."""

import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from diagc.errors import InternalError, LaunchError
from diagc.runtime.plan import Array, Values
from diagc.runtime.plan_blocks import lay_out_blocks
from diagc.runtime.plan_elementwise import lay_out_elementwise
from diagc.runtime.plan_launches import lay_out_launch
from diagc.runtime.plan_products import lay_out_contract
from diagc.runtime.plan_scope import Scope
from diagc.runtime.sizes import tensor_shape
from diagc.runtime.steps import (
    Affine,
    Blocks,
    Concat,
    Constant,
    Contract,
    Dims,
    Elementwise,
    ExternCall,
    Index,
    KernelCall,
    Pad,
    Step,
    View,
)
from diagc.runtime.strides import bounds, view_strides

__all__ = ["as_tensor", "lay_out"]


def lay_out(scope: Scope, step: Step) -> None:
    """Append the actions of one step and describe its results."""
    scope.arrays += _RULES[type(step)](scope, step)


def as_tensor(scope: Scope, array: Array, labels: Sequence[str], dims: Dims) -> Array:
    """The array with its axes grouped into dims; copied where a group does not nest."""
    groups = [[labels.index(label) for label in group] for group in dims]
    grouped = array.grouped(groups)
    if grouped is None:
        order = [axis for group in groups for axis in group]
        grouped = scope.planner.copy(array, order).grouped(groups)
    if grouped is None:
        raise InternalError(f"axes {list(labels)} of {array} do not group as {dims}")
    return grouped


def _view(scope: Scope, step: View) -> list[Array]:
    """A view where strides can say it; else one of a dense copy; else a gather."""
    sizes = scope.sizes[len(scope.arrays)]
    array = scope.arrays[step.source]
    _check_positions(step, sizes, array.shape, scope.types[step.source].labels)
    view = _as_view(array, step, sizes)
    if view is None and not all(_is_dim(expr) for expr in step.map):
        array = scope.planner.copy(array, range(len(array.shape)))
        view = _as_view(array, step, sizes)
    return [_gather(scope, array, step, sizes) if view is None else view]


def _check_positions(
    step: View, sizes: Sequence[int], source: Sequence[int], labels: Sequence[str]
) -> None:
    """See that every position that is read exists, for sizes that were open until now.

    Raises:
        LaunchError: it does not.
    """
    if 0 in sizes:
        return
    for expr, size, label in zip(step.map, source, labels, strict=True):
        low, high = bounds(expr, sizes)
        if low >= 0 and high < size:
            continue
        at = torch.as_tensor(_position(expr, _aranges(sizes)))  # bounds may be too wide
        low, high = int(at.min()), int(at.max())
        if low < 0 or high >= size:
            raise LaunchError(
                f"positions {low}..{high} of axis '{label}' are read",
                expected=f"a size of at least {high + 1}" if low >= 0 else "none below 0",
                found=size,
                remedy="give a larger input",
            )


def _aranges(sizes: Sequence[int]) -> list[torch.Tensor]:
    """The positions along each axis, in the shape that broadcasts against the others."""
    return [
        torch.arange(size).reshape([-1 if axis == i else 1 for axis in range(len(sizes))])
        for i, size in enumerate(sizes)
    ]


def _is_dim(expr: Affine) -> bool:
    return isinstance(expr, tuple) and expr[0] == "dim"


def _as_view(array: Array, step: View, sizes: tuple[int, ...]) -> Array | None:
    found = view_strides(step.map, sizes, array.strides)
    if found is None:
        return None
    offset, strides = found
    return array._replace(offset=array.offset + offset, shape=sizes, strides=strides)


def _gather(scope: Scope, array: Array, step: View, sizes: tuple[int, ...]) -> Array:
    """Read a dense array at computed positions."""
    positions = _aranges(sizes)
    at = torch.zeros(sizes, dtype=torch.int64)
    for expr, stride in zip(step.map, array.strides, strict=True):
        at = at + _position(expr, positions) * stride
    where = scope.planner.constant(at)
    result = scope.planner.buffer(sizes, range(len(sizes)), array.dtype)
    source, index, slot = scope.planner.getter(array), scope.planner.getter(where), result.slot

    def action(values: Values) -> None:
        values[slot] = torch.take(source(values), index(values))

    scope.planner.emit(action, [array, where], [result])
    return result


def _position(expr: Affine, positions: Sequence[torch.Tensor]) -> Any:
    if isinstance(expr, int):
        return expr
    if expr[0] == "dim":
        return positions[expr[1]]
    left, right = (_position(part, positions) for part in expr[1:])
    match expr[0]:
        case "+":
            return left + right
        case "*":
            return left * right
        case "//":
            return left // right
        case _:
            return left % right


def _constant(scope: Scope, step: Constant) -> list[Array]:
    sizes = scope.sizes[len(scope.arrays)]
    dtype = scope.dtype(step.types[0].dtype)
    stored = torch.float64 if dtype.is_floating_point else torch.int64
    stored = torch.bool if dtype == torch.bool else stored
    flat = torch.frombuffer(bytearray(step.value), dtype=stored) if step.value else torch.empty(0)
    flat = flat.to(dtype)
    if flat.numel() == 1 and prod(sizes) != 1:
        splat = scope.planner.constant(flat)
        return [splat._replace(shape=sizes, strides=(0,) * len(sizes))]
    return [scope.planner.constant(flat.reshape(sizes))]


def _index(scope: Scope, step: Index) -> list[Array]:
    (size,) = scope.sizes[len(scope.arrays)]
    return [scope.planner.constant(torch.arange(size))]


def _concat(scope: Scope, step: Concat) -> list[Array]:
    result = scope.buffer(len(scope.arrays))
    lhs, rhs = scope.arrays[step.lhs], scope.arrays[step.rhs]
    parts = ((lhs, 0), (rhs, lhs.shape[step.axis]))
    _assemble(scope, result, [(part, step.axis, start) for part, start in parts], None)
    return [result]


def _pad(scope: Scope, step: Pad) -> list[Array]:
    result = scope.buffer(len(scope.arrays))
    _assemble(scope, result, [(scope.arrays[step.source], step.axis, step.low)], step.value)
    return [result]


def _assemble(
    scope: Scope,
    result: Array,
    parts: Sequence[tuple[Array, int, int]],
    fill: float | None,
) -> None:
    """Fill a new buffer with parts that start at a position along an axis."""
    slot, shape, dtype = result.slot, scope.planner.slot_shape(result.slot), result.dtype
    device = scope.planner.device
    moves = []
    for part, axis, start in parts:
        offset = result.offset + start * result.strides[axis]
        target = result._replace(offset=offset, shape=part.shape)
        moves.append((scope.planner.getter(target), scope.planner.getter(part)))

    def action(values: Values) -> None:
        buffer = torch.empty(shape, dtype=dtype, device=device)
        values[slot] = buffer if fill is None else buffer.fill_(fill)
        for target, source in moves:
            target(values).copy_(source(values))

    scope.planner.emit(action, [part for part, _, _ in parts], [result])


def _extern(scope: Scope, step: ExternCall) -> list[Array]:
    """Call the host on tensors; its results are made dense, so that later steps are fixed."""
    first = len(scope.arrays)
    args = [
        as_tensor(scope, scope.arrays[i], scope.types[i].labels, dims)
        for i, dims in zip(step.args, step.arg_dims, strict=True)
    ]
    results, arrays = [], []
    for i, dims in enumerate(step.result_dims):
        result, array = _extern_result(scope, first + i, dims)
        results.append(result)
        arrays.append(array)
    getters = [scope.planner.getter(array) for array in args]
    function, device = scope.resources.externs[step.symbol], scope.planner.device
    slots = [(array.slot, scope.planner.slot_shape(array.slot), array.dtype) for array in arrays]

    def action(values: Values) -> None:
        found = function(*[get(values) for get in getters])
        found = [found] if isinstance(found, torch.Tensor) else found
        for (slot, shape, dtype), tensor in zip(slots, found, strict=True):
            if tuple(tensor.shape) != shape:
                raise InternalError(f"{step.symbol} gave shape {tuple(tensor.shape)}, not {shape}")
            values[slot] = tensor.to(device, dtype).contiguous()

    scope.planner.emit(action, args, arrays)
    return results


def _extern_result(scope: Scope, number: int, dims: Dims) -> tuple[Array, Array]:
    """The labelled array of a result, and the dense tensor that the host gives."""
    labels, sizes = scope.types[number].labels, scope.sizes[number]
    slot = scope.planner.new_slot(tensor_shape(labels, sizes, dims))
    order = [labels.index(label) for label in itertools.chain.from_iterable(dims)]
    dtype = scope.dtype(scope.types[number].dtype)
    buffer = scope.planner.buffer(sizes, order, dtype)
    return buffer._replace(slot=slot), Array(slot, 0, scope.planner.slot_shape(slot), (), dtype)


_RULES: dict[type, Callable[[Scope, Any], list[Array]]] = {
    View: _view,
    Contract: lay_out_contract,
    Elementwise: lay_out_elementwise,
    KernelCall: lay_out_launch,
    ExternCall: _extern,
    Constant: _constant,
    Index: _index,
    Concat: _concat,
    Pad: _pad,
    Blocks: lay_out_blocks,
}
