"""What the user's code may ask about its surroundings while it is recorded."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from diagc.errors import UnsupportedError
from diagc.frontend.torch.locations import direct_caller

__all__ = ["DeviceFacade", "LayoutRefusal", "tracing_state"]


class DeviceFacade(TorchFunctionMode):
    """Shows the user's code the device of the example inputs instead of `meta`."""

    def __init__(self, device: torch.device) -> None:
        """Take the device to show."""
        super().__init__()
        tensor: Any = torch.Tensor
        self._shown = {
            tensor.device.__get__: device,
            tensor.is_meta.__get__: False,
            tensor.is_cpu.__get__: device.type == "cpu",
            tensor.is_cuda.__get__: device.type == "cuda",
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer the questions about devices, pass on everything else."""
        if func in self._shown:
            return self._shown[func]
        return func(*args, **(kwargs or {}))


_METHODS = ("stride", "is_contiguous", "storage_offset", "data_ptr")
_PROPERTIES = ("requires_grad", "is_leaf", "grad_fn", "grad")


class LayoutRefusal(TorchFunctionMode):
    """Refuses to tell the user's code what a program is not compiled for: memory and gradients.

    Calls whose tensors differ in these share a program, so a branch on them would go stale. Torch's
    own code may ask: it decides by them how to compute, not what.
    """

    def __init__(self) -> None:
        """List the questions."""
        super().__init__()
        tensor: Any = torch.Tensor
        self._refused = {getattr(tensor, name): f"{name}()" for name in _METHODS}
        self._refused |= {getattr(tensor, name).__get__: name for name in _PROPERTIES}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Pass on everything else.

        Raises:
            UnsupportedError: the user's code asks.
        """
        name = self._refused.get(func)
        location = direct_caller() if name else None
        if location is not None:
            raise UnsupportedError(
                f"{name} of a tensor",
                reason="one compiled program serves arguments that differ in it",
                location=location,
                remedy="do without the question (contiguous() copies nothing that is contiguous), "
                "or ask outside and pass the answer in",
            )
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def tracing_state(flags: bool) -> Iterator[None]:
    """Switch off the fast path of nn.MultiheadAttention, which is one opaque op.

    With `flags`, also set what libraries ask before they branch on data: is_compiling and
    is_exporting of torch.compiler, which torch.export sets too.
    """
    compiler = torch.compiler
    saved = compiler._is_compiling_flag, compiler._is_exporting_flag
    fast_path = torch.backends.mha.get_fastpath_enabled()
    if flags:
        compiler._is_compiling_flag = compiler._is_exporting_flag = True
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        compiler._is_compiling_flag, compiler._is_exporting_flag = saved
        torch.backends.mha.set_fastpath_enabled(fast_path)
