"""Calls with `DTensor`s: a program runs on shards of the axes that it keeps apart.

Tensors that are cut along batches or heads stay so, and nothing is sent; what is cut along another
axis is gathered first. Gradients follow: those of what all ranks hold are summed over them.
"""

import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from diagc.debug import logger
from diagc.errors import UserError
from diagc.runtime.specialization import ProgramResult, ShardedAxis, Specialization

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor, Placement

    from diagc.runtime.calls import Group

__all__ = ["call_sharded", "is_sharded"]


def is_sharded(tensors: Sequence[Any]) -> bool:
    """Whether some tensor is distributed over several processes."""
    module = sys.modules.get("torch.distributed.tensor")  # nobody has one else
    return module is not None and any(isinstance(tensor, module.DTensor) for tensor in tensors)


def call_sharded(
    group: "Group", tensors: Sequence[Any], run: Callable[[Sequence[torch.Tensor]], Any]
) -> Any:
    """Run a call on the shards of this process; results are `DTensor`s.

    Args:
        group: of the call.
        tensors: the user's, all `DTensor`s of one mesh.
        run: runs the call on plain tensors.

    Raises:
        UserError: some are no `DTensor`s, or of another mesh.
    """
    from torch.distributed.tensor import DTensor

    if not all(isinstance(tensor, DTensor) for tensor in tensors):
        raise UserError("some arguments are DTensors and others are not", expected="all, or none")
    mesh = tensors[0].device_mesh
    if any(tensor.device_mesh != mesh for tensor in tensors):
        raise UserError("arguments are distributed over several meshes", expected="one mesh")
    whole = _fixed(group, [tensor.shape for tensor in tensors], tensors)
    axes = _chosen_axes(whole, tensors)
    if not _is_size_free(group, whole, axes, tensors):
        logger("calls").info("all is gathered: the function computes with the size of a shard")
        axes = [None] * mesh.ndim
    local = [
        _local(tensor, mesh, _dims_of_input(whole, axes, number))
        for number, tensor in enumerate(tensors)
    ]
    return _wrapped(run(local), whole, mesh, axes, [tensor.shape for tensor in tensors])


def _fixed(group: "Group", shapes: Sequence[Any], tensors: Sequence[Any]) -> Specialization:
    pairs = zip(shapes, tensors, strict=True)
    return group.fixed([torch.empty(s, dtype=t.dtype, device=t.device) for s, t in pairs])


def _chosen_axes(whole: Specialization, tensors: Sequence["DTensor"]) -> list[ShardedAxis | None]:
    """For each dim of the mesh the axis that it cuts; None where all must be whole."""
    return [
        next((axis for axis in whole.axes if _is_cut(whole, axis, tensors, number)), None)
        for number in range(tensors[0].device_mesh.ndim)
    ]


def _is_cut(
    whole: Specialization, axis: ShardedAxis, tensors: Sequence["DTensor"], number: int
) -> bool:
    pairs = zip(whole.sources, axis.inputs, strict=True)
    return any(
        isinstance(source, int) and dim is not None and _cuts(tensors[source], number, dim)
        for source, dim in pairs
    )


def _cuts(tensor: "DTensor", number: int, dim: int) -> bool:
    return tensor.placements[number].is_shard(dim)


def _dims_of_input(
    whole: Specialization, axes: Sequence[ShardedAxis | None], number: int
) -> list[tuple[bool, int | None]]:
    """For each dim of the mesh whether it cuts an axis, and which dim of a tensor that is."""
    if number not in whole.sources:
        return [(axis is not None, None) for axis in axes]
    place = whole.sources.index(number)
    return [(False, None) if axis is None else (True, axis.inputs[place]) for axis in axes]


def _local(tensor: "DTensor", mesh: Any, dims: Sequence[tuple[bool, int | None]]) -> torch.Tensor:
    from torch.distributed.tensor import Partial, Replicate, Shard

    kept: list[Placement] = [Replicate() if dim is None else Shard(dim) for _, dim in dims]
    # each rank has the gradient of its own shard's results only
    gradients: list[Placement] = [
        Partial() if cut and dim is None else place
        for (cut, dim), place in zip(dims, kept, strict=True)
    ]
    return tensor.redistribute(mesh, kept).to_local(grad_placements=gradients)


_NUMBERS = re.compile(r"arith\.constant ([^:]+) :|value = (\S+)")


def _is_size_free(
    group: "Group",
    whole: Specialization,
    axes: Sequence[ShardedAxis | None],
    tensors: Sequence["DTensor"],
) -> bool:
    """Whether the function of a shard has the numbers that it has of the whole: no mean of it."""
    if not any(axes):
        return True
    mesh, shapes = tensors[0].device_mesh, []
    for number, tensor in enumerate(tensors):
        shape = list(tensor.shape)
        for size, (_, dim) in zip(mesh.shape, _dims_of_input(whole, axes, number), strict=True):
            if dim is not None:
                shape[dim] = -(-shape[dim] // size)  # the same on all ranks
        shapes.append(shape)
    shard = _fixed(group, shapes, tensors)
    return _NUMBERS.findall(shard.source_ir) == _NUMBERS.findall(whole.source_ir)


def _wrapped(
    value: Any,
    whole: Specialization,
    mesh: Any,
    axes: Sequence[ShardedAxis | None],
    shapes: Sequence[Any],
) -> Any:
    """Give results their place in the whole; what is no result stays as it is."""
    from torch.distributed.tensor import DTensor, Replicate, Shard

    inputs = [shapes[s] if isinstance(s, int) else s.get().shape for s in whole.sources]
    sizes = whole.program.result_shapes(inputs)
    leaves, spec = pytree.tree_flatten(value)
    for number, item in enumerate(whole.outputs):
        if isinstance(item, ProgramResult):
            dims = [None if axis is None else axis.outputs[item.index] for axis in axes]
            places = [Replicate() if dim is None else Shard(dim) for dim in dims]
            size, order = sizes[item.index], whole.program.outputs[item.index].order
            dense = torch.empty([size[dim] for dim in order], device="meta")
            stride = dense.permute([order.index(dim) for dim in range(len(order))]).stride()
            leaves[number] = DTensor.from_local(
                *(leaves[number], mesh, places), shape=torch.Size(size), stride=stride
            )
    return pytree.tree_unflatten(leaves, spec)
