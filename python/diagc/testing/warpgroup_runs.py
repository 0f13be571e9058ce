"""Diagrams as kernels on warpgroups, run in the simulator with all of its checks."""

from collections.abc import Mapping
from dataclasses import replace

from diagc.mlir import ir
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.targets.nvptx.warpgroups.schedule import warpgroup_schedules
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    Placement,
    TileRun,
    kernels_of,
    random_inputs,
    run_tiles,
    translate_module,
)

__all__ = ["TARGET", "TOLERANCE", "lower_diagram", "run_diagram"]

TARGET = "nvptx:sm_90a"

TOLERANCE = {"bf16": 2 * 2.0**-8, "f16": 2 * 2.0**-11}
"""Of the largest value or result: weights and results are rounded, by half a unit each. A unit in
the last place of 1 is 2**-7 in bf16, 2**-10 in f16; roundings of weights can all go one way."""


def lower_diagram(
    text: str, chunk: int = 64, stages: int = 2, *, split: int = 0
) -> tuple[ir.Module, ir.Operation, GpuModule]:
    """The one kernel of a diagram on warpgroups, with rows as its first schedule has them.

    Args:
        text: the diagram.
        chunk: positions of the streamed axis at a time.
        stages: of the rings.
        split: positions of a part, 0 for one block a stream.
    """
    module, (kernel,) = kernels_of(text, TARGET)
    arch = parse_arch("sm_90a")
    with kernel.context, ir.Location.unknown():
        plan = make_plan(kernel, kernel_signature(kernel))
        first = next(warpgroup_schedules(plan, arch))
        schedule = replace(first, chunk=chunk, stages=stages, split=split)
        return module, kernel, lower_warpgroups(kernel, arch, schedule=schedule)


def run_diagram(
    text: str,
    sizes: Mapping[str, int],
    chunk: int = 64,
    stages: int = 2,
    *,
    split: int = 0,
    placement: Placement | None = None,
) -> tuple[GpuModule, TileRun]:
    """Lower a diagram and run it on random inputs; `sizes` as of `random_inputs`."""
    _module, kernel, built = lower_diagram(text, chunk, stages, split=split)
    inputs = random_inputs(built.signature, sizes, SEED)
    return built, run_tiles(kernel, built, translate_module(built), inputs, placement)
