"""A call like the one before: found with few steps, for they run on a cold cache.

Between two calls of a model's function other code runs, and then a call takes ten times as long as
in a loop of its own: what counts is how much code and data it touches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._C._dynamo.guards import TensorGuards

from diagc.runtime.specialization import Ready
from diagc.runtime.torch_ops import are_plain, in_mode

__all__ = ["Repeat"]


class Repeat:
    """What a call of tensors alone, in order, has run.

    Args:
        count: of its tensors.
        modes: of the modules that the function sees.
        ready: what was run.
    """

    def __init__(self, count: int, modes: tuple[bool, ...], ready: Ready) -> None:
        """Remember, but not the tensors."""
        self._count = count
        self._modes = modes
        self._specialization = ready.specialization
        self._plan = ready.plan
        # the key of a plan takes five times as long; None: no size and no stride is open
        self._inputs = TensorGuards(
            *ready.inputs, dynamic_dims_sizes=None, dynamic_dims_strides=None
        )

    def ready(
        self, args: Sequence[torch.Tensor], kwargs: Mapping[str, Any], modes: tuple[bool, ...]
    ) -> Ready | None:
        """The same again for these arguments; None when they differ in more than their data."""
        if kwargs or len(args) != self._count or modes != self._modes:
            return None
        if not are_plain(args) or in_mode():
            return None
        try:
            inputs = self._specialization.inputs(args)
            if not self._inputs.check(*inputs):
                return None
        except (RuntimeError, AttributeError):  # no strides: sparse or nested; an emptied weight
            return None
        return Ready(self._specialization, inputs, self._plan)
