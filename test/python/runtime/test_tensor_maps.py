"""Launches that copy by tensor maps, against a fake driver: which arrays, what the driver gets."""

from dataclasses import replace

import pytest
import torch

from diagc.errors import CacheError, InternalError, LaunchError
from diagc.runtime.cuda import CudaKernel
from diagc.runtime.gpu_kernel import (
    GpuKernel,
    GpuLaunch,
    TensorMap,
    Workspace,
    takes_tensor_maps,
)
from diagc.runtime.sharing import PARTS, Sharing
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.runtime.torch_launch import call
from diagc.testing.fake_cuda import PTX, FakeCuda, launches

Q, K = ("b", "n", "d"), ("b", "x", "d")


@pytest.fixture(name="cuda")
def with_each_launcher(each_launcher: FakeCuda) -> FakeCuda:
    """Every test of a launch is one of both launchers."""
    return each_launcher


def kernel() -> GpuKernel:
    signature = KernelSignature(
        "scores",
        (Wire("q", "bf16", Q), Wire("k", "bf16", K)),
        (Wire("o", "f32", ("b", "n")),),
        (Axis("b"), Axis("n"), Axis("d", 64), Axis("x")),
    )
    plain = GpuLaunch("plain", 128, 1024, ((("n", 64), "b"),))
    bulk = GpuLaunch("bulk", 384, 100_000, ((("n", 128), "b"),))
    maps = (TensorMap(1, (1, 64, 64), 128), TensorMap(0, (1, 128, 64), 128))
    return GpuKernel(signature, (plain,), (), "sm_80", PTX, None, maps, (bulk,))


def arrays(gap: int = 0, offset: int = 0) -> list[torch.Tensor]:
    """(2, 300, 64) and (2, 500, 64), with elements after each line and before the first."""
    found = []
    for rows in (300, 500):
        memory = torch.zeros(2 * rows * (64 + gap) + offset, dtype=torch.bfloat16)
        found.append(memory[offset:].view(2, rows, 64 + gap)[..., :64])
    return found


def test_arrays_are_described_and_maps_are_parameters(cuda: FakeCuda) -> None:
    made = kernel()
    cuda.expect(made, bulk=True)
    q, k = arrays(gap=8)
    call(CudaKernel(made), [q, k])
    lines = cuda.log()
    maps = [line for line in lines if line.startswith("map ")]
    assert maps == [
        f"map type 9 swizzle 3 at {k.data_ptr():#x} : 64/0/64 500/144/64 2/72000/1",
        f"map type 9 swizzle 3 at {q.data_ptr():#x} : 64/0/64 300/144/128 2/43200/1",
    ]
    (launch,) = launches(lines)
    assert launch.startswith("launch bulk grid 6 1 1 block 384 1 1 shared 100000")
    first, second = launch.split(" ")[-2:]
    for text, array in ((first, k), (second, q)):
        assert bytes.fromhex(text) == array.data_ptr().to_bytes(8, "little") + b"\xa5" * 120


def test_maps_are_made_once_for_the_same_arrays(cuda: FakeCuda) -> None:
    loaded = CudaKernel(kernel())
    q, k = arrays()
    for _ in range(3):
        call(loaded, [q, k])
    other = q.clone()
    call(loaded, [other, k])
    lines = cuda.log()
    assert sum(line.startswith("map ") for line in lines) == 4
    assert len(launches(lines)) == 4


@pytest.mark.parametrize("change", [{"gap": 4}, {"offset": 4}, {"gap": 4, "offset": 8}], ids=str)
def test_other_arrays_get_the_other_launch(cuda: FakeCuda, change: dict[str, int]) -> None:
    made = kernel()
    cuda.expect(made)
    call(CudaKernel(made), arrays(**change))
    lines = cuda.log()
    assert not any(line.startswith("map ") for line in lines)
    (launch,) = launches(lines)
    assert launch.startswith("launch plain grid 10 1 1 block 128")


def test_no_keys(cuda: FakeCuda) -> None:
    q, _ = arrays()
    call(CudaKernel(kernel()), [q, torch.zeros(2, 0, 64, dtype=torch.bfloat16)])
    assert launches(cuda.log())[0].startswith("launch plain")


def test_a_driver_that_refuses_is_named(cuda: FakeCuda) -> None:
    cuda.fail("cuTensorMapEncodeTiled", 1)
    with pytest.raises(LaunchError, match="describing 'k' of kernel 'scores'"):
        call(CudaKernel(kernel()), arrays())


def test_strides_that_maps_take() -> None:
    made = kernel()
    sizes = {"b": 2, "n": 300, "x": 500, "d": 64}
    good = [(19200, 64, 1), (32000, 64, 1), (300, 1)]
    assert takes_tensor_maps(made, sizes, good)
    assert takes_tensor_maps(made, sizes, [(64, 128, 1), *good[1:]])
    for bad in ((19200, 64, 2), (19200, 68, 1), (0, 64, 1), (1 << 40, 64, 1)):
        assert not takes_tensor_maps(made, sizes, [bad, *good[1:]])
    assert not takes_tensor_maps(made, {**sizes, "b": 0}, good)
    assert not takes_tensor_maps(replace(made, bulk_launches=(), tensor_maps=()), sizes, good)


def test_blocks_that_stay_are_as_many_as_there_is_room_for(cuda: FakeCuda) -> None:
    """The device has four multiprocessors, and there are six tiles; one batch has three."""
    made = kernel()
    launch = replace(made.bulk_launches[0], stays=True)
    cuda.expect(made, bulk=True)
    q, k = arrays()
    loaded = CudaKernel(replace(made, bulk_launches=(launch,)))
    call(loaded, [q, k])
    call(loaded, [q[:1], k[:1]])
    grids = [line.partition("grid ")[2][:5] for line in launches(cuda.log())]
    assert grids == ["4 1 1", "3 1 1"]


def stored() -> GpuKernel:
    """As `kernel`, with a map of the result besides."""
    made = kernel()
    return replace(made, tensor_maps=(*made.tensor_maps, TensorMap(2, (1, 32), 128)))


def test_results_are_described_too(cuda: FakeCuda) -> None:
    cuda.expect(stored(), bulk=True)
    q = torch.zeros(2, 304, 64, dtype=torch.bfloat16)
    (result,) = call(CudaKernel(stored()), [q, arrays()[1]])
    lines = cuda.log()
    found = f"map type 7 swizzle 3 at {result.data_ptr():#x} : 304/0/32 2/1216/1"
    assert found in lines
    assert launches(lines)[0].startswith("launch bulk")


def test_results_whose_lines_begin_anywhere_get_the_other_launch(cuda: FakeCuda) -> None:
    """300 f32 a line are a multiple of 16 bytes, 301 are not."""
    cuda.expect(stored())
    q = torch.zeros(2, 301, 64, dtype=torch.bfloat16)
    call(CudaKernel(stored()), [q, arrays()[1]])
    assert launches(cuda.log())[0].startswith("launch plain")


@pytest.mark.parametrize("box", [(1, 64, 128), (1, 64, 65)])
def test_the_fake_driver_refuses_lines_as_the_driver_does(
    cuda: FakeCuda, box: tuple[int, ...]
) -> None:
    """Longer than the swizzle, or no multiple of 16 bytes."""
    made = kernel()
    cuda.expect(made, bulk=True)
    object.__setattr__(made, "tensor_maps", (TensorMap(1, box, 128), made.tensor_maps[1]))
    with pytest.raises(LaunchError, match="describing 'k'"):
        call(CudaKernel(made), arrays())


def test_json_keeps_maps_and_launches() -> None:
    made = kernel()
    assert GpuKernel.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("wire", "box", "swizzle"),
    [
        (0, (1, 64), 128),
        (2, (1, 64, 64), 128),
        (3, (1, 64), 128),
        (0, (1, 257, 64), 128),
        (0, (1, 64, 64), 100),
        (0, (1, 64, 65), 0),
        (0, (1, 64, 128), 128),
        (2, (1, 16), 32),
    ],
)
def test_malformed_maps_are_refused(wire: int, box: tuple[int, ...], swizzle: int) -> None:
    with pytest.raises(InternalError):
        replace(kernel(), tensor_maps=(TensorMap(wire, box, swizzle),))
    text = kernel().to_json().replace('"swizzle": 128', '"swizzle": 100')
    with pytest.raises(CacheError, match="tensor map is malformed"):
        GpuKernel.from_json(text)


def shared() -> GpuKernel:
    """As `kernel`, with launches that share a stream where there are few blocks."""
    parts = GpuLaunch("parts", 32, 0, ((("n", 16), PARTS, "b"),))
    return replace(
        kernel(),
        workspaces=(Workspace("f32", (PARTS, ("n", 16), "b", 128)),),
        sharing=Sharing("x", 64, 64, (("n", 16), "b"), blocks_per_sm=4),
        shared_launches=(parts, GpuLaunch("join", 32, 0, ((("n", 16), "b"),))),
    )


def test_few_blocks_share_a_stream_and_get_scratch_memory(cuda: FakeCuda) -> None:
    """Four multiprocessors: 16 places for 2 blocks and 8 chunks of keys."""
    made = shared()
    cuda.expect(made)
    q, k = arrays()
    call(CudaKernel(made), [q[:, :10], k])
    lines = cuda.log()
    assert not [line for line in lines if line.startswith("map ")]
    grids = [line.split(" block")[0] for line in launches(lines)]
    assert grids == ["launch parts grid 16 1 1", "launch join grid 2 1 1"]


def test_many_blocks_run_by_tensor_maps_and_get_none(cuda: FakeCuda) -> None:
    made = shared()
    cuda.expect(made, bulk=True)
    call(CudaKernel(made), arrays())
    (launch,) = launches(cuda.log())
    assert launch.startswith("launch bulk")
