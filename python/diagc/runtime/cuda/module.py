"""The code of one kernel on one GPU: cubin or PTX is loaded, and unloaded when nobody uses it."""

import ctypes
import re
import weakref

from diagc.errors import TargetError
from diagc.runtime.cuda.device import Device
from diagc.runtime.cuda.driver import Driver
from diagc.runtime.cuda.results import INVALID_IMAGE, NO_BINARY_FOR_GPU
from diagc.runtime.gpu_kernel import GpuKernel

__all__ = ["LoadedModule", "fits_cubin", "fits_ptx"]

_ARCH = re.compile(r"sm_(\d+)(\d)([af]?)")
_MAX_DYNAMIC_SHARED_BYTES = 8  # of `CUfunction_attribute`
_STATIC_LIMIT = 48 * 1024  # bytes of shared memory that every block may ask for
_ERROR_LOG, _ERROR_LOG_BYTES = 5, 6  # of `CUjit_option`
_LOG_BYTES = 8192

_NEXT_IMAGE = (NO_BINARY_FOR_GPU, INVALID_IMAGE)
"""Of a cubin; the second where ptxas is newer than the driver, which then may compile the PTX."""

_PINNED: list["LoadedModule"] = []


class LoadedModule:
    """The functions of a kernel in the memory of one GPU, of all its launches, by symbol.

    Args:
        device: where to load.
        kernel: what to load; the cubin if there is one for this GPU, else the PTX.

    Raises:
        TargetError: the code is damaged or for another GPU, or the driver cannot compile the PTX.
        LaunchError: the GPU has no memory left.
    """

    def __init__(self, device: Device, kernel: GpuKernel) -> None:
        """Load; whatever fails, nothing stays loaded."""
        self._pinned = False
        with device.loading():
            module = _load(device, kernel)
            try:
                self.functions = {
                    launch.symbol: _function(device, module, launch.symbol, launch.shared_bytes)
                    for launch in kernel.all_launches
                }
            except BaseException:
                device.driver.cuModuleUnload(module)
                raise
        unload = weakref.finalize(self, _unload, device, module)
        unload.atexit = False  # the driver may be gone by then, and frees everything itself

    def pin(self) -> None:
        """Keep the code for ever: a captured graph refers to it and cannot say until when."""
        if not self._pinned:
            self._pinned = True
            _PINNED.append(self)

    @property
    def pinned(self) -> bool:
        """Whether the code stays for ever."""
        return self._pinned


def fits_cubin(arch: str, capability: tuple[int, int]) -> bool:
    """Whether machine code for `arch` runs on a GPU: the same major version, not a later minor.

    Code for an architecture with `a` runs on exactly that one.
    """
    major, minor, suffix = _parts(arch)
    if suffix == "a":
        return (major, minor) == capability
    return major == capability[0] and minor <= capability[1]


def fits_ptx(arch: str, capability: tuple[int, int]) -> bool:
    """Whether PTX for `arch` can be compiled for a GPU: the same or an earlier architecture."""
    major, minor, suffix = _parts(arch)
    if suffix:
        return fits_cubin(arch, capability)
    return (major, minor) <= capability


def _parts(arch: str) -> tuple[int, int, str]:
    match = _ARCH.fullmatch(arch)
    if match is None:
        raise TargetError("unknown GPU architecture", expected="such as sm_80", found=f"'{arch}'")
    return int(match[1]), int(match[2]), match[3]


def _load(device: Device, kernel: GpuKernel) -> int:
    """Load the first image that this GPU takes."""
    symbol, capability = kernel.signature.symbol, device.capability
    images = []
    if kernel.cubin is not None and fits_cubin(kernel.arch, capability):
        images.append(kernel.cubin)
    if fits_ptx(kernel.arch, capability):
        images.append(kernel.ptx.encode() + b"\0")
    if not images:
        raise TargetError(
            f"kernel '{symbol}' is compiled for another GPU",
            expected=kernel.arch,
            found=f"{device.name}, {device.arch}",
            remedy=f"compile it with --target=nvptx:{device.arch}",
        )
    for image in images:
        module, code, log = _try_load(device.driver, image)
        if code not in _NEXT_IMAGE:
            break
        _log(f"kernel '{symbol}': the driver does not take an image (code {code})")
    device.driver.check(code, f"loading kernel '{symbol}'", log)
    return module


def _log(text: str) -> None:
    from diagc.debug import logger

    logger("cuda").info(text)


def _try_load(driver: Driver, image: bytes) -> tuple[int, int, str]:
    """Handle of the module, the driver's result, and the log of its compiler."""
    module = ctypes.c_void_p()
    log = ctypes.create_string_buffer(_LOG_BYTES)
    options = (ctypes.c_int * 2)(_ERROR_LOG, _ERROR_LOG_BYTES)
    values = (ctypes.c_void_p * 2)(ctypes.addressof(log), _LOG_BYTES)
    code = driver.cuModuleLoadDataEx(ctypes.byref(module), image, 2, options, values)
    return module.value or 0, code, log.value.decode(errors="replace")


def _function(device: Device, module: int, symbol: str, shared_bytes: int) -> int:
    """Find a function and let it use its shared memory."""
    driver, doing = device.driver, f"finding function '{symbol}'"
    if shared_bytes > device.shared_bytes:
        raise TargetError(
            f"kernel '{symbol}' needs more shared memory than this GPU has",
            expected=f"at most {device.shared_bytes} bytes a block on {device.name}",
            found=shared_bytes,
            remedy=f"compile it with --target=nvptx:{device.arch}",
        )
    function = driver.handle("cuModuleGetFunction", doing, module, symbol.encode())
    if shared_bytes > _STATIC_LIMIT:
        code = driver.cuFuncSetAttribute(function, _MAX_DYNAMIC_SHARED_BYTES, shared_bytes)
        driver.check(code, f"giving {shared_bytes} bytes of shared memory to '{symbol}'")
    return function


def _unload(device: Device, module: int) -> None:
    """Unload; failures do not matter any more."""
    try:
        with device.loading():
            device.driver.check(device.driver.cuModuleUnload(module), "unloading a kernel")
    except Exception:
        _log(f"a kernel could not be unloaded from GPU {device.index}")
