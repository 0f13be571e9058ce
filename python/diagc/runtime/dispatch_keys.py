"""The state of torch's dispatcher in a thread that is in no op."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

__all__ = ["plain_dispatch", "without_autocast"]

# read at import, when diagc is set up
_PLAIN_KEYS = (
    torch._C._dispatch_tls_local_include_set(),
    torch._C._dispatch_tls_local_exclude_set(),
)


@contextmanager
def plain_dispatch() -> Iterator[None]:
    """Inside the block, ops are dispatched as in no op: autograd and autocast see them again."""
    with torch._C._ForceDispatchKeyGuard(*_PLAIN_KEYS):
        yield


_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU) | torch._C.DispatchKeySet(
    torch._C.DispatchKey.AutocastCUDA
)


def without_autocast() -> AbstractContextManager[None]:
    """Inside the block, torch's ops compute in the dtypes that they get.

    A program was compiled for the dtypes of its arrays: products of the library that autocast made
    smaller would be read as what they are not.
    """
    guard: AbstractContextManager[None] = torch._C._ExcludeDispatchKeyGuard(_AUTOCAST)
    return guard
