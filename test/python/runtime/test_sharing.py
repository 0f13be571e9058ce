"""In how many parts blocks share a stream: by sizes and the device alone, within bounds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from diagc.errors import CacheError, InternalError
from diagc.runtime.factors import element_count
from diagc.runtime.gpu_kernel import (
    GpuKernel,
    GpuLaunch,
    Workspace,
    planned_launches,
    planned_sizes,
)
from diagc.runtime.sharing import PARTS, Sharing
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.testing.seed import SEED

SHARING = Sharing("x", 64, 256, (("q", 16), "h"), blocks_per_sm=2)
H200 = 132

SIGNATURE = KernelSignature(
    "attention",
    args=(Wire("Q", "bf16", ("h", "q")), Wire("K", "bf16", ("h", "x"))),
    results=(Wire("O", "bf16", ("h", "q")),),
    axes=(Axis("h", None), Axis("q", None), Axis("x", None)),
)
GRID = ((("q", 16), PARTS, "h"),)
KERNEL = GpuKernel(
    SIGNATURE,
    (GpuLaunch("direct", 128, 0, ((("q", 128), "h"),)),),
    (Workspace("f32", (PARTS, ("q", 16), "h", 2048)),),
    "sm_80",
    "// ptx",
    sharing=SHARING,
    shared_launches=(
        GpuLaunch("parts", 32, 0, GRID),
        GpuLaunch("join", 32, 0, ((("q", 16), "h"),)),
    ),
)


@pytest.mark.parametrize(
    ("queries", "heads", "keys", "parts"),
    [
        (1, 8, 32768, 32),  # 512 chunks on 33 blocks of 2 x 132 places: 16 each
        (1, 8, 1024, 4),  # no shorter than 256
        (1, 8, 100, 1),
        (1, 8, 0, 1),
        (1, 66, 32768, 4),
        (1, 67, 32768, 1),  # more than half of the multiprocessors have a block
        (4096, 8, 32768, 1),
    ],
)
def test_parts_fill_the_device(queries: int, heads: int, keys: int, parts: int) -> None:
    assert SHARING.parts({"q": queries, "h": heads, "x": keys}, H200) == parts


def test_without_a_device_there_are_as_many_parts_as_the_axis_has() -> None:
    assert SHARING.parts({"q": 4096, "h": 67, "x": 2048}) == 8


def test_parts_cover_the_axis_and_never_exceed_the_places_of_the_device() -> None:
    rng = np.random.default_rng(SEED)
    for _ in range(500):
        most = {"q": 300, "h": 200, "x": 10**6}
        sizes = {label: int(rng.integers(1, size)) for label, size in most.items()}
        count = int(rng.integers(1, 200))
        parts = SHARING.parts(sizes, count)
        chunks = -(-sizes["x"] // SHARING.chunk)
        share = SHARING.chunks_of_part(chunks, parts)
        assert (parts - 1) * share < chunks <= parts * share
        if parts > 1:
            assert parts * element_count(SHARING.blocks, sizes) <= SHARING.blocks_per_sm * count
            assert share * SHARING.chunk >= SHARING.least


@pytest.mark.parametrize(
    "change",
    [
        {"chunk": 0},
        {"chunk": True},
        {"least": 100},
        {"least": 256.0},
        {"blocks_per_sm": 0},
        {"blocks_per_sm": 1.5},
        {"axis": 7},
        {"blocks": (("q", 0),)},
    ],
)
def test_malformed_sharing_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InternalError):
        Sharing(**{**vars(SHARING), **change})


def test_few_blocks_take_the_shared_form_and_its_scratch_memory() -> None:
    sizes = planned_sizes(KERNEL, {"q": 1, "h": 8, "x": 32768}, H200)
    assert sizes[PARTS] == 32
    assert planned_launches(KERNEL, sizes, mapped=True) == KERNEL.shared_launches
    assert element_count(KERNEL.workspaces[0].size, sizes) == 32 * 8 * 2048


@pytest.mark.parametrize("mapped", [False, True])
def test_many_blocks_take_another_form_and_no_memory(mapped: bool) -> None:
    bulk = replace(KERNEL, bulk_launches=(GpuLaunch("bulk", 384, 0, ((("q", 128), "h"),)),))
    sizes = planned_sizes(bulk, {"q": 2048, "h": 8, "x": 32768}, H200)
    assert sizes[PARTS] == 0
    expected = bulk.bulk_launches if mapped else bulk.launches
    assert planned_launches(bulk, sizes, mapped=mapped) == expected
    assert element_count(bulk.workspaces[0].size, sizes) == 0


def test_launches_that_always_share_have_a_part_at_least() -> None:
    always = replace(KERNEL, launches=KERNEL.shared_launches, shared_launches=())
    sizes = planned_sizes(always, {"q": 2048, "h": 8, "x": 32768}, H200)
    assert sizes[PARTS] == 1
    assert planned_launches(always, sizes, mapped=False) == KERNEL.shared_launches


def test_parts_are_added_where_there_are_so_many() -> None:
    parts, join = KERNEL.shared_launches
    adding = GpuLaunch("sum", 128, 0, ((16, ("q", 16), "h"),), least_parts=32)
    kernel = replace(KERNEL, shared_launches=(parts, adding, join))
    assert GpuKernel.from_json(kernel.to_json()) == kernel
    for keys, expected in ((32768, (parts, adding, join)), (4096, (parts, join))):
        sizes = planned_sizes(kernel, {"q": 1, "h": 8, "x": keys}, H200)
        assert planned_launches(kernel, sizes, mapped=False) == expected
    with pytest.raises(InternalError, match="malformed"):
        replace(adding, least_parts=-1)
    with pytest.raises(InternalError, match="no sharing"):
        replace(KERNEL, launches=(adding,), shared_launches=(), sharing=None, workspaces=())


def test_the_number_of_parts_is_the_last_size_and_survives_json() -> None:
    assert KERNEL.dynamic_axes == ("h", "q", "x", PARTS)
    assert replace(KERNEL, sharing=None, shared_launches=(), workspaces=()).dynamic_axes[-1] == "x"
    assert GpuKernel.from_json(KERNEL.to_json()) == KERNEL


def test_parts_without_a_rule_are_refused() -> None:
    with pytest.raises(InternalError, match="name"):
        replace(KERNEL, sharing=None)
    with pytest.raises(InternalError, match="name"):
        replace(KERNEL, sharing=replace(SHARING, axis="y"))
    with pytest.raises(CacheError):
        GpuKernel.from_json(KERNEL.to_json().replace('"least": 256', '"least": 255'))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("axis", value) for value in (7, None, "y", ["x"])),
        *(("chunk", value) for value in ("64", 64.0, True, -64, None)),
        *(("least", value) for value in ("256", 256.0, 0)),
        *(("blocks", value) for value in ("qh", {"q": 16}, [["q"]], [True], None)),
        *(("blocks_per_sm", value) for value in (1.5, "2", None)),
    ],
)
def test_damaged_sharing_is_refused_when_it_is_read(name: str, value: object) -> None:
    """Not when a launch is planned."""
    fields = json.loads(KERNEL.to_json())
    fields["sharing"][name] = value
    with pytest.raises(CacheError, match="cannot be read"):
        GpuKernel.from_json(json.dumps(fields))


@pytest.mark.parametrize("value", [None, [], "x", 7, {}, {"axis": "x"}])
def test_what_is_no_sharing_is_refused_too(value: object) -> None:
    fields = {**json.loads(KERNEL.to_json()), "sharing": value}
    with pytest.raises(CacheError, match="cannot be read"):
        GpuKernel.from_json(json.dumps(fields))


def test_launches_of_parts_need_a_rule() -> None:
    """Also where no grid names the parts."""
    plain = replace(KERNEL, workspaces=(), shared_launches=KERNEL.launches)
    with pytest.raises(InternalError, match="no sharing"):
        replace(plain, sharing=None)
