"""Gradients of our ops, and a short way to their kernels where nothing is recorded.

`torch.library.register_autograd` sends every call twice through the dispatcher, from Python to
Python: some 30 us, as long as small kernels take.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import _C
from torch._library.autograd import Info, make_autograd_impl

__all__ = ["register_gradients"]

_OURS = [_C.DispatchKeySet(key).raw_repr() for key in (_C.DispatchKey.CPU, _C.DispatchKey.CUDA)]
"""Keys of the implementations: where autograd is followed by one alone, no mode, subclass or lazy
negation is in between."""


def register_gradients(
    library: torch.library.Library,
    op: torch._ops.OpOverload,
    implementation: Callable[..., Any],
    backward: Callable[..., Any],
    setup: Callable[..., None],
) -> None:
    """Register an op's rule for gradients, as `torch.library.register_autograd` takes it.

    Args:
        library: that defines the op.
        op: takes no keyword arguments.
        implementation: of the op, registered for CPU and CUDA alike.
        backward: of the context and the cotangents.
        setup: puts into the context what `backward` needs.
    """
    record = make_autograd_impl(op, Info(backward, setup))

    def call(keys: _C.DispatchKeySet, *args: Any) -> Any:
        recorded = torch.is_grad_enabled() and _C._any_requires_grad(*args)
        if recorded or (keys & _C._after_autograd_keyset).raw_repr() not in _OURS:
            return record(keys, *args)
        with _C._AutoDispatchBelowAutograd():
            return implementation(*args)

    library.impl(op._schema.name.split("::")[1], call, "Autograd", with_keyset=True)
