"""Calls of the op under transforms of `torch.func`, and in forward mode: the function itself runs.

Graphs that others made (`torch.export`, Dynamo) hold calls of the op. A transform must see what the
function does inside, for a tangent that an op does not know is dropped in silence.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.autograd import forward_ad

from diagc.errors import UserError
from diagc.runtime.composed_attention import attention_of_transforms
from diagc.runtime.dispatch_keys import plain_dispatch
from diagc.runtime.eager_gradients import split_tensors

if TYPE_CHECKING:
    from diagc.runtime.group import Group

__all__ = ["call_composition", "refuse_tangents"]


def call_composition(group: "Group", tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Results of the function itself, which any transform can follow.

    Raises:
        UserError: a captured tensor was replaced, which the function would not see.
    """
    users, captured = split_tensors(group, tensors)
    for source in group.captured:
        own = source.get()
        if captured.get(source.identity, own) is not own:
            message = "a transform of a graph with a compiled function whose weights were replaced"
            raise UserError(message, remedy="transform the function itself, before it is traced")
    args, kwargs = group.arguments.rebuild(users)
    with attention_of_transforms():
        value = group.function(*args, **kwargs)
    return group.specializations[0].results_of(value)


def refuse_tangents(tensors: Sequence[torch.Tensor]) -> None:
    """In an op: refuse tensors with tangents, which autograd has let through.

    Raises:
        UserError: some tensor has a tangent.
    """
    if forward_ad._current_level < 0:
        return
    with plain_dispatch():
        if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
            message = "forward-mode derivatives of a graph with a compiled function"
            raise UserError(message, remedy="differentiate the function itself, or torch.func.jvp")
