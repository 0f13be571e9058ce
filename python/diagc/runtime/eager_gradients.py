"""Gradients of a call by running the function itself again, in eager mode."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch.utils import _pytree as pytree

from diagc.errors import UserError
from diagc.runtime.composed_attention import composed_attention
from diagc.runtime.specialization import ProgramResult

if TYPE_CHECKING:
    from diagc.runtime.group import Group

__all__ = ["differentiate", "eager_gradients", "refuse_replaced", "split_tensors"]


def split_tensors(
    group: "Group", tensors: Sequence[torch.Tensor]
) -> tuple[Sequence[torch.Tensor], dict[object, torch.Tensor]]:
    """The user's tensors, and the captured ones by identity: those that were known to the graph."""
    users = group.arguments.count
    values = zip(group.captured, tensors[users:], strict=False)
    return tensors[:users], {source.identity: tensor for source, tensor in values}


def refuse_replaced(group: "Group", captured: Mapping[object, torch.Tensor], what: str) -> None:
    """See that captured tensors are those that the function itself reads.

    Raises:
        UserError: one is another.
    """
    for source in group.captured:
        given, own = captured.get(source.identity), source.get()
        if given is not None and not _is_same(given, own):
            message = f"{what} of a graph with a compiled function whose weights were replaced"
            raise UserError(message, remedy="load the weights into the function's own modules")


def _is_same(given: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether a tensor is another, or an alias of all of it."""
    if given is own:
        return True
    return given.data_ptr() == own.data_ptr() and given.shape == own.shape


def eager_gradients(
    group: "Group",
    tensors: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    needed: Sequence[bool],
    again: bool,
) -> tuple[list[torch.Tensor], Sequence[torch.Tensor | None]]:
    """The tensors that need a gradient, as leaves, and theirs; `again`: can be differentiated.

    Raises:
        UserError: a captured tensor was replaced, which the function would not see.
    """
    users, captured = split_tensors(group, tensors)
    refuse_replaced(group, captured, "gradients, by running it again,")
    leaves = [
        tensor.detach().requires_grad_(need) for tensor, need in zip(users, needed, strict=False)
    ]
    sources = [*leaves, *(source.get() for source in group.captured[: len(captured)])]
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
