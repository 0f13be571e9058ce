"""Gradients of a call by running the function itself again, in eager mode."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch.utils import _pytree as pytree

from diagc.runtime.composed_attention import composed_attention
from diagc.runtime.specialization import ProgramResult, Specialization

if TYPE_CHECKING:
    from diagc.runtime.calls import Group

__all__ = ["differentiate", "eager_gradients", "reads", "split_tensors"]


def split_tensors(
    group: "Group", tensors: Sequence[torch.Tensor]
) -> tuple[Sequence[torch.Tensor], dict[object, torch.Tensor]]:
    """The user's tensors, and the captured ones by identity.

    An earlier call has those alone that were captured by then, the first of today's.
    """
    users = group.arguments.count
    values = zip(group.captured, tensors[users:], strict=False)
    return tensors[:users], {source.identity: tensor for source, tensor in values}


def reads(group: "Group", specialization: Specialization, count: int) -> list[bool]:
    """Which of a call's tensors, the user's and then the captured ones, a program reads."""
    sources = [s for i, s in enumerate(specialization.sources) if i not in specialization.unused]
    weights = {s.identity for s in sources if not isinstance(s, int)}
    users = [number in sources for number in range(group.arguments.count)]
    return [*users, *(source.identity in weights for source in group.captured)][:count]


def eager_gradients(
    group: "Group",
    tensors: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    needed: Sequence[bool],
    again: bool,
) -> tuple[list[torch.Tensor], Sequence[torch.Tensor | None]]:
    """The tensors that need a gradient, as leaves, and theirs; `again`: can be differentiated."""
    users, _ = split_tensors(group, tensors)
    leaves = [
        tensor.detach().requires_grad_(need) for tensor, need in zip(users, needed, strict=False)
    ]
    captured = group.captured[: len(needed) - len(users)]
    sources = [*leaves, *(source.get() for source in captured)]
    wanted = [source for source, need in zip(sources, needed, strict=True) if need]
    with composed_attention() if again else nullcontext():
        pairs = list(_differentiable_pairs(group, leaves, gradients))
    return wanted, differentiate(pairs, wanted, again)


def differentiate(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], wanted: Sequence[torch.Tensor], again: bool
) -> Sequence[torch.Tensor | None]:
    """Gradients of outputs with their cotangents."""
    if not pairs or not wanted:
        return [None] * len(wanted)
    outputs, cotangents = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, wanted, cotangents, create_graph=again, allow_unused=True)


def _differentiable_pairs(
    group: "Group", leaves: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Outputs of the function, run anew, with their gradients."""
    args, kwargs = group.arguments.rebuild(leaves)
    values = pytree.tree_leaves(group.function(*args, **kwargs))
    seen: set[int] = set()
    for value, item in zip(values, group.specializations[0].outputs, strict=True):
        if not isinstance(item, ProgramResult) or item.index in seen:
            continue
        seen.add(item.index)
        gradient = gradients[item.index]
        if gradient is not None and value.requires_grad:
            yield value, gradient
