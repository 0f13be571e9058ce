"""Which tiles for GPUs the model chooses: those of experts, other ones for other sizes."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from diagc.compiler import run_pipeline
from diagc.cost import Device, find_device
from diagc.dialects import diag
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.passes.kernels.generalize_kernels import kernel_text
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.selection import TILES, choose_tiles, compared_tiles, tile_schedules
from diagc.targets.nvptx.tiles.arena import lay_out
from diagc.targets.nvptx.tiles.decoration import tile_decoration
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.tiles.ranking import RankedTile, rank_tiles
from diagc.targets.nvptx.tiles.schedule import TileSchedule, candidates
from diagc.targets.nvptx.tuning import TileChoices
from diagc.testing.attention import Attention
from diagc.testing.tile_kernels import kernels_of

DECODE = Attention(d=128, heads="b", group=8, queries="").text
MANY = {"g0": 64, "l": 4096, "s": 4096}
GPUS = {"a100-80": "sm_80", "l4": "sm_89", "h200": "sm_90a"}


def attention(width: int = 64, mask: str = "") -> str:
    return Attention(mask, d=width).text


def chosen(text: str, device: str, sizes: Mapping[str, int]) -> TileSchedule:
    with use(CompileOptions(library="none", target=f"nvptx:{GPUS[device]}")):
        _module, (kernel,) = kernels_of(text)
        with kernel.context, ir.Location.unknown():
            return choose_tiles(kernel, sizes, find_device(device))[0][0]


def ranked(text: str, device: Device, sizes: Mapping[str, int]) -> list[RankedTile]:
    _module, (kernel,) = kernels_of(text)
    plan = make_plan(kernel, kernel_signature(kernel))
    return rank_tiles(plan, candidates(plan, parse_arch(device.architecture)), device, sizes)


# ---- known cases --------------------------------------------------------------------------------

# FlashAttention-2 on the A100 (its flash_fwd_launch_template.h): 128 rows, 4 warps for heads of 64
# and 128, 8 warps for 256; 128 positions a chunk for 64, 64 for the others. Our chunks are half as
# long: by the estimate of registers, and by ptxas, the next longer ones spill.
EXPERTS = {64: (128, 4, 64), 128: (128, 4, 32), 256: (128, 8, 32)}


@pytest.mark.parametrize("width", EXPERTS)
@pytest.mark.parametrize("sizes", [MANY, {}], ids=["known", "open"])
def test_tiles_on_ampere_are_those_of_experts(width: int, sizes: Mapping[str, int]) -> None:
    found = chosen(attention(width), "a100-80", sizes)
    assert (found.rows, found.warps, found.chunk) == EXPERTS[width]


@pytest.mark.parametrize("width", [64, 128])
def test_hopper_takes_warpgroups(width: int) -> None:
    """As FlashAttention-3, whose chunks are 128 to 176 positions, with two stages."""
    found = chosen(attention(width), "h200", MANY)
    assert found.producers
    assert (found.rows, found.chunk >= 112, found.stages) == (128, True, 2)


def test_a_stream_is_shared_until_the_device_is_full() -> None:
    """Flash decoding: 8 sequences on 132 multiprocessors; parts for about as many blocks."""
    found = chosen(DECODE, "h200", {"g0": 8, "s": 8192})
    assert 132 / 4 < 8 * 8192 / found.split <= 4 * 132
    assert chosen(DECODE, "h200", {"g0": 1024, "s": 8192}).split == 0


def test_few_rows_and_many_keys_share_their_stream_too() -> None:
    """Where rows are open, as in the prefill of a few heads: only by the sizes."""
    few = {"g0": 4, "l": 128, "s": 32768}
    for device in ("l4", "h200"):
        assert chosen(attention(128), device, few).split
        assert not chosen(attention(128), device, {**few, "g0": 1024}).split


def test_choices_differ_by_device() -> None:
    """An L4 has less shared memory, and fewer multiprocessors to fill."""
    few = {"g0": 4, "l": 128, "s": 32768}
    assert chosen(attention(128), "l4", few) != chosen(attention(128), "h200", few)


# ---- laws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1, 2])
def test_more_bandwidth_is_never_slower(level: int) -> None:
    device = find_device("a100-80")
    levels = list(device.levels)
    levels[level] = replace(levels[level], bandwidth=2 * levels[level].bandwidth)
    fast = replace(device, levels=tuple(levels))
    for sizes in (MANY, {"g0": 4, "l": 128, "s": 32768}):
        slow_times = {r.schedule: r.estimate for r in ranked(attention(), device, sizes)}
        # more stages are tried of the best only, which may be others
        both = [r for r in ranked(attention(), fast, sizes) if r.schedule in slow_times]
        assert len(both) > 10
        for each in both:
            assert each.estimate.seconds <= slow_times[each.schedule].seconds
            assert each.estimate.likely <= slow_times[each.schedule].likely


def test_more_work_is_never_faster() -> None:
    device = find_device("h200")
    times = [
        ranked(attention(), device, {**MANY, "s": keys})[0].estimate.seconds
        for keys in (1024, 2048, 4096)
    ]
    assert times == sorted(times)
    causal = ranked(attention(mask="q >= x"), device, MANY)[0].estimate.seconds
    assert causal < times[-1]


def test_every_candidate_fits() -> None:
    for name in ("sm_80", "sm_89", "sm_90"):
        arch = parse_arch(name)
        _module, (kernel,) = kernels_of(attention(128))
        plan = make_plan(kernel, kernel_signature(kernel))
        found = list(candidates(plan, arch))
        assert len(set(found)) == len(found) > 10
        for each in found:
            shared = (lay_out(plan, each).size + 1024) * each.blocks_per_sm
            assert shared <= arch.sm_shared_bytes
            assert each.threads * each.blocks_per_sm <= arch.sm_threads


def test_with_16_rows_a_warp_reads_as_long_as_it_multiplies() -> None:
    """On sm_80, as was measured: ldmatrix for 16 rows takes as long as mma, for 32 rows half."""
    found = ranked(attention(), find_device("a100-80"), MANY)
    by_rows = {r.schedule.row_blocks: r.estimate.resources for r in found if r.schedule.chunk == 32}
    one, two = by_rows[1], by_rows[2]
    assert one["shared"] == pytest.approx(one["tensor"], rel=0.1)
    # half for keys and values; queries no longer stay in registers: 4 for 8 KiB of both a chunk
    assert two["shared"] == pytest.approx(0.75 * two["tensor"], rel=0.1)


# ---- on the kernel ------------------------------------------------------------------------------


def kernel_at(rows: int, heads: int = 64) -> tuple[ir.Module, ir.Operation]:
    """The kernel of a program whose sizes are known."""
    text = attention().replace("axis h, q, x,", f"axis h = {heads}, q = {rows}, x = {rows},")
    with use(CompileOptions(library="none")):
        module, (kernel,) = kernels_of(text, "nvptx:sm_80")
    return module, kernel


def test_the_kernel_carries_what_is_tried_and_why() -> None:
    _module, kernel = kernel_at(4096)
    found = tile_schedules(kernel, parse_arch("sm_80"))
    assert (found[0].rows, found[0].chunk) == (128, 64)
    kinds = {
        (t.row_blocks, t.chunk, min(255, 65536 // (t.threads * t.blocks_per_sm))) for t in found
    }
    assert len(kinds) == len(found) > 1
    assert TILES in kernel.attributes
    ranking = kernel.attributes["diag.ranking"]
    seconds = [ir.FloatAttr(entry["seconds"]).value for entry in ranking]
    assert len(seconds) > 1
    assert "128 rows by 4 warps" in str(ranking[0]["text"])


def test_sizes_share_a_kernel_unless_another_schedule_gains() -> None:
    modules, (large, larger, few) = zip(
        kernel_at(4096), kernel_at(8192), kernel_at(512, 1), strict=True
    )
    assert len(modules) == 3
    texts = []
    for kernel in (large, larger, few):
        with kernel.context:
            texts.append(kernel_text(kernel))
    assert texts[0] == texts[1] != texts[2]


def test_all_that_fit_may_be_measured() -> None:
    with use(CompileOptions(library="none", target="nvptx:sm_90a")):
        _module, (kernel,) = kernels_of(attention())
        found = compared_tiles(kernel, MANY, find_device("h200"))
    assert len(set(found)) == len(found) > 10
    assert {bool(each.producers) for each in found} == {True, False}


def test_parts_count_what_they_leave() -> None:
    _module, (kernel,) = kernels_of(DECODE)
    plan = make_plan(kernel, kernel_signature(kernel))
    sizes = {"g0": 2, "s": 4096}
    cut = tile_decoration(plan, TileSchedule(warps=1, split=512), sizes)
    # the sums of 16 rows and 128 columns, the largest score and the sum of a row, in each thread
    assert (cut.parts, cut.states) == (8, 4 * 32 * (2 * 32 + 2 + 2))


def test_what_was_measured_is_stored_whole() -> None:
    with use(CompileOptions(library="none", target="nvptx:sm_90a")) as options:
        module = parse(attention().replace("axis h, q, x,", "axis h = 4, q = 512, x = 512,"))
        run_pipeline(module, options, "kernels")
        (kernel,) = (op for op in diag.functions(module) if diag.is_kernel(op))
        choices = TileChoices(find_device("h200"))
        found = choices.candidates(kernel)
        assert all(choices.load(kernel, choices.dump(each)) == each for each in found[:3])
        with pytest.raises(ValueError, match="cannot have"):
            choices.load(kernel, choices.dump((replace(found[0][0], warps=16),)))
        choices.put(kernel, found[1])
        assert tuple(tile_schedules(kernel, parse_arch("sm_90a"))) == found[1]
