"""Contractions that the library runs: a matrix product of views, or a product by broadcasting."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from diagc.runtime.contraction import Labelled, MatrixProduct, Operand, plan_product
from diagc.runtime.plan import Action, Array, Values
from diagc.runtime.plan_scope import Scope
from diagc.runtime.steps import Contract
from diagc.runtime.strides import permuted_strides

__all__ = ["lay_out_contract"]


def lay_out_contract(scope: Scope, step: Contract) -> list[Array]:
    """Append the actions of a contraction; its sums are kept in f32, or f64 for f64."""
    number = len(scope.arrays)
    result = scope.types[number]
    dtype = scope.dtype(result.dtype)
    operands = [(i, scope.arrays[i], scope.types[i].labels) for i in (step.lhs, step.rhs)]
    compute = _widest([dtype, *(array.dtype for _, array, _ in operands)])
    lhs, rhs = (
        _Factor(_converted(scope, i, array, compute), labels) for i, array, labels in operands
    )
    if step.over:
        product = _matrix_product(scope, step, lhs, rhs)
    else:
        product = _outer_product(scope, lhs, rhs)
    if compute == dtype:
        return [product]
    return [scope.planner.copy(product, scope.orders[number], dtype)]


class _Factor:
    """An array with its labels."""

    def __init__(self, array: Array, labels: Sequence[str]) -> None:
        self.array = array
        self.labels = tuple(labels)
        self.by_label = Labelled(
            dict(zip(labels, array.shape, strict=True)),
            dict(zip(labels, array.strides, strict=True)),
        )

    def axes(self, labels: Sequence[str]) -> tuple[int, ...]:
        return tuple(self.labels.index(label) for label in labels)


def _widest(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    """The type that a product is computed in; the library takes f8 as f32."""
    found, *rest = [torch.float32 if dtype.itemsize == 1 else dtype for dtype in dtypes]
    for dtype in rest:
        found = torch.promote_types(found, dtype)
    return found


def _converted(scope: Scope, number: int, array: Array, dtype: torch.dtype) -> Array:
    if array.dtype == dtype:
        return array
    return scope.planner.copy(array, scope.orders[number], dtype)


def _matrix_product(scope: Scope, step: Contract, lhs: _Factor, rhs: _Factor) -> Array:
    number = len(scope.arrays)
    labels, sizes = scope.types[number].labels, scope.sizes[number]
    wanted = [labels[axis] for axis in scope.orders[number]]
    product = plan_product(lhs.by_label, rhs.by_label, step.over, wanted)
    factors = (rhs, lhs) if product.swapped else (lhs, rhs)
    arrays = [
        _view(scope, factor, operand)
        for factor, operand in zip(factors, (product.first, product.second), strict=True)
    ]
    batch, rows, _ = product.first.shape
    shape: tuple[int, ...] = (batch, rows, product.second.shape[2])
    if step.bias is not None:
        arrays.insert(0, _bias(scope, step.bias, product, arrays[0].dtype))
    if batch == 1:
        arrays = [a._replace(shape=a.shape[1:], strides=a.strides[1:]) for a in arrays]
        shape = shape[1:]
    slot = scope.planner.new_slot(shape)
    strides = permuted_strides(sizes, [labels.index(label) for label in product.out])
    result = Array(slot, 0, tuple(sizes), strides, arrays[0].dtype)
    multiply = _FUNCTIONS[batch == 1, step.bias is not None]
    scope.planner.emit(_multiplication(scope, multiply, arrays, slot), arrays, [result], keeps=True)
    return result


def _multiplication(
    scope: Scope, multiply: Callable[..., Any], arrays: Sequence[Array], slot: int
) -> Action:
    """The call of the library; most are products of whole tensors into a new one."""
    getters = [scope.planner.getter(array) for array in arrays]
    if scope.planner.reuses or len(arrays) != 2:

        def general(values: Values) -> None:
            # what is there is kept from the block before
            values[slot] = multiply(*[get(values) for get in getters], out=values[slot])

        return general
    if all(map(scope.planner.is_whole, arrays)):
        first, second = (array.slot for array in arrays)

        def whole(values: Values) -> None:
            values[slot] = multiply(values[first], values[second])

        return whole
    left, right = getters

    def fresh(values: Values) -> None:
        values[slot] = multiply(left(values), right(values))

    return fresh


# by whether there is one matrix only, and whether there is a bias
_FUNCTIONS: Mapping[tuple[bool, bool], Callable[..., Any]] = {
    (True, False): torch.mm,
    (True, True): torch.addmm,
    (False, False): torch.bmm,
    (False, True): torch.baddbmm,
}


def _bias(scope: Scope, number: int, product: MatrixProduct, dtype: torch.dtype) -> Array:
    """A bias as (batch, rows, columns); it has all labels of some of these, the others are 1."""
    array = _converted(scope, number, scope.arrays[number], dtype)
    bias = _Factor(array, scope.types[number].labels)
    groups = [
        bias.axes([label for label in group if label in bias.labels])
        for group in (product.batch, product.rows, product.columns)
    ]
    grouped = bias.array.grouped(groups)
    if grouped is None:
        order = [axis for group in groups for axis in group]
        grouped = scope.planner.copy(bias.array, order).grouped(groups)
    assert grouped is not None  # a dense copy nests
    return grouped


def _view(scope: Scope, factor: _Factor, operand: Operand) -> Array:
    array = factor.array
    if operand.copy is not None:
        array = scope.planner.copy(array, factor.axes(operand.copy))
    return array._replace(shape=operand.shape, strides=_dense_ones(operand.shape, operand.strides))


def _dense_ones(shape: tuple[int, int, int], strides: tuple[int, int, int]) -> tuple[int, int, int]:
    """Strides of a batch of matrices, those of axes of one position as in a dense matrix.

    Such a stride says nothing, but torch copies a matrix of one row whose rows lie 0 apart.
    """
    batch, rows, columns = strides
    if shape[2] == 1:
        columns = 1
    if shape[1] == 1:
        rows = shape[2] if columns == 1 else 1
    return batch, rows, columns


def _outer_product(scope: Scope, lhs: _Factor, rhs: _Factor) -> Array:
    """Nothing is summed: an elementwise product of two broadcast views."""
    result = scope.buffer(len(scope.arrays))
    labels = scope.types[len(scope.arrays)].labels
    order = scope.orders[len(scope.arrays)]
    views = [_broadcast(factor, labels, result.shape).permuted(order) for factor in (lhs, rhs)]
    first, second = (scope.planner.getter(view) for view in views)
    slot, shape, dtype = result.slot, scope.planner.slot_shape(result.slot), views[0].dtype
    device = scope.planner.device

    def action(values: Values) -> None:
        # without `out`, the result would lie in memory as the factors do
        out = torch.empty(shape, dtype=dtype, device=device)
        values[slot] = torch.mul(first(values), second(values), out=out)

    scope.planner.emit(action, views, [result])
    return result._replace(dtype=dtype)


def _broadcast(factor: _Factor, labels: Sequence[str], shape: Sequence[int]) -> Array:
    strides = tuple(factor.by_label.strides.get(label, 0) for label in labels)
    return factor.array._replace(shape=tuple(shape), strides=strides)
