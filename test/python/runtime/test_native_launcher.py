"""Which launcher is taken, what is said where the native one is missing, and what it refuses."""

import logging
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from diagc import driver as command_line
from diagc.runtime import native
from diagc.runtime.cuda import CudaKernel
from diagc.runtime.cuda import launcher as launchers
from diagc.runtime.gpu_kernel import GpuKernel, GpuLaunch
from diagc.runtime.launch_plan import ArrayInfo
from diagc.runtime.signature import KernelSignature, Wire
from diagc.runtime.torch_launch import call
from diagc.testing.fake_cuda import PTX, FakeCuda

ROOT = Path(__file__).resolve().parents[3]
EXTENSION = native.native_launcher()
needs_extension = pytest.mark.skipif(
    EXTENSION is None, reason=f"NOT TESTED: the native launcher, {native.why_not_native()}"
)


def copy_kernel() -> CudaKernel:
    signature = KernelSignature("copy", (Wire("x", "f32", ()),), (Wire("y", "f32", ()),), ())
    return CudaKernel(GpuKernel(signature, (GpuLaunch("copy", 32, 0, ((),)),), (), "sm_80", PTX))


def launcher_of_a_plan() -> object:
    return copy_kernel().make_plan([ArrayInfo((), (), "f32")]).launcher


@needs_extension
def test_native_launcher_is_taken_where_it_is(cuda: FakeCuda) -> None:
    assert isinstance(launcher_of_a_plan(), launchers.NativeLauncher)


def without(monkeypatch: pytest.MonkeyPatch, module: ModuleType | Any) -> None:
    """Let an import of the extension find `module`; None is no module."""
    monkeypatch.setitem(sys.modules, "diagc.runtime._launcher", module)
    native._find.cache_clear()
    launchers._say_why.cache_clear()
    monkeypatch.setattr(native, "_find", native._find.__wrapped__)


@pytest.mark.parametrize(
    ("module", "reason"),
    [(None, "not built"), (SimpleNamespace(INTERFACE=0), "out of date")],
)
def test_reason_is_logged_and_listed_and_ctypes_serves(
    cuda: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    module: Any,
    reason: str,
) -> None:
    without(monkeypatch, module)
    with caplog.at_level(logging.INFO, logger="diagc.cuda"):
        assert isinstance(launcher_of_a_plan(), launchers.CtypesLauncher)
        call(copy_kernel(), [torch.zeros(())])
    (message,) = [record.getMessage() for record in caplog.records]
    assert reason in message
    assert "C++ compiler" in message
    assert command_line.main(["targets"]) == 0
    assert (
        f"launches through ctypes, for the native launcher is {reason}" in capsys.readouterr().out
    )


@needs_extension
def test_targets_name_the_native_launcher(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["targets"]) == 0
    assert "nvptx launches by the native launcher" in capsys.readouterr().out


@needs_extension
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"library": "libm.so.6"}, "has no cuCtxGetCurrent"),
        ({"library": "libnothing.so"}, "cannot open shared object"),
        ({"pointers": 2}, "more pointers than memory"),
        ({"offsets": [0, 9]}, "lies outside of the memory"),
    ],
)
def test_launches_that_cannot_be_are_refused(
    cuda: FakeCuda, changes: dict[str, Any], message: str
) -> None:
    arguments = {"library": cuda.path, "pointers": 1, "offsets": [0, 8], **changes}
    with pytest.raises((RuntimeError, ValueError), match=message):
        EXTENSION.Launches(
            *(arguments["library"], 0x100, bytes(12)),
            *(arguments["pointers"], arguments["offsets"], []),
        )


@needs_extension
@pytest.mark.parametrize(
    ("pointers", "error"),
    [
        ([], ValueError),
        ([1, 2], ValueError),
        ([-1], OverflowError),
        (["x"], TypeError),
        (3, TypeError),
    ],
)
def test_bad_pointers_are_refused(cuda: FakeCuda, pointers: Any, error: type[Exception]) -> None:
    launches = EXTENSION.Launches(cuda.path, 0x100, bytes(8), 1, [0], [])
    with pytest.raises(error):
        launches.launch(0, pointers, False)
    assert cuda.log() == []


@needs_extension
def test_extension_is_linked_with_no_driver_and_loads_no_torch() -> None:
    assert b"libcuda" not in Path(EXTENSION.__file__).read_bytes()
    code = (
        "import sys; from diagc.runtime.native import native_launcher; native_launcher(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_requirements_of_the_build_are_installed_by_the_script() -> None:
    """--no-build-isolation takes what the environment has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    script = (ROOT / "tools/environment.sh").read_text(encoding="utf-8")
    (line,) = [line for line in script.splitlines() if line.startswith("  pip_install scikit")]
    for requirement in project["build-system"]["requires"]:
        assert requirement.partition(">")[0] in line.split()
