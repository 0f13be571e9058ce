"""Which dims of tensors may be cut into shards: those of axes that stay apart in the program."""

from collections.abc import Mapping, Sequence
from typing import Any

from diagc.algebra.independence import independent_axes
from diagc.dialects import diag
from diagc.host_program.attributes import nth_attributes, tensor_dims
from diagc.mlir import ir
from diagc.runtime.specialization import ShardedAxis

__all__ = ["sharded_axes"]


def sharded_axes(entry: ir.Operation) -> tuple[ShardedAxis, ...]:
    """Dims of arguments and results that belong together, for every axis that may be cut.

    Args:
        entry: the function as a front end made it.
    """
    body = diag.function_body(entry)
    returned = list(body.operations[len(body.operations) - 1].operation.operands)
    arguments = [_dims(entry, "arg_attrs", i, v) for i, v in enumerate(body.arguments)]
    results = [_dims(entry, "res_attrs", i, v) for i, v in enumerate(returned)]
    merged = {
        label
        for dims in (*arguments, *results)
        for group in dims
        for label in group
        if len(group) > 1
    }
    return tuple(
        ShardedAxis(
            tuple(_place(dims, label) for dims in arguments),
            tuple(_place(dims, label) for dims in results),
        )
        for label in independent_axes(entry)
        if label not in merged
    )


def _dims(entry: ir.Operation, name: str, number: int, value: ir.Value) -> Sequence[Sequence[str]]:
    attributes: Mapping[str, Any] = nth_attributes(entry, name, number)
    return tensor_dims(attributes, diag.labels(value))


def _place(dims: Sequence[Sequence[str]], label: str) -> int | None:
    return next((number for number, group in enumerate(dims) if list(group) == [label]), None)
