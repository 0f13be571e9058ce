"""What the user's code may ask about its surroundings while it is recorded."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["DeviceFacade", "tracing_state"]


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
