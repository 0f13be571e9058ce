"""Tensors whose memory ends, or begins, at a page that nobody may touch."""

import ctypes
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

__all__ = ["guarded", "guarded_results"]

_LIBC = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0


def guarded(tensor: Tensor, *, at_end: bool = True) -> Tensor:
    """A copy with the same strides, whose last byte stands before such a page, or its first behind.

    Who reads or writes past it is killed by the system, so use it in a forked process. What lies
    between the elements of a strided tensor is NaN in floats.

    Raises:
        OSError: the system refuses.
    """
    copy = _empty(tensor.shape, tensor.stride(), tensor.dtype, at_end)
    return copy.copy_(tensor.detach())


@contextmanager
def guarded_results(*, at_end: bool = True) -> Iterator[None]:
    """Plans of programs that are made within allocate results and buffers in such memory."""

    def empty(shape: Sequence[int], strides: Sequence[int], **kind: Any) -> Tensor:
        return _empty(shape, strides, kind["dtype"], at_end)

    with patch.object(torch, "empty_strided", empty):
        yield


def _empty(
    shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, at_end: bool
) -> Tensor:
    """Filled with NaN, or with ones of integers, which no kernel computes by chance."""
    steps = zip(shape, strides, strict=True)
    count = 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in steps)
    width = count * dtype.itemsize
    room = max(-(-width // mmap.PAGESIZE), 1) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + 2 * mmap.PAGESIZE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (first, first + mmap.PAGESIZE + room):
        if _LIBC.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "cannot protect a page")
    offset = mmap.PAGESIZE + (room - width if at_end else 0)
    if not count:
        return torch.empty(tuple(shape), dtype=dtype)
    flat = torch.frombuffer(memory, dtype=dtype, count=count, offset=offset)
    flat.fill_(torch.nan if dtype.is_floating_point else 1)
    return flat.as_strided(tuple(shape), tuple(strides))
