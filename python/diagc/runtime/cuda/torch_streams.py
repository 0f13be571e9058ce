"""What the launcher asks torch: where a tensor is, and which stream is current there."""

from collections.abc import Callable

import torch

from diagc.errors import LaunchError, TargetError

__all__ = ["allocate", "current_index", "current_stream", "device_index"]


def device_index(device: str, kernel: str) -> int:
    """Number of the GPU that torch calls `device`.

    Raises:
        LaunchError: it is no GPU.
        TargetError: torch has no GPU.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        raise LaunchError(
            f"kernel '{kernel}' runs on NVIDIA GPUs only",
            expected="arguments on a cuda device",
            found=device,
            remedy='move them with .to("cuda"), or compile for --target=cpu',
        )
    return int(index) if index else current_index()


def current_index() -> int:
    """Number of torch's current GPU.

    Raises:
        TargetError: torch has no GPU.
    """
    if not torch.backends.cuda.is_built():
        remedy = "install one that has, or compile for --target=cpu"
        raise TargetError("this build of torch has no CUDA", found=torch.__version__, remedy=remedy)
    try:
        return torch.cuda.current_device()
    except RuntimeError as error:
        raise TargetError(f"torch finds no GPU: {error}") from None


def allocate(count: int, dtype: torch.dtype, index: int) -> torch.Tensor:
    """Scratch memory on a GPU, from torch's allocator, on the current stream."""
    return torch.empty(count, dtype=dtype, device=torch.device("cuda", index))


def _raw_stream() -> Callable[[int], int]:
    # what torch's own compiler calls: 0.1 us instead of 1 us for the object; not in CPU builds
    raw: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    return raw or (lambda index: torch.cuda.current_stream(index).cuda_stream)


current_stream = _raw_stream()
"""Handle of torch's current stream on the GPU of an index."""
