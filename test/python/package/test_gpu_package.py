"""Programs with GPU kernels, in packages and not, on a fake driver with tensors that pose."""

import lzma
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import diagc
from diagc.errors import LaunchError, PackageError, TargetError
from diagc.report.data import KernelReport, Report
from diagc.runtime import load
from diagc.runtime.cuda import CudaKernel, torch_streams
from diagc.runtime.cuda import driver as cuda_driver
from diagc.runtime.gpu_kernel import GpuKernel, GpuLaunch
from diagc.runtime.package import kernels
from diagc.runtime.package.manifest import read_package
from diagc.runtime.package.writer import of_program, save
from diagc.runtime.program import Program
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.runtime.steps import (
    Affine,
    ArrayType,
    Elementwise,
    Input,
    KernelCall,
    Output,
    View,
)
from diagc.testing.fake_cuda import PTX, FakeCuda, forget, launches

DEVICE_INDEX = torch_streams.device_index  # before a test replaces it
CUBIN = b"\x7fELF machine code"


def add_kernel(**changes: Any) -> GpuKernel:
    wires = [Wire(name, "f32", ("n", "c")) for name in ("x", "y", "sum")]
    axes = (Axis("n"), Axis("c"))
    signature = KernelSignature("add", tuple(wires[:2]), tuple(wires[2:]), axes)
    launch = GpuLaunch("add", 128, 65536, ((("c", 32),), ("n",)), blocks_per_sm=2)
    return replace(GpuKernel(signature, (launch,), (), "sm_80", PTX, CUBIN), **changes)


def program(kernel: GpuKernel, device: str = "cpu") -> Program:
    """exp(x + transposed y); "cpu" poses as the GPU's device."""
    type_ = ArrayType(("n", "c"), "f32")
    inputs = [
        Input("x", "user", type_, (None, None), (("n",), ("c",))),
        Input("y", "user", ArrayType(("c", "n"), "f32"), (None, None), (("c",), ("n",))),
    ]
    sizes = (("axis", 0, 0), ("axis", 0, 1))
    turned: tuple[Affine, ...] = (("dim", 1), ("dim", 0))
    steps: Sequence[Any] = [
        View((type_,), (sizes,), 1, turned),
        KernelCall((type_,), (sizes,), 0, (0, 2)),
        Elementwise((type_,), (sizes,), (("math.exp", (("array", 3),)),)),
    ]
    outputs = [Output(4, (("n",), ("c",)), (0, 1))]
    made = Program(inputs, steps, outputs, [CudaKernel(kernel)], device=device)
    made.report = Report("add", "nvptx:sm_80", [])
    made.report.kernels.append(
        KernelReport("add", "nvptx", 1, (), {}, (), {"tile": 32}, "none", 0.0)
    )
    return made


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(5, 70, generator=generator), torch.randn(70, 5, generator=generator)


def package(path: Path, kernel: GpuKernel, device: str = "cpu") -> Path:
    save(path, of_program(program(kernel, device)), target="nvptx:sm_80", version="0")
    return path


def test_program_runs_on_the_gpu(cuda: FakeCuda) -> None:
    x, y = inputs()
    made = program(add_kernel())
    for _ in range(3):
        (found,) = made([x, y])
        assert torch.equal(found, torch.exp(x + y.T))
    assert len(launches(cuda.log())) == 3


def test_package_keeps_all_of_a_kernel(tmp_path: Path) -> None:
    kernel = add_kernel()
    path = package(tmp_path / "a.diagpkg", kernel)
    manifest, members = read_package(path)
    codes = {name: lzma.decompress(data) for name, data in members.items()}
    assert codes == {"kernels/0.ptx.xz": PTX.encode(), "kernels/0.cubin.xz": CUBIN}
    (entry,) = manifest.kernels
    assert entry["launches"][0]["blocks_per_sm"] == 2
    assert manifest.report["kernels"][0]["schedule"] == {"tile": 32}
    assert (manifest.target, entry["arch"]) == ("nvptx:sm_80", "sm_80")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda code: code[:-8], "cut short"),
        (lambda code: code + code, "cut short"),
        (lambda _code: b"no xz at all", "cannot be decompressed"),
        (lambda _code: lzma.compress(bytes(1 << 16)), "more than 65535 bytes"),
        (lambda code: lzma.compress(code, preset=9), "cannot be decompressed: Memory"),
    ],
)
def test_code_that_cannot_be_decompressed_is_refused(
    damage: Callable[[bytes], bytes], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little memory, whatever the code says of itself."""
    monkeypatch.setattr(kernels, "_CODE_BYTES", 65535)
    monkeypatch.setattr(kernels, "_DECODER_BYTES", 1 << 24)
    entry, members = kernels.kernel_entry(CudaKernel(add_kernel()), 0)
    members["kernels/0.ptx.xz"] = damage(members["kernels/0.ptx.xz"])
    with pytest.raises(PackageError, match=message):
        kernels.load_kernel(entry, members)


@pytest.mark.parametrize("cubin", [CUBIN, None])
def test_package_runs(cuda: FakeCuda, tmp_path: Path, cubin: bytes | None) -> None:
    loaded = load(package(tmp_path / "a.diagpkg", add_kernel(cubin=cubin)))
    kernel = loaded.program.kernels[0]
    assert isinstance(kernel, CudaKernel)
    assert kernel.kernel == add_kernel(cubin=cubin)
    x, y = inputs()
    assert torch.equal(loaded(x, y)[0], torch.exp(x + y.T))


def test_compiled_kernels_survive_a_package(cuda: FakeCuda, tmp_path: Path) -> None:
    """The fake cannot run them, but it loads them and takes their launches."""

    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x * 2.0, dim=-1) @ y

    inputs = torch.zeros(64, 100), torch.zeros(100, 32)
    compiled = diagc.compile(function, *inputs, target="nvptx:sm_80")
    compiled.save(tmp_path / "f.diagpkg")
    manifest, _ = read_package(tmp_path / "f.diagpkg")
    assert (manifest.device, manifest.target) == ("cuda", "nvptx:sm_80")
    loaded = load(tmp_path / "f.diagpkg")
    kernels = [k for k in loaded.program.kernels if isinstance(k, CudaKernel)]
    originals = [k for k in compiled.program.kernels if isinstance(k, CudaKernel)]
    assert kernels
    assert [k.kernel for k in kernels] == [k.kernel for k in originals]
    loaded.program.device = "cpu"  # tensors of the CPU pose
    loaded(*inputs)
    count = sum(len(k.kernel.launches) for k in kernels)
    assert len(launches(cuda.log())) == count


def decode(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v


@pytest.mark.parametrize("rows", [1, 128])
def test_parameters_of_the_code_are_those_of_the_launcher(rows: int) -> None:
    """What PTX declares against what is packed, also for launches with scratch memory."""
    q, k = torch.zeros(8, rows, 64).bfloat16(), torch.zeros(8, 4096, 64).bfloat16()
    compiled = diagc.compile(decode, q, k, k, target="nvptx:sm_80")
    kernels = [k.kernel for k in compiled.program.kernels if isinstance(k, CudaKernel)]
    assert kernels
    for kernel in kernels:
        wires = kernel.signature.wires
        widths = [64] * (len(wires) + len(kernel.workspaces)) + [32] * len(kernel.dynamic_axes)
        widths += [64] * len(kernel.stride_parameters)
        for launch in kernel.all_launches:
            entry = re.search(rf"\.entry {launch.symbol}\((.*?)\)\s", kernel.ptx, re.DOTALL)
            assert entry is not None
            found = re.findall(r"\.param \.[usbf](\d+)", entry[1])
            assert [int(width) for width in found] == widths


def test_package_for_a_newer_gpu_is_refused(cuda: FakeCuda, tmp_path: Path) -> None:
    path = package(tmp_path / "a.diagpkg", add_kernel(arch="sm_90"))
    with pytest.raises(
        PackageError,
        match=r"another GPU, expected an NVIDIA GPU, sm_90.*found Fake GPU 0, sm_80; compile it "
        r"with --target=nvptx:sm_80",
    ):
        load(path)


def test_package_without_a_driver_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda_that_is_not_there.so.1")
    monkeypatch.setattr(torch_streams, "device_index", lambda _d, _k: 0)
    forget()
    with pytest.raises(TargetError, match="no NVIDIA driver"):
        load(package(tmp_path / "a.diagpkg", add_kernel()))


def test_torch_without_cuda_is_said(cuda: FakeCuda, tmp_path: Path) -> None:
    if torch.backends.cuda.is_built():
        pytest.skip("this torch has CUDA")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_streams, "device_index", DEVICE_INDEX)
        with pytest.raises(TargetError, match="this build of torch has no CUDA"):
            load(package(tmp_path / "a.diagpkg", add_kernel()))


def test_tensors_of_the_cpu_and_arrays_are_refused() -> None:
    made = program(add_kernel(), "cuda")
    x, y = inputs()
    with pytest.raises(LaunchError, match=r"'x' is on the wrong device, expected cuda, found cpu"):
        made([x, y])
    with pytest.raises(LaunchError, match="'x' is no tensor"):
        made([x.numpy(), y.numpy()])  # type: ignore[list-item]
    with pytest.raises(LaunchError, match=r"does not run on numpy arrays.*cuda"):
        made.run([x.numpy(), y.numpy()])
