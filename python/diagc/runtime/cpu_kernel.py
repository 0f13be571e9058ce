"""A compiled CPU kernel in memory: load its object, launch it on raw slots."""

import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from diagc.runtime.cpu_features import CpuFeatures
from diagc.runtime.elf import load_object
from diagc.runtime.launch_plan import ArrayInfo, LaunchPlan, make_plan
from diagc.runtime.openmp import find_openmp
from diagc.runtime.planned_kernel import PlannedKernel
from diagc.runtime.signature import KernelSignature, Slot

__all__ = ["CpuKernel", "CpuPlan", "thread_count"]

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # releases the GIL during the call
_CACHE_LINE = 64


class _Block:
    """Slots as a kernel takes them: in memory, aligned to a cache line."""

    def __init__(self, slots: Sequence[int]) -> None:
        """Copy the slots."""
        memory = (ctypes.c_char * (8 * len(slots) + _CACHE_LINE))()
        base = ctypes.addressof(memory)
        offset = -base % _CACHE_LINE
        self.address = base + offset
        bytes_of_slots = memoryview(memory)[offset : offset + 8 * len(slots)]
        self.slots = bytes_of_slots.cast("B").cast("q")
        for i, value in enumerate(slots):
            self.slots[i] = value


@dataclass(frozen=True)
class CpuPlan(LaunchPlan):
    """A plan with the kernel's slots; counters, threads and pointers are zero in them.

    `free` are blocks that no launch uses at the moment: a launch takes one, or makes another.
    """

    slots: tuple[int, ...]
    free: list[_Block] = field(default_factory=list, compare=False, repr=False)


class CpuKernel(PlannedKernel[CpuPlan]):
    """A loaded kernel; its code stays in memory as long as this object does.

    Launch it with `torch_launch.call` or `numpy_launch.call_numpy`.

    Args:
        signature: its calling convention.
        object_code: a relocatable ELF64 object that exports `signature.symbol`.
        features: of the processor that it was compiled for, if that is known.

    Raises:
        CacheError: the object cannot be loaded.
        TargetError: this system gives no executable memory.
    """

    def __init__(
        self,
        signature: KernelSignature,
        object_code: bytes,
        features: CpuFeatures | None = None,
    ) -> None:
        """Load the object."""
        super().__init__(signature)
        self.object_code = object_code
        self.features = features
        self._object = load_object(object_code)
        self._entry = _ENTRY(self._object.address(signature.symbol))
        self._pointer_slots = [signature.slot_of_pointer(i) for i in range(len(signature.wires))]
        self._max_threads = 1 if find_openmp() is None else sys.maxsize

    def make_plan(self, args: Sequence[ArrayInfo], outs: Sequence[ArrayInfo] = ()) -> CpuPlan:
        """Check arrays and fill the slots."""
        checked = make_plan(self.signature, args, outs)
        return CpuPlan(**vars(checked), slots=tuple(_slots(self.signature, checked)))

    def launch(self, plan: CpuPlan, pointers: Sequence[int], threads: int | None = None) -> None:
        """Run a plan on data; see `PlannedKernel.launch`.

        Args:
            plan: of this kernel.
            pointers: addresses of the arguments, then of the results.
            threads: None for as many as torch uses; 1 never enters OpenMP.
        """
        try:
            block = plan.free.pop()
        except IndexError:
            block = _Block(plan.slots)
        slots = block.slots
        wanted = thread_count() if threads is None else threads
        slots[Slot.THREADS] = min(wanted, self._max_threads)
        for slot, pointer in zip(self._pointer_slots, pointers):  # noqa: B905 (0.2 us)
            slots[slot] = pointer
        self._entry(block.address)
        plan.free.append(block)


def _slots(signature: KernelSignature, plan: LaunchPlan) -> list[int]:
    slots = [0] * signature.slot_count
    for label, size in plan.sizes.items():
        slots[signature.slot_of_size(label)] = size
    for i, steps in enumerate(plan.strides):
        first = signature.slot_of_pointer(i) + 1
        slots[first : first + len(steps)] = steps
    return slots


class _Process:
    """What is known of this process; `is_fork`: it has its parent's memory, but not its threads."""

    is_fork = False


def _mark_fork() -> None:
    _Process.is_fork = True


os.register_at_fork(after_in_child=_mark_fork)


def thread_count() -> int:
    """Threads that torch uses when it is loaded, else the CPUs that this process may run on.

    One in a forked process: the pool's threads are the parent's, and OpenMP would wait for them.
    """
    if _Process.is_fork:
        return 1
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    return len(os.sched_getaffinity(0))
