"""One GPU and its primary context, which is the one that torch works in."""

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from diagc.runtime.cuda.driver import Driver, default_driver
from diagc.runtime.cuda.results import SUCCESS

__all__ = ["Device", "find_device"]

# of `CUdevice_attribute`
_MAJOR, _MINOR, _SHARED_BYTES, _MULTIPROCESSORS = 75, 76, 97, 16
_RELAXED_CAPTURE = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


class Device:
    """A GPU; its primary context is retained as long as this object lives.

    Args:
        driver: of the machine.
        index: as in torch's `cuda:<index>`.

    Raises:
        TargetError: there is no such GPU.
    """

    def __init__(self, driver: Driver, index: int) -> None:
        """Retain the context."""
        doing = f"opening GPU {index}"
        self.driver = driver
        self.index = index
        self.entering = f"using GPU {index}"
        """What errors call the making current of its context."""
        number = driver.integer("cuDeviceGet", doing, index)
        self.name = _name(driver, number)
        attributes = [
            driver.integer("cuDeviceGetAttribute", doing, attribute, number)
            for attribute in (_MAJOR, _MINOR, _SHARED_BYTES, _MULTIPROCESSORS)
        ]
        self.capability = attributes[0], attributes[1]
        self.shared_bytes = attributes[2]
        """Largest shared memory that one block may ask for."""
        self.multiprocessors = attributes[3]
        self.context = driver.handle("cuDevicePrimaryCtxRetain", doing, number)
        release = weakref.finalize(self, driver.cuDevicePrimaryCtxRelease, number)
        release.atexit = False  # the driver may be gone by then, and frees everything itself

    @property
    def arch(self) -> str:
        """Such as "sm_90"."""
        return "sm_{}{}".format(*self.capability)

    def enter(self) -> bool:
        """Make the context current on this thread; give whether `leave` must be called for it."""
        found = ctypes.c_void_p()
        code = self.driver.cuCtxGetCurrent(ctypes.byref(found))
        if code == SUCCESS and found.value == self.context:
            return False
        self.driver.check(self.driver.cuCtxPushCurrent(self.context), self.entering)
        return True

    def leave(self) -> None:
        """Make the context current that was current before `enter`."""
        self.driver.cuCtxPopCurrent(ctypes.byref(ctypes.c_void_p()))

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Code is loaded or unloaded inside: in the context, and also while a graph is captured."""
        entered = self.enter()
        mode = ctypes.c_int(_RELAXED_CAPTURE)
        try:
            self.driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
            yield
        finally:
            self.driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
            if entered:
                self.leave()


def _name(driver: Driver, number: int) -> str:
    buffer = ctypes.create_string_buffer(256)
    driver.check(driver.cuDeviceGetName(buffer, len(buffer), number), "asking for a GPU's name")
    return buffer.value.decode(errors="replace")


@cache
def find_device(index: int) -> Device:
    """The GPU that torch calls `cuda:<index>`.

    Raises:
        TargetError: there is no driver, it is too old, or there is no such GPU.
    """
    return Device(default_driver(), index)
