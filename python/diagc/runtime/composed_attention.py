"""`scaled_dot_product_attention` as products and a softmax, where its fused kernels do not do.

They have neither second derivatives nor forward mode, and no rule for `vmap`. A mode of this
thread, not torch's `sdpa_kernel`, which sets flags of the process: two threads that overlap would
leave them set.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    get_unwrapped,
    is_functorch_wrapped_tensor,
)
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

__all__ = ["attention_of_transforms", "composed_attention"]

_ATTENTION = (
    torch.nn.functional.scaled_dot_product_attention,
    torch.ops.aten.scaled_dot_product_attention,
    torch.ops.aten.scaled_dot_product_attention.default,
)


def composed_attention() -> AbstractContextManager[Any]:
    """Within, in this thread, calls of attention store their scores."""
    return _Composed()


def attention_of_transforms() -> AbstractContextManager[Any]:
    """`composed_attention` where the transforms in force need it.

    That is all but one gradient in reverse mode of a call that autograd outside does not record:
    by none of its tensors, be they computed from the function's arguments or from its weights.
    """
    levels = [level.key() for level in get_interpreter_stack() or ()]
    once = levels == [TransformType.Grad] and forward_ad._current_level < 0
    return _ComposedWhereRecorded() if once else _Composed()


def _is_recorded(tensor: torch.Tensor) -> bool:
    """Whether autograd outside of all transforms will differentiate what they compute."""
    while is_functorch_wrapped_tensor(tensor):
        tensor = get_unwrapped(tensor)
    return tensor.requires_grad


class _Composed(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        composes = function in _ATTENTION and self._composes((*args, *kwargs.values()))
        return (_compose if composes else function)(*args, **kwargs)

    def _composes(self, _arguments: Sequence[Any]) -> bool:
        return True


class _ComposedWhereRecorded(_Composed):
    def _composes(self, arguments: Sequence[Any]) -> bool:
        return any(isinstance(x, torch.Tensor) and _is_recorded(x) for x in arguments)


def _compose(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *others: Any,
    **options: Any,
) -> torch.Tensor:
    """Torch's own composition, with its arguments; it adds masks, so that they must be numbers."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(
            attn_mask.logical_not(), -torch.inf
        )
    math = torch.ops.aten._scaled_dot_product_attention_math.default
    return math(query, key, value, attn_mask, *others, **options)[0]
