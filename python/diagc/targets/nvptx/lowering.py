"""Which lowering a kernel gets, and what every lowering gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, TypeVar

from diagc.debug import logger
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.runtime.gpu_kernel import GpuKernel, GpuLaunch, TensorMap, Workspace
from diagc.runtime.sharing import Sharing
from diagc.runtime.signature import KernelSignature
from diagc.targets.nvptx.arch import GpuArch

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["GpuModule", "build_module", "build_modules"]

T = TypeVar("T")


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
        sharing: in how many parts blocks share the stream, where they may.
        shared_launches: what runs in place of the others where there are several parts.
        shared: the schedule of `shared_launches`.
    """

    module: ir.Module
    signature: KernelSignature
    launches: tuple[GpuLaunch, ...]
    workspaces: tuple[Workspace, ...] = ()
    tiles: "TileSchedule | None" = None
    tensor_maps: tuple[TensorMap, ...] = ()
    bulk_launches: tuple[GpuLaunch, ...] = ()
    beside: "TileSchedule | None" = None
    sharing: Sharing | None = None
    shared_launches: tuple[GpuLaunch, ...] = ()
    shared: "TileSchedule | None" = None

    def as_kernel(
        self, arch: str = "sm_80", ptx: str = "", cubin: bytes | None = None
    ) -> GpuKernel:
        """What is launched, with its code."""
        return GpuKernel(
            self.signature,
            self.launches,
            self.workspaces,
            arch,
            ptx,
            cubin,
            self.tensor_maps,
            self.bulk_launches,
            self.sharing,
            self.shared_launches,
        )


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

    asked = _lowered("tiles", partial(tile_schedules, kernel, arch, tf32=tf32))
    schedules = next(asked, ())
    few = (*(schedule for schedule in schedules if schedule.few), None)
    tiles = [each for each in schedules if not each.producers and not each.few]
    groups = [schedule for schedule in schedules if schedule.producers]
    for beside, group, schedule in product(few, groups, tiles):
        made = partial(_with_warpgroups, kernel, arch, group, schedule, beside)
        yield from _lowered("warpgroups", made)
    fits = False
    for schedule, beside in product(tiles, few):
        for built in _lowered("tiles", partial(_on_tiles, kernel, arch, schedule, beside)):
            fits = True
            yield built
    if not fits:
        yield lower_threads(kernel, arch)


def _on_tiles(
    kernel: ir.Operation,
    arch: GpuArch,
    schedule: "TileSchedule",
    few: "TileSchedule | None",
    *,
    workspace: bool = False,
) -> GpuModule:
    """A form on tiles, perhaps with one for few rows beside it."""
    from diagc.targets.nvptx.tiles.lower import add_parts, lower_tiles

    workspace = workspace or few is not None
    built = lower_tiles(kernel, arch, schedule=schedule, workspace=workspace)
    return built if few is None else add_parts(kernel, built, few)


def _with_warpgroups(
    kernel: ir.Operation,
    arch: GpuArch,
    group: "TileSchedule",
    schedule: "TileSchedule",
    few: "TileSchedule | None",
) -> GpuModule:
    """A form on warpgroups, with one on tiles beside it, for arrays that it does not take."""
    from diagc.targets.nvptx.warpgroups.lower import add_warpgroups

    built = _on_tiles(kernel, arch, schedule, few, workspace=group.split > 0)
    return add_warpgroups(kernel, built, group)


def _lowered(form: str, make: Callable[[], T]) -> Iterator[T]:
    """What is made, or nothing where that is not supported: that costs no other form."""
    try:
        made = make()
    except UnsupportedError as error:
        logger("nvptx").info("no %s: %s", form, error.message)
        return
    yield made
