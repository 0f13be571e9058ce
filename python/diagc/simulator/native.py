"""The run time's C interface, as `native/interface.h` declares it."""

import ctypes
from functools import cache

from diagc.simulator.build import runtime_library

__all__ = [
    "NativeBuffer",
    "NativeCounters",
    "NativeFinding",
    "NativeLaunch",
    "NativeTensorMap",
    "load_runtime",
]


class NativeFinding(ctypes.Structure):
    """`sim::Finding`."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("access", ctypes.c_int32),
        ("site", ctypes.c_int32),
        ("other_site", ctypes.c_int32),
        ("block", ctypes.c_int32 * 3),
        ("thread", ctypes.c_int32),
        ("other_thread", ctypes.c_int32),
        ("other_access", ctypes.c_int32),
        ("other_block", ctypes.c_int32),
        ("buffer", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("size", ctypes.c_int64),
        ("count", ctypes.c_int64),
    )


class NativeBuffer(ctypes.Structure):
    """`sim::Buffer`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
        ("item", ctypes.c_int64),
        ("written", ctypes.c_void_p),
        ("writable", ctypes.c_int32),
        ("unused", ctypes.c_int32),
    )


class NativeTensorMap(ctypes.Structure):
    """`sim::TensorMap`."""

    _fields_ = (
        ("buffer", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("item", ctypes.c_int32),
        ("swizzle", ctypes.c_int32),
        ("size", ctypes.c_int64 * 5),
        ("stride", ctypes.c_int64 * 5),
        ("box", ctypes.c_int32 * 5),
        ("unused", ctypes.c_int32),
    )


class NativeCounters(ctypes.Structure):
    """`sim::Counters`."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            "global_read_bytes",
            "global_write_bytes",
            "global_read_sectors",
            "global_write_sectors",
            "shared_read_bytes",
            "shared_write_bytes",
            "shared_wavefronts",
            "bank_conflicts",
            "atomic_bytes",
            "memory_instructions",
        )
    )


class NativeLaunch(ctypes.Structure):
    """`sim::Launch`."""

    _fields_ = (
        ("entry", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(ctypes.c_uint64)),
        ("grid", ctypes.c_int32 * 3),
        ("threads", ctypes.c_int32),
        ("shared_bytes", ctypes.c_int32),
        ("buffer_count", ctypes.c_int32),
        ("buffers", ctypes.POINTER(NativeBuffer)),
        ("tensor_maps", ctypes.POINTER(NativeTensorMap)),
        ("tensor_map_count", ctypes.c_int32),
        ("site_count", ctypes.c_int32),
        ("basic_block_count", ctypes.c_int32),
        ("checking", ctypes.c_int32),
        ("seed", ctypes.c_int32),
        ("workers", ctypes.c_int32),
        ("finding_limit", ctypes.c_int32),
        ("environment", ctypes.c_int32),
        ("step_limit", ctypes.c_int64),
        ("findings", ctypes.POINTER(NativeFinding)),
        ("finding_count", ctypes.c_int32),
        ("unused", ctypes.c_int32),
        ("basic_block_runs", ctypes.POINTER(ctypes.c_int64)),
        ("counters", NativeCounters),
    )


@cache
def load_runtime() -> ctypes.CDLL:
    """The run time's library; the names in it are also visible to code that LLVM compiles.

    Raises:
        TargetError: there is no C++ compiler.
    """
    from llvmlite import binding

    path = str(runtime_library())
    binding.load_library_permanently(path)
    library = ctypes.CDLL(path)
    library.diagc_sim_launch.argtypes = (ctypes.POINTER(NativeLaunch),)
    library.diagc_sim_launch.restype = None
    access = ctypes.cast(library.diagc_sim_access, ctypes.c_void_p).value
    for space in ("1", "3"):  # the same function for pointers of each address space
        binding.add_symbol(f"diagc_sim_access{space}", access)
    narrow = ctypes.cast(library.diagc_sim_truncsfbf2, ctypes.c_void_p).value
    binding.add_symbol("__truncsfbf2", narrow)
    return library
