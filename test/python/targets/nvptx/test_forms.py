"""Which of its forms a kernel gets, where some cannot be lowered or spill."""

from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.runtime.gpu_kernel import GpuLaunch
from diagc.runtime.signature import KernelSignature
from diagc.targets.nvptx import kernel as kernels
from diagc.targets.nvptx import selection
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import GpuModule, build_modules
from diagc.targets.nvptx.pipeline import CompiledModule, NvvmModule
from diagc.targets.nvptx.ptxas import Resources
from diagc.targets.nvptx.tiles import lower as tiles
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups import lower as warpgroups
from diagc.testing.attention import Attention
from diagc.testing.tile_kernels import kernels_of

GROUPS = [TileSchedule(warps=8, producers=4, chunk=chunk) for chunk in (64, 32)]
TILES = [TileSchedule(chunk=chunk) for chunk in (64, 32)]
ARCH = parse_arch("sm_90a")


def test_warpgroups_that_cannot_be_lowered_cost_no_other_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = TileSchedule(warps=8, producers=4, chunk=64, stages=9, stays=True)
    found = [large, GROUPS[0], TILES[0]]
    monkeypatch.setattr(selection, "tile_schedules", lambda *_args, **_more: found)
    _module, (kernel,) = kernels_of(Attention(e=128, scores="S").text)
    with kernel.context, ir.Location.unknown():
        forms = [(form.tiles, form.beside) for form in build_modules(kernel, ARCH)]
    assert forms == [(GROUPS[0], TILES[0]), (TILES[0], None)]


FEW = TileSchedule(warps=1, chunk=16, split=32, few=True)
LOST = [
    (("parts",), [(GROUPS[0], TILES[0], None), (TILES[0], None, None)]),
    (("warpgroups",), [(TILES[0], None, FEW), (TILES[0], None, None)]),
    (("parts", "warpgroups"), [(TILES[0], None, None)]),
    (("tiles",), [(None, None, None)]),
]


@pytest.mark.parametrize(("lost", "left"), LOST)
def test_a_form_that_cannot_be_lowered_costs_no_other(
    lost: Sequence[str],
    left: list[tuple[TileSchedule | None, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Least of all does one for few rows send the whole kernel to threads."""

    def fail(*_args: object, **_more: object) -> GpuModule:
        raise UnsupportedError("an op", reason="of this test")

    places = {"parts": (tiles, "add_parts"), "tiles": (tiles, "lower_tiles")}
    places["warpgroups"] = warpgroups, "add_warpgroups"
    for name in lost:
        monkeypatch.setattr(*places[name], fail)
    found = [GROUPS[0], TILES[0], FEW]
    monkeypatch.setattr(selection, "tile_schedules", lambda *_args, **_more: found)
    _module, (kernel,) = kernels_of(Attention().text)
    with kernel.context, ir.Location.unknown():
        forms = [(form.tiles, form.beside, form.shared) for form in build_modules(kernel, ARCH)]
    assert forms == left


def form(plain: TileSchedule, group: TileSchedule | None = None) -> GpuModule:
    """A form whose functions are named by the chunks of their schedules."""

    def launches(name: str, schedule: TileSchedule) -> tuple[GpuLaunch, ...]:
        return (GpuLaunch(f"{name}{schedule.chunk}", 32, 0, ((),)),)

    common = {"module": cast("ir.Module", None), "signature": cast("KernelSignature", None)}
    if group is None:
        return GpuModule(**common, launches=launches("tiles", plain), tiles=plain)
    return GpuModule(
        **common,
        launches=launches("tiles", plain),
        bulk_launches=launches("groups", group),
        tiles=group,
        beside=plain,
    )


PAIRS = [(plain, group) for group in GROUPS for plain in TILES]
SPILLS = [
    (["groups64", "groups32", "tiles64", "tiles32"], (TILES[0], None)),
    (["groups64", "tiles64", "tiles32"], (GROUPS[1], TILES[1])),
    (["groups64", "groups32", "tiles64"], (TILES[1], None)),
    (["groups64", "tiles64"], (GROUPS[1], TILES[1])),
    (["tiles64", "tiles32"], (GROUPS[0], TILES[0])),
]


@pytest.mark.parametrize(("spilling", "taken"), SPILLS)
def test_there_is_a_form_where_all_spill(
    spilling: Sequence[str],
    taken: tuple[TileSchedule, TileSchedule | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[GpuModule] = []

    def build(*_args: object, **_more: object) -> Iterator[GpuModule]:
        for built in (*(form(p, g) for p, g in PAIRS), *map(form, TILES)):
            tried.append(built)
            yield built

    def compiled(_module: ir.Module) -> CompiledModule:
        built = tried[-1]
        used = [launch.symbol for launch in (*built.launches, *built.bulk_launches)]
        resources = {x: Resources(255, 0, 4 * (x in spilling), 0, 0) for x in used}
        return CompiledModule(cast("NvvmModule", None), "", None, resources, {})

    monkeypatch.setattr(kernels, "build_modules", build)
    monkeypatch.setattr(kernels, "compile_module", compiled)
    built, _made = kernels.compile_kernel(cast("ir.Operation", None), ARCH)
    assert (built.tiles, built.beside) == taken
