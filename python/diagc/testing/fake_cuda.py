"""A libcuda without a GPU for tests, and CPU tensors that pose as those of a GPU."""

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from diagc.runtime.cuda import device, driver, torch_streams
from diagc.runtime.gpu_kernel import GpuKernel

__all__ = ["PTX", "STREAM", "FakeCuda", "Patch", "build", "forget", "launches", "pose"]

SOURCE = Path(__file__).with_name("fake_cuda.c")
STREAM = 0x5EED
PTX = ".version 8.0\n.target sm_80\n"
"""As much of a PTX text as the fake looks at."""


class Patch(Protocol):
    """What `pytest.MonkeyPatch` does here."""

    def setattr(self, target: object, name: str, value: object) -> None:
        """Change an attribute until the end of the test."""


def build(folder: Path) -> Path | None:
    """Compile the fake into a folder; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    library = folder / "libcuda_fake.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    command = [compiler, *flags, "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    return library


class FakeCuda:
    """The controls of the fake, which starts afresh.

    Args:
        library: what `build` gave.
    """

    def __init__(self, library: Path) -> None:
        """Load it."""
        self.path = str(library)
        self._library = ctypes.CDLL(self.path)
        self._library.fake_log.restype = ctypes.c_char_p
        self._library.fake_push.argtypes = [ctypes.c_void_p]
        self._library.fake_reset()

    def fail(self, function: str, code: int, after: int = 0) -> None:
        """Let call number `after` of a function give an error, once."""
        self._library.fake_fail(function.encode(), code, after)

    def machine(
        self,
        version: int = 13000,
        devices: int = 2,
        capability: tuple[int, int] = (8, 0),
        shared: int = 166912,
    ) -> None:
        """Say what the driver and its GPUs are."""
        self._library.fake_machine(version, devices, *capability, shared)

    def expect(self, kernel: GpuKernel, *, bulk: bool = False) -> None:
        """Tell the fake how large the parameters are, of `bulk_launches` or of the others."""
        wires = kernel.signature.wires
        pointers = [8] * (len(wires) + len(kernel.workspaces))
        sizes = [4] * len(kernel.dynamic_axes)
        strides = [8] * sum(len(wire.labels) - wire.unit_stride for wire in wires)
        widths = [*pointers, *sizes, *strides, *[128] * (len(kernel.tensor_maps) * bulk)]
        self._library.fake_parameters((ctypes.c_int * len(widths))(*widths), len(widths))

    def capture(self, on: bool) -> None:
        """Say whether streams are being captured."""
        self._library.fake_capture(on)

    def quiet(self, on: bool) -> None:
        """Say whether nothing is logged, so that the fake costs next to no time."""
        self._library.fake_quiet(on)

    def push(self, context: int) -> None:
        """Make a context current on this thread, as other libraries do."""
        self._library.fake_push(context)

    def log(self) -> list[str]:
        """Lines since the last look."""
        text = self._library.fake_log().decode()
        self._library.fake_clear_log()
        return [line for line in text.splitlines() if line]

    @property
    def loaded(self) -> int:
        """Modules that are loaded now."""
        return int(self._library.fake_loaded())

    @property
    def retained(self) -> int:
        """Contexts that are retained now."""
        return int(self._library.fake_retained())

    @property
    def depth(self) -> int:
        """Contexts on this thread's stack."""
        return int(self._library.fake_depth())

    @property
    def capture_mode(self) -> int:
        """This thread's mode, 0 at the start."""
        return int(self._library.fake_capture_mode())


def pose(fake: FakeCuda, patch: Patch, index: int = 0) -> None:
    """Use the fake, and take CPU tensors for those of GPU `index`."""
    patch.setattr(driver, "LIBRARY", fake.path)
    patch.setattr(torch_streams, "device_index", lambda _device, _kernel: index)
    patch.setattr(torch_streams, "current_stream", lambda number: STREAM + number)
    patch.setattr(torch_streams, "allocate", allocate)
    forget()


def allocate(count: int, dtype: torch.dtype, _index: int) -> torch.Tensor:
    """In place of `torch_streams.allocate`."""
    return torch.empty(count, dtype=dtype)


def forget() -> None:
    """Let go of the driver and the GPUs that were found."""
    device.find_device.cache_clear()
    driver.default_driver.cache_clear()


def launches(lines: Sequence[str]) -> list[str]:
    """Lines of the log that are launches."""
    return [line for line in lines if line.startswith("launch ")]
