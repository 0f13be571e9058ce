"""The op of a call in a graph that will be differentiated: it also gives what its gradients need.

`torch.ops.diagc.call_saving(tensors, key)` gives the results of `diagc::call`, and behind them the
statistics of rows that `diagc.passes.gradients.save_statistics` finds, never scores. An op must
give as many results in every call of a graph: so the group has one specialization that such graphs
call (`Group.saver`), and who writes a graph sees that it takes all calls of it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagc.runtime.dispatch_keys import without_autocast
from diagc.runtime.eager_gradients import split_tensors
from diagc.runtime.op_gradients import register_gradients
from diagc.runtime.program import Program
from diagc.runtime.specialization import Specialization
from diagc.runtime.torch_ops import empty_results, group_of
from diagc.runtime.transforms import call_composition, refuse_tangents

if TYPE_CHECKING:
    from diagc.runtime.group import Group

__all__ = ["CALLS"]

_LIBRARY = torch.library.Library("diagc", "FRAGMENT")
_LIBRARY.define(
    "call_saving(Tensor[] tensors, str key) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,)
)

CALLS = (torch.ops.diagc.call.default, torch.ops.diagc.call_saving.default)
"""What a call of a compiled function is in a graph; both take the tensors and the key."""


def _saver(group: "Group") -> tuple[Specialization, Program]:
    assert group.saver is not None
    assert group.saver.saving is not None
    return group.saver, group.saver.saving


def _call_saving(tensors: list[torch.Tensor], key: str) -> list[torch.Tensor]:
    group = group_of(key)
    refuse_tangents(tensors)
    with without_autocast():
        results, saved = group.run_saving(*_saver(group), tensors)
    return [*results, *saved]


def _call_transformed(tensors: list[torch.Tensor], key: str) -> list[torch.Tensor]:
    """The results alone: under a transform nobody reads what is saved."""
    return call_composition(group_of(key), tensors)


def _fake_call(tensors: list[torch.Tensor], key: str) -> list[torch.Tensor]:
    group = group_of(key)
    specialization, program = _saver(group)
    users, captured = split_tensors(group, tensors)
    return empty_results(program, specialization.inputs(users, captured))


def _setup_context(ctx: Any, inputs: tuple[list[torch.Tensor], str], output: Any) -> None:
    tensors, ctx.key = inputs
    ctx.group = group_of(ctx.key)  # it lives as long as the backward pass may come
    specialization, _ = _saver(ctx.group)
    reads = ctx.group.reads(specialization, len(tensors))
    ctx.needed = [t.requires_grad and r for t, r in zip(tensors, reads, strict=True)]
    ctx.results = len(specialization.program.outputs)
    ctx.save_for_backward(*tensors, *output[ctx.results :])


def _backward(ctx: Any, gradients: Sequence[torch.Tensor | None]) -> tuple[list[Any], None]:
    kept, count = list(ctx.saved_tensors), len(ctx.needed)
    given = list(gradients[: ctx.results])
    values = (kept[:count], given, ctx.needed, ctx.key, kept[count:])
    found = iter(torch.ops.diagc.call_backward(*values))
    return [next(found) if need else None for need in ctx.needed], None


_LIBRARY.impl("call_saving", _call_transformed, "FuncTorchDynamicLayerFrontMode")
for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("call_saving", _call_saving, _device)
torch.library.register_fake("diagc::call_saving", _fake_call, lib=_LIBRARY)
register_gradients(
    _LIBRARY, torch.ops.diagc.call_saving.default, _call_saving, _backward, _setup_context
)
