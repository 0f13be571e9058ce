"""Compiled GPU kernels as data: JSON round trip, products of sizes, refusals."""

import json
from dataclasses import replace
from typing import Any

import pytest

from diagc.errors import CacheError, InternalError, LaunchError
from diagc.runtime.factors import element_count
from diagc.runtime.gpu_kernel import FORMAT_VERSION, GpuKernel, GpuLaunch, Workspace, grid_of
from diagc.runtime.signature import Axis, KernelSignature, Wire

SIGNATURE = KernelSignature(
    "kernel",
    (Wire("arg0", "bf16", ("b", "q", "d")), Wire("arg1", "f32", ("q",), unit_stride=False)),
    (Wire("result0", "f32", ("b", "q")),),
    (Axis("b"), Axis("q"), Axis("d", 64)),
)
LAUNCH = GpuLaunch("kernel", 128, 4096, ((("q", 64), 2), ("b",)), 2)
KERNEL = GpuKernel(
    SIGNATURE, (LAUNCH,), (Workspace("f32", ("b", ("q", 64), 8)),), "sm_80", ".ptx", b"\x7fELF"
)


@pytest.mark.parametrize("cubin", [None, b"", b"\x7fELF\x00"])
def test_json_gives_the_same_kernel(cubin: bytes | None) -> None:
    kernel = replace(KERNEL, cubin=cubin)
    read = GpuKernel.from_json(kernel.to_json())
    assert read == kernel
    assert hash(read) == hash(kernel)


def test_parameters_are_dynamic_sizes_and_strides_without_unit_ones() -> None:
    assert KERNEL.dynamic_axes == ("b", "q")
    assert KERNEL.stride_parameters == ((0, "b"), (0, "q"), (1, "q"), (2, "b"))


@pytest.mark.parametrize(
    ("sizes", "grid"),
    [
        ({"b": 3, "q": 64}, (2, 3, 1)),
        ({"b": 3, "q": 65}, (4, 3, 1)),
        ({"b": 0, "q": 1}, (2, 0, 1)),
    ],
)
def test_grid_counts_tiles(sizes: dict[str, int], grid: tuple[int, int, int]) -> None:
    assert grid_of(LAUNCH, sizes) == grid


@pytest.mark.parametrize(("count", "blocks"), [(None, 12), (2, 6), (4, 12), (132, 12)])
def test_blocks_that_stay_fit_the_device(count: int | None, blocks: int) -> None:
    """Four tiles of rows of three batches, three blocks at a time on each multiprocessor."""
    launch = GpuLaunch("f", 128, 0, (("b", ("q", 16)),), blocks_per_sm=3, stays=True)
    assert grid_of(launch, {"b": 3, "q": 50}, count) == (blocks, 1, 1)
    assert grid_of(replace(launch, stays=False), {"b": 3, "q": 50}, count) == (12, 1, 1)


def test_blocks_that_stay_are_along_x() -> None:
    with pytest.raises(InternalError, match="malformed"):
        GpuLaunch("f", 128, 0, ((), ("b",)), stays=True)


def test_workspace_counts_elements() -> None:
    assert element_count(KERNEL.workspaces[0].size, {"b": 3, "q": 130}) == 3 * 3 * 8
    assert element_count((), {}) == 1


def test_grid_that_no_gpu_takes_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"b=65536, expected at most 65535, found 65536"):
        grid_of(LAUNCH, {"b": 65536, "q": 1})


@pytest.mark.parametrize(
    "fields",
    [
        {"threads": 0},
        {"threads": 1025},
        {"shared_bytes": -1},
        {"grid": ()},
        {"grid": ((),) * 4},
        {"grid": ((-1,),)},
        {"grid": ((("q", 0),),)},
        {"grid": ((1.5,),)},
        {"blocks_per_sm": 0},
    ],
)
def test_malformed_launch_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InternalError):
        replace(LAUNCH, **fields)


def test_kernel_without_launch_or_with_foreign_axes_is_refused() -> None:
    with pytest.raises(InternalError, match="no launch"):
        replace(KERNEL, launches=())
    with pytest.raises(InternalError, match=r"\['z'\]"):
        replace(KERNEL, launches=(replace(LAUNCH, grid=(("z",),)),))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", FORMAT_VERSION + 1),
        ("launches", []),
        ("launches", [{"symbol": "kernel"}]),
        ("signature", "{}"),
        ("cubin", "no base64"),
        ("workspaces", [{"dtype": "f33", "size": []}]),
    ],
)
def test_damaged_text_is_refused(field: str, value: object) -> None:
    fields = {**json.loads(KERNEL.to_json()), field: value}
    with pytest.raises(CacheError, match="cannot be read"):
        GpuKernel.from_json(json.dumps(fields))
    with pytest.raises(CacheError, match="cannot be read"):
        GpuKernel.from_json("{")
