"""A kernel as a gpu.module of warpgroups: one that copies, two that compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir
from diagc.runtime.gpu_kernel import GpuLaunch, TensorMap
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import BY_VALUE, attach_arch, empty_module
from diagc.targets.nvptx.symbols import BULK, JOIN, PARTS, entry_symbol
from diagc.targets.nvptx.tiles.arena import lay_out as tiles_arena
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.lower import TileBlock, TileFunction, part_workspace
from diagc.targets.nvptx.tiles.packing import pack
from diagc.targets.nvptx.tiles.plan import Plan, Staged, make_plan
from diagc.targets.nvptx.tiles.reads import find_reads
from diagc.targets.nvptx.tiles.regions import Region
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.splitting import run_part
from diagc.targets.nvptx.warpgroups.arena import BulkArena, lay_out, packed_boxes
from diagc.targets.nvptx.warpgroups.fit import check_fit, streamed_tiles
from diagc.targets.nvptx.warpgroups.instructions import WARPGROUP, WarpgroupCode
from diagc.targets.nvptx.warpgroups.producer import Producer, init_mbarriers
from diagc.targets.nvptx.warpgroups.products import warpgroup_product
from diagc.targets.nvptx.warpgroups.schedule import (
    PRODUCER_REGISTERS,
    consumer_registers,
    warpgroup_schedules,
)
from diagc.targets.nvptx.warpgroups.staging import BulkStaging
from diagc.targets.nvptx.warpgroups.streams import BulkLoop, lower_bulk_stream

__all__ = ["add_warpgroups", "lower_warpgroups", "warpgroup_plan_schedules"]


def warpgroup_plan_schedules(kernel: ir.Operation, arch: GpuArch) -> list[TileSchedule]:
    """Schedules for a kernel on warpgroups that fit, none of which shares its stream.

    Raises:
        UnsupportedError: neither tiles nor warpgroups suit the kernel; the reason says why.
    """
    return list(warpgroup_schedules(make_plan(kernel, kernel_signature(kernel)), arch))


def lower_warpgroups(
    kernel: ir.Operation,
    arch: GpuArch,
    schedule: TileSchedule | None = None,
) -> GpuModule:
    """Lower a kernel function to warpgroups alone.

    Args:
        kernel: a function of diag ops, with the attribute `diag.kernel`.
        arch: sm_90a.
        schedule: sizes; the first of `warpgroup_plan_schedules` by default.

    Raises:
        UnsupportedError: the architecture or warpgroups do not suit the kernel, or it does not fit
            shared memory; the reason says what and where.
    """
    signature = kernel_signature(kernel, entry_symbol(kernel))
    schedules = [schedule] if schedule else warpgroup_plan_schedules(kernel, arch)
    if not schedules or not arch.has_warpgroups:
        reason = f"warpgroups: no schedule fits {arch.name}"
        raise UnsupportedError(kernel.name, reason=reason, location=kernel.location)
    with kernel.context, kernel.location:
        module = empty_module()
        attach_arch(module, arch)
    chosen = schedules[0]
    plan = pack(make_plan(kernel, signature), chosen)
    launches, maps = _emit(plan, module, signature.symbol, chosen, workspace=chosen.split > 0)
    workspaces = (part_workspace(plan, (chosen,)),) if chosen.split else ()
    return GpuModule(module, signature, launches, workspaces, chosen, maps)


def add_warpgroups(kernel: ir.Operation, built: GpuModule, schedule: TileSchedule) -> GpuModule:
    """Put functions on warpgroups beside those of a kernel on tiles.

    Raises:
        UnsupportedError: warpgroups do not suit the kernel; the reason says why and where.
    """
    assert built.tiles is not None, "threads have nothing to do with warpgroups"
    symbol = f"{built.signature.symbol}{BULK}"
    plan = make_plan(kernel, built.signature)
    parts = [each for each in (built.tiles, schedule) if each.split]
    launches, maps = _emit(
        pack(plan, schedule), built.module, symbol, schedule, workspace=bool(parts)
    )
    return replace(
        built,
        workspaces=(part_workspace(plan, parts),) if parts else (),
        tiles=schedule,
        tensor_maps=maps,
        bulk_launches=launches,
        beside=built.tiles,
    )


def _emit(
    plan: Plan, module: ir.Module, symbol: str, schedule: TileSchedule, *, workspace: bool
) -> tuple[tuple[GpuLaunch, ...], tuple[TensorMap, ...]]:
    check_fit(plan)
    arena = lay_out(plan, schedule, streamed_tiles(plan))
    maps = tuple(_tensor_map(plan, staged, arena) for staged in arena.tiles)
    with plan.kernel.context, plan.kernel.location:
        function = partial(_Function, module, plan, schedule, arena, workspace, maps=len(maps))
        if not schedule.split:
            return (function().emit(symbol),), maps
        consumers = replace(schedule, producers=0)
        joined = replace(plan, staged=find_reads(plan, (0, 2, 3)).staged)
        places = tiles_arena(joined, consumers)
        join = _Join(module, joined, consumers, places, workspace, is_join=True, maps=len(maps))
        parts = function(is_part=True).emit(f"{symbol}{PARTS}")
        return (parts, join.emit(f"{symbol}{JOIN}")), maps


def _tensor_map(plan: Plan, staged: Staged, arena: BulkArena) -> TensorMap:
    """Boxes are panels: all lines, up to 128 bytes of each."""
    tile, labels = arena.tiles[staged], plan.signature.args[staged.argument].labels
    inner = tile.pitch // tile.element_bytes
    lines = tile.lines // packed_boxes(plan, staged)
    box = {**dict.fromkeys(labels, 1), staged.lines: lines, staged.inner: inner}
    return TensorMap(staged.argument, tuple(box[label] for label in labels), tile.pitch)


@dataclass
class _Join(TileFunction):
    """Joins parts as on tiles; tensor maps come behind all other parameters, by value."""

    maps: int = 0

    def mark(self, function: ir.OpView) -> None:
        count = len(function.arguments) - self.maps
        numbers = range(count, len(function.arguments))
        function.attributes[BY_VALUE] = ir.DenseI64ArrayAttr.get(list(numbers))

    def parameters(self, code: Code) -> list[ir.Type]:
        generic = ir.Type.parse("!llvm.ptr")
        return [*super().parameters(code), *[generic] * self.maps]


@dataclass
class _Function(_Join):
    """Writes a function of warpgroups, all of a kernel or a part of its stream."""

    def code(self) -> Code:
        return WarpgroupCode(32 * self.schedule.warps)

    def write(
        self,
        code: Code,
        sizes: Mapping[str, Index],
        pointers: Sequence[ir.Value],
        strides: Sequence[Mapping[str, Index]],
        rest: Sequence[ir.Value],
    ) -> None:
        """Roles of the warpgroups; registers go from the one that copies to the others."""
        assert isinstance(code, WarpgroupCode)
        assert isinstance(self.arena, BulkArena)
        block, arena = TileBlock(self, code, sizes), self.arena
        thread = block.frame.thread
        warp = code.uniform(code.div(thread, 32))
        zero = code.index(0)

        def is_first(number: Index) -> ir.Value:
            return arith.cmpi(arith.CmpIPredicate.eq, code.index(number), zero)

        warps = self.schedule.warps
        code.when(is_first(thread), lambda: init_mbarriers(code, arena, block.smem, warps))
        code.barrier_of_all()

        part = block.part if self.is_part else None

        def produce() -> None:
            code.set_registers(PRODUCER_REGISTERS, more=False)
            maps = dict(zip(arena.tiles, rest, strict=True))

            def copy() -> None:
                frame = block.make_frame(code, thread)
                code.when(code.elect(), Producer(frame, self.plan, arena, maps, part).run)

            code.when(is_first(warp), copy)

        def consume() -> None:
            code.set_registers(consumer_registers(self.schedule), more=True)
            first = 32 * self.schedule.producers
            frame = block.make_frame(code, code.sub(thread, first))
            self._compute(block, frame, pointers, strides)

        code.choose(is_first(code.div(warp, WARPGROUP // 32)), produce, consume)

    def _compute(
        self,
        block: TileBlock,
        frame: Frame,
        pointers: Sequence[ir.Value],
        strides: Sequence[Mapping[str, Index]],
    ) -> None:
        """The region as on tiles, with products of warpgroups."""
        memories = self.memories(frame, pointers, strides)
        staging = BulkStaging(frame, self.plan, self.arena, memories)
        body = diag.function_body(self.plan.kernel)
        places = dict(zip(body.arguments, memories, strict=False))
        region = Region(frame, self.plan, staging, lower_bulk_stream, {**places}, warpgroup_product)
        if self.is_part:
            run_part(region, BulkLoop, block.part, block.states(frame, pointers[-1]))
        else:
            block.store(region, region.run(body), memories)
