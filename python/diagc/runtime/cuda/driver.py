"""Bindings of the CUDA driver API by ctypes: the functions that launching needs, errors as ours."""

import ctypes
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from diagc.errors import TargetError
from diagc.runtime.cuda.results import SUCCESS, error_of

__all__ = ["Driver", "default_driver"]

LIBRARY = "libcuda.so.1"
OLDEST = 12000
"""The oldest CUDA version of a driver that works: 1000 * major + 10 * minor."""

_INT, _UINT, _HANDLE, _TEXT = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.c_char_p
_PLACE = ctypes.c_void_p  # where a result is written

# name here and in the reference -> exported symbol, types of the arguments; all give a CUresult
_FUNCTIONS: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "cuInit": ("cuInit", (_UINT,)),
    "cuDriverGetVersion": ("cuDriverGetVersion", (_PLACE,)),
    "cuGetErrorName": ("cuGetErrorName", (_INT, _PLACE)),
    "cuGetErrorString": ("cuGetErrorString", (_INT, _PLACE)),
    "cuDeviceGet": ("cuDeviceGet", (_PLACE, _INT)),
    "cuDeviceGetName": ("cuDeviceGetName", (_TEXT, _INT, _INT)),
    "cuDeviceGetAttribute": ("cuDeviceGetAttribute", (_PLACE, _INT, _INT)),
    "cuDevicePrimaryCtxRetain": ("cuDevicePrimaryCtxRetain", (_PLACE, _INT)),
    "cuDevicePrimaryCtxRelease": ("cuDevicePrimaryCtxRelease_v2", (_INT,)),
    "cuCtxGetCurrent": ("cuCtxGetCurrent", (_PLACE,)),
    "cuCtxPushCurrent": ("cuCtxPushCurrent_v2", (_HANDLE,)),
    "cuCtxPopCurrent": ("cuCtxPopCurrent_v2", (_PLACE,)),
    "cuModuleLoadDataEx": (
        "cuModuleLoadDataEx",
        (_PLACE, _TEXT, _UINT, ctypes.c_void_p, ctypes.c_void_p),
    ),
    "cuModuleUnload": ("cuModuleUnload", (_HANDLE,)),
    "cuModuleGetFunction": ("cuModuleGetFunction", (_PLACE, _HANDLE, _TEXT)),
    "cuFuncSetAttribute": ("cuFuncSetAttribute", (_HANDLE, _INT, _INT)),
    "cuStreamIsCapturing": ("cuStreamIsCapturing", (_HANDLE, _PLACE)),
    "cuThreadExchangeStreamCaptureMode": ("cuThreadExchangeStreamCaptureMode", (_PLACE,)),
    "cuTensorMapEncodeTiled": (
        "cuTensorMapEncodeTiled",
        (_PLACE, _INT, _UINT, _HANDLE, *(ctypes.c_void_p,) * 4, *(_INT,) * 4),
    ),
    "cuLaunchKernel": (
        "cuLaunchKernel",
        (_HANDLE, *(_UINT,) * 7, _HANDLE, ctypes.c_void_p, ctypes.c_void_p),
    ),
}

# They return at once, so the interpreter's lock is kept: 0.7 us less where locks are slow.
_QUICK = ("cuCtxGetCurrent", "cuStreamIsCapturing")


class Driver:
    """A loaded and initialised libcuda; its functions are attributes by their names.

    Args:
        library: soname or path.

    Raises:
        TargetError: there is no driver, no GPU, or the driver is too old.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        """Load the library and initialise the driver."""
        self.library = library
        self._functions = _bind(*_open(library), library)
        vars(self).update(self._functions)
        self.check(self.cuInit(0), "starting the NVIDIA driver")
        self.version = self.integer("cuDriverGetVersion", "asking for the driver's version")
        if self.version < OLDEST:
            raise TargetError(
                "the NVIDIA driver is too old",
                expected=f"one for CUDA {_dotted(OLDEST)} or later",
                found=f"CUDA {_dotted(self.version)}",
                remedy="update the driver",
            )

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The function of that name."""

    def check(self, code: int, doing: str, log: str = "") -> None:
        """Raise the error of a result code, if it is one; see `results.error_of`."""
        if code != SUCCESS:
            self.fail(code, doing, log)

    def fail(self, code: int, doing: str, log: str = "") -> NoReturn:
        """Raise the error of a result code."""
        name, text = (self._text(f, code) for f in ("cuGetErrorName", "cuGetErrorString"))
        raise error_of(code, name or "an unknown error", text, doing, log)

    def integer(self, function: str, doing: str, *args: int) -> int:
        """Call a function that writes an int to where its first argument points."""
        found = ctypes.c_int()
        self.check(self._functions[function](ctypes.byref(found), *args), doing)
        return found.value

    def handle(self, function: str, doing: str, *args: Any) -> int:
        """Call a function that writes a handle to where its first argument points."""
        found = ctypes.c_void_p()
        self.check(self._functions[function](ctypes.byref(found), *args), doing)
        return found.value or 0

    def _text(self, function: str, code: int) -> str:
        found = ctypes.c_char_p()
        if self._functions[function](code, ctypes.byref(found)) != SUCCESS or found.value is None:
            return ""
        return found.value.decode(errors="replace")


@cache
def default_driver() -> Driver:
    """The driver of this machine, loaded at the first call that finds it.

    Raises:
        TargetError: there is none, it is too old, or there is no GPU.
    """
    return Driver(LIBRARY)


def _open(library: str) -> tuple[ctypes.CDLL, ctypes.PyDLL]:
    try:
        return ctypes.CDLL(library), ctypes.PyDLL(library)
    except OSError as error:
        raise TargetError(
            "there is no NVIDIA driver on this machine",
            expected=library,
            found=str(error),
            remedy="install the driver, or compile for --target=cpu",
        ) from None


def _bind(releasing: ctypes.CDLL, holding: ctypes.PyDLL, path: str) -> dict[str, Any]:
    functions = {}
    for name, (symbol, arguments) in _FUNCTIONS.items():
        try:
            function = getattr(holding if name in _QUICK else releasing, symbol)
        except AttributeError:
            raise TargetError(
                f"the NVIDIA driver has no {symbol}",
                expected=f"a driver for CUDA {_dotted(OLDEST)} or later",
                found=path,
                remedy="update the driver",
            ) from None
        function.argtypes = arguments
        function.restype = ctypes.c_int
        functions[name] = function
    return functions


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
