"""The ops on `DTensor`s, in graphs that torch has traced: they run on shards, as calls do.

A compiled function that is called with `DTensor`s computes on shards by itself (`sharding`). Where
`torch.compile` or `torch.export` has put the op into a graph, torch asks for rules of the op.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagc.errors import UserError
from diagc.runtime.eager_gradients import split_tensors
from diagc.runtime.sharding import Layout, is_sharded, layout_of
from diagc.runtime.strides import permuted_strides
from diagc.runtime.torch_ops import group_of

if TYPE_CHECKING:
    from diagc.runtime.group import Group

__all__ = ["register_sharding_rules"]

_LIBRARY = torch.library.Library("diagc", "FRAGMENT")
_registered: list[str] = []


def register_sharding_rules() -> None:
    """Let torch know the rules, once somebody has imported `torch.distributed.tensor`."""
    module = sys.modules.get("torch.distributed.tensor")
    if module is None or _registered:
        return
    for name, rule in (("call", _call), ("call_backward", _call_backward)):
        torch.library.register_torch_dispatch(f"diagc::{name}", module.DTensor, rule, lib=_LIBRARY)
        _registered.append(name)


def _call(_cls: Any, _op: Any, _types: Any, args: Sequence[Any], _kwargs: Any = None) -> list[Any]:
    tensors, key = args
    group = group_of(key)
    users, captured = _split(group, tensors)
    with torch.no_grad():  # autograd is above
        layout = layout_of(group, users)
        local = torch.ops.diagc.call([*_shards(layout, users), *captured], key)
        return [layout.gather(number, result) for number, result in enumerate(local)]


def _call_backward(
    _cls: Any, _op: Any, _types: Any, args: Sequence[Any], _kwargs: Any = None
) -> list[Any]:
    """Gradients are placed as the tensors are; those of what all ranks hold are summed."""
    tensors, cotangents, needed, key, saved = args
    assert not saved  # graphs of DTensors have no calls that save
    group = group_of(key)
    users, captured = _split(group, tensors)
    if any(needed[len(users) :]):
        message = "gradients by weights of a compiled function that is called with DTensors"
        raise UserError(message, remedy="give the weights as arguments, or compile without them")
    with torch.no_grad():
        layout = layout_of(group, users)
        given = [
            None if g is None else g.redistribute(layout.mesh, layout.of_result(i)).to_local()
            for i, g in enumerate(cotangents)
        ]
        plain = [*_shards(layout, users), *captured]
        local = iter(torch.ops.diagc.call_backward(plain, given, needed, key, []))
        return [_placed(layout, i, next(local), users[i]) for i, need in enumerate(needed) if need]


def _placed(layout: Layout, number: int, local: torch.Tensor, tensor: Any) -> Any:
    """The gradient by a tensor, of which this process has computed a part."""
    from torch.distributed.tensor import DTensor

    shape = layout.shapes[number]
    stride = permuted_strides(shape, range(len(shape)))
    places = layout.of_gradient(number)
    whole = DTensor.from_local(local, layout.mesh, places, shape=tensor.shape, stride=stride)
    return whole.redistribute(layout.mesh, tensor.placements)


def _split(group: "Group", tensors: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The user's tensors, and the captured ones, which every process has to have."""
    users, _ = split_tensors(group, tensors)
    captured = tensors[len(users) :]
    if is_sharded(captured):
        message = "weights of a compiled function in a graph are DTensors"
        raise UserError(message, remedy="call the compiled function outside of the graph")
    return users, captured


def _shards(layout: Layout, tensors: Sequence[Any]) -> list[torch.Tensor]:
    return [
        tensor.redistribute(layout.mesh, layout.of_input(number)).to_local()
        for number, tensor in enumerate(tensors)
    ]
