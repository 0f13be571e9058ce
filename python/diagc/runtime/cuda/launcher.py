"""Starts the functions of a plan on a stream: natively where that is built, else through ctypes.

Both make the same calls of the driver in the same order and raise the same errors.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

from diagc.debug import logger
from diagc.runtime.cuda.device import Device
from diagc.runtime.cuda.module import LoadedModule
from diagc.runtime.cuda.parameters import Parameters
from diagc.runtime.cuda.results import SUCCESS
from diagc.runtime.native import native_launcher, why_not_native

__all__ = ["CtypesLauncher", "Launcher", "NativeLauncher", "Start", "make_launcher"]

Start: TypeAlias = tuple[int, int, int, int, int, int, int, int]
"""Function, blocks along x, y, z, threads along x, y, z, bytes of shared memory."""

Launcher: TypeAlias = Callable[[int, Sequence[int]], None]
"""Takes a stream and the pointers of wires and workspaces.

Raises:
    LaunchError: the driver refuses, perhaps for an earlier kernel that failed.
"""

_ASKING = "asking a stream for a capture"
_STARTING = "launching a kernel"


def make_launcher(
    device: Device, module: LoadedModule, starts: Sequence[Start], parameters: Parameters
) -> Launcher:
    """The fastest launcher that there is, of one plan.

    Args:
        device: where to launch.
        module: the code there.
        starts: what is launched, in order.
        parameters: of all starts.
    """
    native = native_launcher()
    if native is None:
        _say_why(why_not_native())
        return CtypesLauncher(device, module, starts, parameters)
    return NativeLauncher(native, device, module, starts, parameters)


@cache
def _say_why(reason: str | None) -> None:
    """Once."""
    logger("cuda").info("kernels are launched through ctypes; the native launcher is %s", reason)


class CtypesLauncher:
    """A launcher without native code; arguments as `make_launcher`."""

    def __init__(
        self,
        device: Device,
        module: LoadedModule,
        starts: Sequence[Start],
        parameters: Parameters,
    ) -> None:
        """Launch nothing yet."""
        self._device = device
        self._module = module
        # converted once: 1.1 us less at every launch
        self._starts = [
            (ctypes.c_void_p(function), *map(ctypes.c_uint, numbers))
            for function, *numbers in starts
        ]
        self._parameters = parameters

    def __call__(self, stream: int, pointers: Sequence[int]) -> None:
        """Put the starts on a stream; see `Launcher`."""
        device, parameters = self._device, self._parameters
        block = parameters.take(pointers)
        entered = device.enter()
        try:
            self._start(stream, block[1])
        finally:
            if entered:
                device.leave()
            parameters.give_back(block)

    def _start(self, stream: int, addresses: Any) -> None:
        driver = self._device.driver
        if not self._module.pinned and self._is_capturing(stream):
            self._module.pin()
        launch = driver.cuLaunchKernel
        for start in self._starts:
            code = launch(*start, stream, addresses, None)
            if code != SUCCESS:
                driver.fail(code, _STARTING)

    def _is_capturing(self, stream: int) -> bool:
        driver, found = self._device.driver, ctypes.c_int()
        code = driver.cuStreamIsCapturing(stream, ctypes.byref(found))
        if code != SUCCESS:
            driver.fail(code, _ASKING)
        return found.value != 0


# stages of `Launches.launch`, see launcher.cpp
_ENTERING_STAGE, _ASKING_STAGE, _CAPTURING_STAGE, _STARTING_STAGE = 1, 2, 3, 4


class NativeLauncher:
    """A launcher that does everything in one call of native code.

    Args:
        native: the extension module.
        device: as in `make_launcher`, like all that follow.
        module: the code.
        starts: what is launched.
        parameters: of all starts.
    """

    def __init__(
        self,
        native: Any,
        device: Device,
        module: LoadedModule,
        starts: Sequence[Start],
        parameters: Parameters,
    ) -> None:
        """Launch nothing yet."""
        self._driver = device.driver
        self._module = module
        launches = native.Launches(
            *(device.driver.library, device.context),
            *(parameters.template, parameters.pointers, parameters.offsets, list(starts)),
        )
        self._launch = launches.launch
        self._doing = {
            _ENTERING_STAGE: device.entering,
            _ASKING_STAGE: _ASKING,
            _STARTING_STAGE: _STARTING,
        }

    def __call__(self, stream: int, pointers: Sequence[int]) -> None:
        """Put the starts on a stream; see `Launcher`."""
        stage, code = self._launch(stream, pointers, not self._module.pinned)
        if stage == _CAPTURING_STAGE:
            self._module.pin()
            stage, code = self._launch(stream, pointers, False)
        if code != SUCCESS:
            self._driver.fail(code, self._doing[stage])
