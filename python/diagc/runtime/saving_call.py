"""A call in eager mode that will be differentiated: its forward pass saves what gradients need.

Saved are the inputs and few values a row (`diagc.passes.save_statistics`), never scores. Tracers
and modes see the op `diagc::call` instead, which keeps the inputs alone: one op must give as many
results for every program of a group. Second derivatives go through the op of the first ones.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagc.runtime.dispatch_keys import without_autocast
from diagc.runtime.program_gradients import program_gradients
from diagc.runtime.specialization import Specialization
from diagc.runtime.torch_ops import in_mode

if TYPE_CHECKING:
    from diagc.runtime.calls import Group

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
        tensors, saved = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        needed = list(ctx.needs_input_grad[2:])
        found = _gradients(ctx, tensors, gradients, needed, saved)
        rest = iter(found)
        return None, None, *(next(rest) if need else None for need in needed)


def _gradients(
    ctx: Any,
    tensors: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    needed: list[bool],
    saved: Sequence[torch.Tensor],
) -> Sequence[torch.Tensor]:
    """Gradients of the tensors that need one."""
    if not torch.is_grad_enabled() and not in_mode():
        with without_autocast():
            values = (ctx.specialization, saved)
            own = program_gradients(ctx.group, tensors, gradients, needed, values)
        if own is not None:
            return own
    key = ctx.group.key
    found: Sequence[torch.Tensor] = torch.ops.diagc.call_backward(
        list(tensors), list(gradients), needed, key
    )
    return found
