"""Calls with `DTensor`s: a program runs on shards of the axes that it keeps apart.

Tensors that are cut along batches or heads stay so, and nothing is sent; what is cut along another
axis is gathered first. Gradients follow: those of what all ranks hold are summed over them.
"""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from diagc.debug import logger
from diagc.errors import UserError
from diagc.runtime.plain_thread import in_plain_thread
from diagc.runtime.specialization import ProgramResult, ShardedAxis, Specialization
from diagc.runtime.strides import permuted_strides

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor, Placement

    from diagc.runtime.group import Group

__all__ = ["Layout", "call_sharded", "is_sharded", "layout_of"]


def is_sharded(tensors: Sequence[Any]) -> bool:
    """Whether some tensor is distributed over several processes."""
    module = sys.modules.get("torch.distributed.tensor")  # nobody has one else
    return module is not None and any(isinstance(tensor, module.DTensor) for tensor in tensors)


@dataclass(frozen=True)
class Layout:
    """Which shards of its tensors a call is computed with; each list has an entry per mesh dim.

    Args:
        whole: the function for tensors of the whole sizes.
        mesh: that all tensors are distributed over.
        axes: what each dim of the mesh cuts; None where all is whole.
        shapes: of the user's tensors, whole.
    """

    whole: Specialization
    mesh: Any
    axes: Sequence[ShardedAxis | None]
    shapes: Sequence[Any]

    def of_input(self, number: int) -> "list[Placement]":
        """Of a tensor of the user's."""
        return [_place(dim) for _, dim in _dims_of_input(self.whole, self.axes, number)]

    def of_gradient(self, number: int) -> "list[Placement]":
        """Of the gradient by it: each rank has that of its own shard's results only."""
        from torch.distributed.tensor import Partial

        dims = _dims_of_input(self.whole, self.axes, number)
        return [Partial() if cut and dim is None else _place(dim) for cut, dim in dims]

    def of_result(self, index: int) -> "list[Placement]":
        """Of a result of the program."""
        return [_place(None if axis is None else axis.outputs[index]) for axis in self.axes]

    def gather(self, number: int, local: torch.Tensor) -> "DTensor":
        """A result of the program of which this process has a shard."""
        from torch.distributed.tensor import DTensor

        sources = self.whole.sources
        inputs = [self.shapes[s] if isinstance(s, int) else s.get().shape for s in sources]
        shape = self.whole.program.result_shapes(inputs)[number]
        order = self.whole.program.outputs[number].order
        stride = permuted_strides(shape, order)
        places = self.of_result(number)
        return DTensor.from_local(local, self.mesh, places, shape=torch.Size(shape), stride=stride)


def _place(dim: int | None) -> "Placement":
    from torch.distributed.tensor import Replicate, Shard

    return Replicate() if dim is None else Shard(dim)


def layout_of(group: "Group", tensors: Sequence[Any]) -> Layout:
    """Where the shards of a call lie: cut along one axis for each dim of the mesh, or whole.

    Args:
        group: of the call.
        tensors: the user's, all `DTensor`s of one mesh.

    Raises:
        UserError: some are no `DTensor`s, or of another mesh.
    """
    from torch.distributed.tensor import DTensor

    if not all(isinstance(tensor, DTensor) for tensor in tensors):
        raise UserError("some arguments are DTensors and others are not", expected="all, or none")
    mesh = tensors[0].device_mesh
    if any(tensor.device_mesh != mesh for tensor in tensors):
        raise UserError("arguments are distributed over several meshes", expected="one mesh")
    shapes = [tuple(map(int, tensor.shape)) for tensor in tensors]
    whole = _fixed(group, shapes, tensors)
    axes = _chosen_axes(whole, tensors)
    if not _is_size_free(group, whole, axes, tensors):
        logger("calls").info("all is gathered: the function computes with the size of a shard")
        axes = [None] * mesh.ndim
    return Layout(whole, mesh, axes, shapes)


def call_sharded(
    group: "Group", tensors: Sequence[Any], run: Callable[[Sequence[torch.Tensor]], Any]
) -> Any:
    """Run a call on the shards of this process; results are `DTensor`s.

    Args:
        group: of the call.
        tensors: the user's, all `DTensor`s of one mesh.
        run: runs the call on plain tensors.

    Raises:
        UserError: as `layout_of`.
    """
    layout = layout_of(group, tensors)
    local = [
        tensor.redistribute(layout.mesh, layout.of_input(number)).to_local(
            grad_placements=layout.of_gradient(number)
        )
        for number, tensor in enumerate(tensors)
    ]
    leaves, spec = pytree.tree_flatten(run(local))
    for number, item in enumerate(layout.whole.outputs):
        if isinstance(item, ProgramResult):  # what is no result stays as it is
            leaves[number] = layout.gather(item.index, leaves[number])
    return pytree.tree_unflatten(leaves, spec)


def _fixed(group: "Group", shapes: Sequence[Any], tensors: Sequence[Any]) -> Specialization:
    kinds = [(s, t.dtype, t.device) for s, t in zip(shapes, tensors, strict=True)]

    def fixed() -> Specialization:
        return group.fixed([torch.empty(s, dtype=d, device=where) for s, d, where in kinds])

    return in_plain_thread(fixed)  # a tracer shall not see it


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
