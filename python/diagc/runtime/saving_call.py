"""A call in eager mode that will be differentiated: its forward pass saves what gradients need.

Saved are the inputs and few values a row (`diagc.passes.gradients.save_statistics`), never scores.
Tracers and modes see the op `diagc::call` instead, which keeps the inputs alone: one op must give
as many results for every program of a group.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagc.runtime.program_gradients import Saved
from diagc.runtime.specialization import Specialization
from diagc.runtime.torch_ops import first_gradients, in_mode, second_backward, setup_second

if TYPE_CHECKING:
    from diagc.runtime.group import Group

__all__ = ["call_saving"]


def call_saving(
    group: "Group", specialization: Specialization, tensors: Sequence[torch.Tensor]
) -> Any:
    """Run a program that has one with more results; the value records gradients.

    Raises:
        MismatchError: the first call is judged, and a result is wrong.
    """
    captured = [source.get() for source in group.captured]
    results = _SavingCall.apply(group, specialization, *tensors, *captured)  # type: ignore[no-untyped-call]
    return specialization.value(results)


class _SavingCall(torch.autograd.Function):
    """Results of a program, of tensors: the user's, then the captured ones."""

    @staticmethod
    def forward(
        ctx: Any, group: "Group", specialization: Specialization, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        program = specialization.saving
        assert program is not None
        results, saved = group.run_saving(specialization, program, tensors)
        ctx.group, ctx.specialization, ctx.count = group, specialization, len(tensors)
        ctx.save_for_backward(*tensors, *saved)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(r for r in results if not r.is_floating_point()))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[Any, ...]:
        kept = ctx.saved_tensors  # read once: checkpointing drops a tensor when it is unpacked
        tensors, saved = kept[: ctx.count], kept[ctx.count :]
        group = ctx.group
        reads = group.reads(ctx.specialization, len(tensors))
        needed = [a and b for a, b in zip(ctx.needs_input_grad[2:], reads, strict=True)]
        if in_mode():
            values = [list(tensors), list(gradients), needed]
            found = torch.ops.diagc.call_backward(*values, group.key, [])
        else:
            facts = (group, needed, (ctx.specialization, saved))
            found = _Gradients.apply(*facts, *tensors, *gradients)  # type: ignore[no-untyped-call]
        rest = iter(found)
        return None, None, *(next(rest) if need else None for need in needed)


class _Gradients(torch.autograd.Function):
    """Gradients of the tensors that are needed, from the tensors and the results' cotangents."""

    @staticmethod
    def forward(
        ctx: Any, group: "Group", needed: list[bool], saved: Saved, *values: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        tensors, gradients = values[: len(needed)], values[len(needed) :]
        setup_second(ctx, (tensors, gradients, needed, group.key, ()), None)
        given = [tensor for tensor in tensors if tensor is not None]
        return tuple(first_gradients(group, given, gradients, needed, saved))

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple[Any, ...]:
        of_tensors, of_gradients, *_ = second_backward(ctx, cotangents)
        return None, None, None, *of_tensors, *of_gradients
