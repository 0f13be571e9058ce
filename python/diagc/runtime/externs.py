"""Addresses of the C functions that compiled kernels may call, from an allow-list by name."""

import ctypes
from functools import cache

from diagc.runtime.openmp import find_openmp

__all__ = ["ALLOWED", "resolve"]

_MEMORY = ("memcpy", "memmove", "memset", "malloc", "free", "aligned_alloc")
# fmt: off
_UNARY = (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "cos", "cosh", "erf", "erfc",
    "exp", "exp10", "exp2", "expm1", "fabs", "floor", "lgamma", "log", "log10", "log1p", "log2",
    "nearbyint", "rint", "round", "roundeven", "sin", "sinh", "sqrt", "tan", "tanh", "tgamma",
    "trunc",
)
_BINARY = (
    "atan2", "copysign", "fdim", "fma", "fmax", "fmin", "fmod", "hypot", "ldexp", "pow",
    "remainder", "sincos",
)
# fmt: on
# libgcc's whole powers, and its conversions, called where the CPU lacks F16C or AVX512-BF16
_LIBGCC = (
    "__powisf2",
    "__powidf2",
    "__extendhfsf2",
    "__extendbfsf2",
    "__truncsfhf2",
    "__truncsfbf2",
    "__truncdfhf2",
    "__truncdfbf2",
)
_MATH = tuple(name + suffix for name in (*_UNARY, *_BINARY) for suffix in ("", "f"))
_LIBRARIES = (None, "libm.so.6", "libgcc_s.so.1")  # None: whatever this process has loaded

_OPENMP = ("GOMP_parallel", "omp_get_thread_num")

ALLOWED = frozenset((*_MEMORY, *_MATH, *_LIBGCC, *_OPENMP))


@cache
def resolve(name: str) -> int | None:
    """Give the address of an allowed function, or None when it is not allowed or not found.

    OpenMP's functions give 0 without any OpenMP run time: a kernel calls them only when it is told
    to use several threads, and `CpuKernel` never does so then.
    """
    if name not in ALLOWED:
        return None
    if name in _OPENMP:
        openmp = find_openmp()
        if openmp is None:
            return 0
        return openmp.parallel if name == "GOMP_parallel" else openmp.thread_number
    for library in _LIBRARIES:
        address = _lookup(library, name)
        if address is not None:
            return address
    return None


def _lookup(library: str | None, name: str) -> int | None:
    try:
        function = getattr(ctypes.CDLL(library), name)
    except (OSError, AttributeError):
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
