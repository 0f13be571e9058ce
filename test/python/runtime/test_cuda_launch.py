"""Launching GPU kernels against a fake driver: parameters, streams, contexts, errors, leaks."""

import gc
import struct
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diagc.errors import LaunchError, TargetError
from diagc.runtime.cuda import CudaKernel, device, torch_streams
from diagc.runtime.cuda import driver as cuda_driver
from diagc.runtime.cuda.device import Device, find_device
from diagc.runtime.cuda.driver import Driver
from diagc.runtime.cuda.module import fits_cubin, fits_ptx
from diagc.runtime.gpu_kernel import GpuKernel, GpuLaunch, Workspace
from diagc.runtime.launch_plan import ArrayInfo
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.runtime.torch_launch import call
from diagc.testing.fake_cuda import PTX, STREAM, FakeCuda, forget, launches

CUBIN = b"\x7fELF machine code"


@pytest.fixture(name="cuda")
def with_each_launcher(each_launcher: FakeCuda) -> FakeCuda:
    """Every test of a launch is one of both launchers."""
    return each_launcher


def kernel(symbol: str = "add", **changes: Any) -> GpuKernel:
    wires = [Wire(name, "f32", ("n", "c")) for name in ("x", "y", "sum")]
    signature = KernelSignature(symbol, tuple(wires[:2]), tuple(wires[2:]), (Axis("n"), Axis("c")))
    launch = GpuLaunch(symbol, 128, 1024, ((("c", 32),), ("n",)))
    return replace(GpuKernel(signature, (launch,), (), "sm_80", PTX, CUBIN), **changes)


def two_launches() -> GpuKernel:
    """Split over keys: one static axis, a strided last axis, scratch memory, two launches."""
    signature = KernelSignature(
        "split",
        (Wire("q", "bf16", ("b", "h", "d"), unit_stride=False), Wire("m", "i1", ("b",))),
        (Wire("o", "f32", ("b", "d")),),
        (Axis("b"), Axis("h"), Axis("d", 64)),
    )
    launches_ = (
        GpuLaunch("first", 256, 100_000, ((("h", 16),), ("b", 2), ())),
        GpuLaunch("second", 32, 0, (("b",),)),
    )
    scratch = (Workspace("f32", ("b", ("h", 16), 64)), Workspace("i32", (3,)))
    return GpuKernel(signature, launches_, scratch, "sm_80", PTX, None)


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    x, y = (torch.randn(5, 80, generator=generator) for _ in range(2))
    return x[:, :70], y[:, 3:73]


# ---- a launch ------------------------------------------------------------------------------------


def test_result_is_computed_where_the_parameters_say(cuda: FakeCuda) -> None:
    x, y = tensors()
    (total,) = call(CudaKernel(kernel()), [x, y])
    assert torch.equal(total, x + y)


def test_parameters_are_byte_exact(cuda: FakeCuda) -> None:
    data = two_launches()
    cuda.expect(data)
    q = torch.zeros(3, 40, 64, dtype=torch.bfloat16).transpose(0, 1)[:20]  # b=20, h=3
    mask, out = torch.ones(20, dtype=torch.bool), torch.zeros(20, 64)
    scratch: list[torch.Tensor] = []

    def allocate(count: int, dtype: torch.dtype, index: int) -> torch.Tensor:
        assert index == 0
        scratch.append(torch.empty(count, dtype=dtype))
        return scratch[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_streams, "allocate", allocate)
        call(CudaKernel(data), [q, mask], [out])
    assert [(t.numel(), t.dtype) for t in scratch] == [
        (20 * 1 * 64, torch.float32),
        (3, torch.int32),
    ]
    pointers = [t.data_ptr() for t in (q, mask, out, *scratch)]
    # sizes of b and h, then strides of q along b, h, d and of o along b; m and o end densely
    values = [struct.pack("<Q", pointer) for pointer in pointers]
    values += [struct.pack("<i", size) for size in (20, 3)]
    values += [struct.pack("<q", stride) for stride in (64, 40 * 64, 1, 64)]
    text = " ".join(value.hex() for value in values)
    assert launches(cuda.log()) == [
        f"launch first grid 1 40 1 block 256 1 1 shared 100000 stream {STREAM:#x} ctx 0x100 "
        f"extra 0 : {text}",
        f"launch second grid 20 1 1 block 32 1 1 shared 0 stream {STREAM:#x} ctx 0x100 "
        f"extra 0 : {text}",
    ]


def test_large_shared_memory_is_asked_for_once(cuda: FakeCuda) -> None:
    loaded = CudaKernel(two_launches())
    q, mask = torch.zeros(2, 16, 64, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bool)
    for _ in range(3):
        call(loaded, [q, mask])
    lines = cuda.log()
    assert [line for line in lines if line.startswith("attribute")] == ["attribute first 8=100000"]
    assert len(launches(lines)) == 6


def test_stream_is_asked_for_at_every_launch(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = CudaKernel(kernel())
    for stream in (0, 0x7F00DEADBEEF):
        monkeypatch.setattr(torch_streams, "current_stream", lambda _, found=stream: found)
        call(loaded, tensors())
        (line,) = launches(cuda.log())
        assert f"stream {stream:#x} " in line.replace("stream 0 ", "stream 0x0 ")


def test_code_is_loaded_once_per_gpu(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = CudaKernel(kernel())
    assert cuda.log() == []  # nothing asks for a driver before the first launch
    contexts = []
    for index in (0, 1, 0, 1):
        monkeypatch.setattr(torch_streams, "device_index", lambda _d, _k, found=index: found)
        loaded.plans.clear()
        call(loaded, tensors())
        lines = cuda.log()
        contexts.append([line for line in lines if line.startswith("load")])
        assert f"ctx {0x100 + index:#x} " in launches(lines)[0]
    assert [len(lines) for lines in contexts] == [1, 1, 0, 0]


def test_context_of_another_gpu_is_restored(cuda: FakeCuda) -> None:
    loaded = CudaKernel(kernel())
    cuda.push(0xABC)
    call(loaded, tensors())
    lines = cuda.log()
    assert lines.count("push 0x100") == lines.count("pop 0x100") == 2  # to load, to launch
    assert cuda.depth == 1
    FakeCuda(Path(cuda.path))  # forgets that context


def test_context_that_is_current_already_is_left_alone(cuda: FakeCuda) -> None:
    loaded = CudaKernel(kernel())
    cuda.push(0x100)
    call(loaded, tensors())
    assert not [line for line in cuda.log() if "push" in line or "pop" in line]
    FakeCuda(Path(cuda.path))


def test_empty_results_and_empty_grids_launch_nothing(cuda: FakeCuda) -> None:
    x = torch.zeros(0, 70)
    (total,) = call(CudaKernel(kernel()), [x, x])
    assert total.shape == (0, 70)
    nothing = kernel(launches=(GpuLaunch("add", 32, 0, ((0,),)),))
    call(CudaKernel(nothing), tensors())
    assert launches(cuda.log()) == []


def test_threads_launch_at_the_same_time(cuda: FakeCuda) -> None:
    loaded = CudaKernel(kernel())
    wrong: list[int] = []

    def work(seed: int) -> None:
        x, y = torch.full((5, 70), float(seed)), torch.arange(350.0).reshape(5, 70)
        for _ in range(200):
            (total,) = call(loaded, [x, y])
            if not torch.equal(total, x + y):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- graphs --------------------------------------------------------------------------------------


def test_code_loads_in_relaxed_mode_and_stays_when_it_was_captured(cuda: FakeCuda) -> None:
    loaded = CudaKernel(kernel())
    cuda.capture(True)
    call(loaded, tensors())
    assert [line for line in cuda.log() if line.startswith("load")] == [
        "load cubin ctx 0x100 mode 2"
    ]
    before = cuda.loaded
    (module,) = loaded._modules.values()
    assert module.pinned
    del loaded, module
    gc.collect()
    assert cuda.loaded == before
    from diagc.runtime.cuda import module as modules

    modules._PINNED.clear()


def test_code_is_unloaded_with_its_kernel(cuda: FakeCuda) -> None:
    before = cuda.loaded
    loaded = CudaKernel(kernel())
    call(loaded, tensors())
    assert cuda.loaded == before + 1
    del loaded
    gc.collect()
    assert cuda.loaded == before
    assert cuda.log()[-3:] == ["push 0x100", "unload ctx 0x100 mode 2", "pop 0x100"]


# ---- which code ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "capability", "cubin", "ptx"),
    [
        ("sm_80", (8, 0), True, True),
        ("sm_80", (8, 6), True, True),
        ("sm_86", (8, 0), False, False),
        ("sm_80", (9, 0), False, True),
        ("sm_90", (8, 9), False, False),
        ("sm_90a", (9, 0), True, True),
        ("sm_90a", (10, 0), False, False),
        ("sm_90", (12, 0), False, True),
        ("sm_100f", (10, 3), True, True),
        ("sm_120", (12, 0), True, True),
    ],
)
def test_which_gpus_take_which_code(
    arch: str, capability: tuple[int, int], cubin: bool, ptx: bool
) -> None:
    assert (fits_cubin(arch, capability), fits_ptx(arch, capability)) == (cubin, ptx)


@pytest.mark.parametrize(
    ("capability", "cubin", "expected"),
    [((8, 6), CUBIN, ["cubin"]), ((9, 0), CUBIN, ["ptx"]), ((8, 0), None, ["ptx"])],
)
def test_cubin_where_it_fits_else_ptx(
    cuda: FakeCuda, capability: tuple[int, int], cubin: bytes | None, expected: list[str]
) -> None:
    cuda.machine(capability=capability)
    call(CudaKernel(kernel(cubin=cubin)), tensors())
    loads = [line.split()[1] for line in cuda.log() if line.startswith("load")]
    assert loads == expected


@pytest.mark.parametrize("code", [209, 200], ids=["another GPU", "a newer ptxas"])
def test_ptx_is_tried_where_the_driver_does_not_take_the_cubin(cuda: FakeCuda, code: int) -> None:
    cuda.fail("cuModuleLoadDataEx", code)
    x, y = tensors()
    (total,) = call(CudaKernel(kernel()), [x, y])
    assert torch.equal(total, x + y)
    loads = [line.split()[1] for line in cuda.log() if line.startswith("load")]
    assert loads == ["cubin", "ptx"]


# ---- errors --------------------------------------------------------------------------------------


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda_that_is_not_there.so.1")
    monkeypatch.setattr(torch_streams, "device_index", lambda _d, _k: 0)
    forget()
    with pytest.raises(TargetError, match=r"no NVIDIA driver.*install the driver"):
        call(CudaKernel(kernel()), tensors())


def test_library_without_the_functions(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"has no cuInit.*update the driver"):
        Driver("libm.so.6")


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"version": 11080}, r"too old, expected one for CUDA 12\.0 or later, found CUDA 11\.8"),
        ({"devices": 0}, r"starting the NVIDIA driver failed.*CUDA_VISIBLE_DEVICES"),
        ({"capability": (7, 5)}, r"compiled for another GPU, expected sm_80, found Fake GPU 0, "
         r"sm_75; compile it with --target=nvptx:sm_75"),
    ],
)  # fmt: skip
def test_machines_that_cannot_run_it(cuda: FakeCuda, machine: dict[str, Any], message: str) -> None:
    cuda.machine(**machine)
    forget()
    with pytest.raises(TargetError, match=message):
        call(CudaKernel(kernel()), tensors())


def test_gpu_with_too_little_shared_memory(cuda: FakeCuda) -> None:
    cuda.machine(shared=99 * 1024)
    large = kernel(launches=(GpuLaunch("add", 32, 160_000, ((),)),))
    with pytest.raises(TargetError, match=r"more shared memory.*101376 bytes.*160000"):
        call(CudaKernel(large), tensors())


def test_gpu_that_is_not_there(cuda: FakeCuda) -> None:
    with pytest.raises(TargetError, match="opening GPU 7 failed"):
        find_device(7)


@pytest.mark.parametrize(
    ("function", "code", "error", "message"),
    [
        ("cuInit", 803, TargetError, "kernel module differ"),
        ("cuDeviceGetAttribute", 1, LaunchError, "opening GPU 0"),
        ("cuDevicePrimaryCtxRetain", 2, LaunchError, "opening GPU 0 failed.*free memory"),
        ("cuCtxPushCurrent_v2", 201, LaunchError, "using GPU 0"),
        ("cuModuleLoadDataEx", 2, LaunchError, "loading kernel 'add' failed.*free memory"),
        ("cuModuleLoadDataEx", 222, TargetError, "update the NVIDIA driver"),
        ("cuModuleGetFunction", 500, TargetError, "finding function 'add'.*lacks a function"),
        ("cuFuncSetAttribute", 1, LaunchError, "giving 65536 bytes of shared memory to 'add'"),
        ("cuStreamIsCapturing", 906, LaunchError, "before the graph is captured"),
        ("cuLaunchKernel", 701, LaunchError, "launching a kernel.*more registers or shared"),
        ("cuLaunchKernel", 700, LaunchError, "earlier kernel has failed.*CUDA_LAUNCH_BLOCKING"),
        ("cuLaunchKernel", 719, LaunchError, "CUDA_LAUNCH_BLOCKING"),
        ("cuLaunchKernel", 12345, LaunchError, r"text of 12345.*CUDA_ERROR_12345 \(12345\)"),
    ],
)
def test_failures_are_named_and_leave_nothing_behind(
    cuda: FakeCuda, function: str, code: int, error: type[Exception], message: str
) -> None:
    data = kernel(launches=(GpuLaunch("add", 128, 65536, ((),)),))
    loaded = CudaKernel(data)
    before = cuda.loaded
    cuda.fail(function, code)
    with pytest.raises(error, match=message):
        call(loaded, tensors())
    assert cuda.depth == 0
    assert cuda.loaded == before + (function in ("cuLaunchKernel", "cuStreamIsCapturing"))
    x, y = tensors()  # the fault is gone: the same kernel works
    (total,) = call(loaded, [x, y])
    assert torch.equal(total, x + y)


def test_failure_in_the_second_launch_gives_the_context_back(cuda: FakeCuda) -> None:
    cuda.fail("cuLaunchKernel", 719, after=1)
    q, mask = torch.zeros(2, 16, 64, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bool)
    with pytest.raises(LaunchError, match="launching a kernel"):
        call(CudaKernel(two_launches()), [q, mask])
    assert cuda.depth == 0


def test_missing_function_unloads_the_module(cuda: FakeCuda) -> None:
    both = (GpuLaunch("add", 32, 0, ((),)), GpuLaunch("missing_one", 32, 0, ((),)))
    before = cuda.loaded
    with pytest.raises(TargetError, match="'missing_one'"):
        call(CudaKernel(kernel(launches=both)), tensors())
    assert cuda.loaded == before


def test_damaged_code_is_named(cuda: FakeCuda) -> None:
    cuda.fail("cuModuleLoadDataEx", 200)
    with pytest.raises(TargetError, match=r"loading kernel 'add'.*damaged, or made by a ptxas"):
        call(CudaKernel(kernel(cubin=None)), tensors())


def test_log_of_the_drivers_compiler_is_shown(cuda: FakeCuda) -> None:
    with pytest.raises(TargetError) as caught:
        call(CudaKernel(kernel(ptx=PTX + "bad line", cubin=None)), tensors())
    assert "note: ptxas: line 3: error" in caught.value.render()


@pytest.mark.parametrize("where", ["cpu", "meta", "mps:0"])
def test_arguments_elsewhere_are_refused(where: str) -> None:
    infos = [ArrayInfo((5, 70), (70, 1), "f32", where)] * 2
    with pytest.raises(LaunchError, match=rf"NVIDIA GPUs only.*cuda.*{where}"):
        CudaKernel(kernel()).make_plan(infos)


def test_arguments_on_two_gpus_are_refused(cuda: FakeCuda) -> None:
    infos = [ArrayInfo((5, 70), (70, 1), "f32", f"cuda:{i}") for i in range(2)]
    with pytest.raises(LaunchError, match=r"'y'.*wrong device, expected cuda:0, found cuda:1"):
        CudaKernel(kernel()).make_plan(infos)


def test_axis_and_grid_limits(cuda: FakeCuda) -> None:
    def plan(rows: int, columns: int) -> None:
        info = ArrayInfo((rows, columns), (0, 1), "f32")
        CudaKernel(kernel()).make_plan([info, info], [ArrayInfo((rows, columns), (4, 1), "f32")])

    largest = 2**31 - 1 - 2**20  # the end of a last tile fits an i32, too
    plan(1, largest)
    for size in (largest + 1, 2**31):
        with pytest.raises(LaunchError, match=rf"axis 'c' is too long.*{largest}.*{size}"):
            plan(1, size)
    with pytest.raises(LaunchError, match=r"too many blocks for n=65536"):
        plan(65536, 1)


def test_numbers_of_gpus_are_those_of_torch() -> None:
    assert torch_streams.device_index("cuda:3", "add") == 3


def test_device_frees_its_context(cuda: FakeCuda) -> None:
    found = Device(cuda_driver.default_driver(), 1)
    assert (found.arch, found.name, cuda.retained) == ("sm_80", "Fake GPU 1", 1)
    del found
    gc.collect()
    assert cuda.retained == 0
    assert device.find_device.cache_info().currsize == 0
