"""Diagrams whose products are kernels in tiles of rows and columns, run in the simulator."""

from collections.abc import Mapping
from dataclasses import replace

from diagc.cost import Traffic
from diagc.mlir import ir
from diagc.options import current, use
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.tiles.lower import lower_tiles
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.traffic import tile_traffic
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    Placement,
    TileRun,
    kernels_of,
    random_inputs,
    run_tiles,
    translate_module,
)
from diagc.testing.warpgroup_runs import TARGET

__all__ = ["kernels_with_products", "lower_products", "on_tiles", "on_warpgroups", "run_products"]


def on_warpgroups(columns: int, chunk: int = 64, stages: int = 2) -> TileSchedule:
    """Two warpgroups that compute 128 rows."""
    return TileSchedule(warps=8, chunk=chunk, stages=stages, producers=4, columns=columns)


def on_tiles(columns: int, chunk: int = 64, stages: int = 2) -> TileSchedule:
    """Four warps that compute 128 rows."""
    return TileSchedule(row_blocks=2, chunk=chunk, stages=stages, columns=columns)


def kernels_with_products(text: str, library: str = "none") -> tuple[ir.Module, list[ir.Operation]]:
    """The kernels of a diagram for sm_90a, and the module that they live as long as."""
    with use(replace(current(), library=library, target=TARGET)):
        return kernels_of(text, TARGET)


def lower_products(text: str, schedule: TileSchedule) -> tuple[ir.Module, ir.Operation, GpuModule]:
    """The one kernel of a diagram."""
    module, (kernel,) = kernels_with_products(text)
    with kernel.context, ir.Location.unknown():
        if schedule.producers:
            return module, kernel, lower_warpgroups(kernel, parse_arch(TARGET[6:]), schedule)
        return module, kernel, lower_tiles(kernel, parse_arch("sm_80"), schedule)


def run_products(
    text: str,
    sizes: Mapping[str, int],
    schedule: TileSchedule,
    placement: Placement | None = None,
) -> tuple[Traffic, TileRun]:
    """Run the one kernel of a diagram on random inputs; also its predicted traffic.

    Args:
        text: the diagram.
        sizes: of open axes, by label.
        schedule: tile sizes.
        placement: of arrays.
    """
    _module, kernel, built = lower_products(text, schedule)
    inputs = random_inputs(built.signature, sizes, SEED)
    traffic = tile_traffic(make_plan(kernel, built.signature), schedule, sizes)
    return traffic, run_tiles(kernel, built, translate_module(built), inputs, placement)
