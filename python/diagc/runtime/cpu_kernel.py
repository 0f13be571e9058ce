"""A compiled CPU kernel in memory: load its object, launch it on raw slots."""

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from typing import Any

from diagc.runtime.elf import load_object
from diagc.runtime.launch_plan import ArrayInfo, LaunchPlan, make_plan
from diagc.runtime.openmp import find_openmp
from diagc.runtime.signature import KernelSignature, Slot

__all__ = ["CpuKernel", "thread_count"]

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # releases the GIL during the call
_CACHE_LINE = 64
_MAX_PLANS = 256  # a decoder sees a new length at every step; plans must not pile up


class CpuKernel:
    """A loaded kernel; its code stays in memory as long as this object does.

    Launch it with `torch_launch.call` or `numpy_launch.call_numpy`.

    Args:
        signature: its calling convention.
        object_code: a relocatable ELF64 object that exports `signature.symbol`.

    Raises:
        CacheError: the object cannot be loaded.
        TargetError: this system gives no executable memory.
    """

    def __init__(self, signature: KernelSignature, object_code: bytes) -> None:
        """Load the object."""
        self.signature = signature
        self._object = load_object(object_code)
        self._entry = _ENTRY(self._object.address(signature.symbol))
        self._pack = struct.Struct(f"<{signature.slot_count}q").pack_into
        self._block = ctypes.c_char * (8 * signature.slot_count + _CACHE_LINE)
        self._pointer_slots = [signature.slot_of_pointer(i) for i in range(len(signature.wires))]
        self.plans: dict[tuple[Any, ...], LaunchPlan] = {}
        self._max_threads = 1 if find_openmp() is None else sys.maxsize

    def launch(self, plan: LaunchPlan, pointers: Sequence[int], threads: int | None = None) -> None:
        """Run a plan on data; the caller vouches that the arrays are those of the plan.

        Args:
            plan: from `plan` or `make_plan`.
            pointers: addresses of the arguments, then of the results.
            threads: None for as many as torch uses; 1 never enters OpenMP.
        """
        slots = plan.slots.copy()
        wanted = thread_count() if threads is None else threads
        slots[Slot.THREADS] = min(wanted, self._max_threads)
        for slot, pointer in zip(self._pointer_slots, pointers):  # noqa: B905 (0.2 us)
            slots[slot] = pointer
        block = self._block()
        address = ctypes.addressof(block)
        offset = -address % _CACHE_LINE
        self._pack(block, offset, *slots)
        self._entry(address + offset)

    def plan(
        self, key: tuple[Any, ...], args: Sequence[ArrayInfo], outs: Sequence[ArrayInfo] = ()
    ) -> LaunchPlan:
        """Check arrays, and remember the plan under a key that tells all that it depends on.

        Raises:
            LaunchError: the arrays do not fit the signature.
        """
        plan = make_plan(self.signature, args, outs)
        if len(self.plans) >= _MAX_PLANS:
            self.plans.clear()
        self.plans[key] = plan
        return plan


def thread_count() -> int:
    """Threads that torch uses when it is loaded, else the CPUs that this process may run on."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    return len(os.sched_getaffinity(0))
