"""Which lowering a kernel gets, and what every lowering gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagc.debug import logger
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.runtime.gpu_kernel import GpuLaunch, TensorMap, Workspace
from diagc.runtime.signature import KernelSignature
from diagc.targets.nvptx.arch import GpuArch

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["GpuModule", "build_module", "build_modules"]


@dataclass(frozen=True)
class GpuModule:
    """A kernel as a module at stage `gpu`, with what it takes to launch it.

    Args:
        module: holds one gpu.module.
        signature: the kernel's interface.
        launches: in order.
        workspaces: that they share.
        tiles: the schedule of a kernel on tiles or warpgroups; None for one on threads.
        tensor_maps: that `bulk_launches` take, in order.
        bulk_launches: what runs where tensor maps can describe the arrays; then `tiles` is their
            schedule.
        beside: the schedule of `launches`, where there are bulk launches.
    """

    module: ir.Module
    signature: KernelSignature
    launches: tuple[GpuLaunch, ...]
    workspaces: tuple[Workspace, ...] = ()
    tiles: "TileSchedule | None" = None
    tensor_maps: tuple[TensorMap, ...] = ()
    bulk_launches: tuple[GpuLaunch, ...] = ()
    beside: "TileSchedule | None" = None


def build_module(kernel: ir.Operation, arch: GpuArch, *, tf32: bool = False) -> GpuModule:
    """The first of `build_modules`."""
    return next(build_modules(kernel, arch, tf32=tf32))


def build_modules(
    kernel: ir.Operation, arch: GpuArch, *, tf32: bool = False
) -> Iterator[GpuModule]:
    """Modules of upstream ops that hold the kernel, the best first.

    They have other tile sizes; a kernel that does not fit into tiles has one module, of threads.

    Args:
        kernel: a `diag.kernel` function.
        arch: what it is compiled for.
        tf32: whether tensor cores may round f32 to tf32.

    Raises:
        UnsupportedError: an op that has no rule.
        LoweringError: what a block keeps does not fit shared memory.
    """
    from diagc.targets.nvptx.selection import tile_schedules
    from diagc.targets.nvptx.threads.lower import lower_threads
    from diagc.targets.nvptx.tiles.lower import lower_tiles

    fits = False
    try:
        schedules = tile_schedules(kernel, arch, tf32=tf32)
        tiles = [schedule for schedule in schedules if not schedule.producers]
        groups = [schedule for schedule in schedules if schedule.producers]
        yield from _with_warpgroups(kernel, arch, groups, tiles)
        for schedule in tiles:
            yield lower_tiles(kernel, arch, schedule=schedule)
            fits = True
    except UnsupportedError as error:
        logger("nvptx").info("no tiles: %s", error.message)
    if not fits:
        yield lower_threads(kernel, arch)


def _with_warpgroups(
    kernel: ir.Operation,
    arch: GpuArch,
    groups: Sequence["TileSchedule"],
    tiles: Sequence["TileSchedule"],
) -> Iterator[GpuModule]:
    """Forms on warpgroups, each with one on tiles beside it, for arrays that it does not take.

    A schedule that cannot be lowered costs its own forms, no others.
    """
    from diagc.targets.nvptx.tiles.lower import lower_tiles
    from diagc.targets.nvptx.warpgroups.lower import add_warpgroups

    for group in groups:
        try:
            for schedule in tiles:
                built = lower_tiles(kernel, arch, schedule=schedule, workspace=group.split > 0)
                yield add_warpgroups(kernel, built, group)
        except UnsupportedError as error:
            logger("nvptx").info("no warpgroups: %s", error.message)
