"""A kernel as a gpu.module of warpgroups: one that copies, one to three that compute."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir, llvm
from diagc.runtime.gpu_kernel import GpuLaunch, TensorMap
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import BY_VALUE, attach_arch, empty_module
from diagc.targets.nvptx.symbols import BULK, PARTS, entry_symbol
from diagc.targets.nvptx.tiles.arena import lay_out as tiles_arena
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.layouts import Tile
from diagc.targets.nvptx.tiles.lower import TileBlock, TileFunction, emit_join, part_workspace
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.packing import pack
from diagc.targets.nvptx.tiles.parts import sharing_of
from diagc.targets.nvptx.tiles.plan import Plan, Staged, make_plan
from diagc.targets.nvptx.tiles.reads import find_reads
from diagc.targets.nvptx.tiles.regions import Region
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.splitting import run_part
from diagc.targets.nvptx.warpgroups.arena import BulkArena, lay_out, packed_boxes
from diagc.targets.nvptx.warpgroups.epilogue import BoxStore, result_maps, wait_stores
from diagc.targets.nvptx.warpgroups.fit import check_fit, streamed_tiles
from diagc.targets.nvptx.warpgroups.instructions import WARPGROUP, WarpgroupCode
from diagc.targets.nvptx.warpgroups.order import TileOrder
from diagc.targets.nvptx.warpgroups.producer import Producer, init_mbarriers
from diagc.targets.nvptx.warpgroups.products import warpgroup_product
from diagc.targets.nvptx.warpgroups.schedule import (
    PRODUCER_REGISTERS,
    consumer_registers,
    warpgroup_schedules,
)
from diagc.targets.nvptx.warpgroups.staging import BulkStaging
from diagc.targets.nvptx.warpgroups.streams import BulkLoop, lower_bulk_stream
from diagc.targets.nvptx.warpgroups.turns import ProductTurns, check_turns

__all__ = ["add_warpgroups", "lower_warpgroups", "warpgroup_plan_schedules"]

_Work: TypeAlias = Callable[[TileBlock, Sequence[ir.Value]], list[ir.Value]]


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
    if not chosen.split:
        return GpuModule(module, signature, launches, (), chosen, maps)
    workspaces, sharing = (part_workspace(plan, (chosen,)),), sharing_of(plan, chosen)
    return GpuModule(module, signature, launches, workspaces, chosen, maps, sharing=sharing)


def add_warpgroups(kernel: ir.Operation, built: GpuModule, schedule: TileSchedule) -> GpuModule:
    """Put functions on warpgroups beside those of a kernel on tiles.

    Raises:
        UnsupportedError: warpgroups do not suit the kernel; the reason says why and where.
    """
    assert built.tiles is not None, "threads have nothing to do with warpgroups"
    symbol = f"{built.signature.symbol}{BULK}"
    plan = make_plan(kernel, built.signature)
    packed = pack(plan, schedule)
    if schedule.split:
        parts = [each for each in (built.tiles, schedule) if each.split]
        sharing = sharing_of(packed, schedule)
        built = replace(built, workspaces=(part_workspace(plan, parts),), sharing=sharing)
    workspace = built.sharing is not None
    launches, maps = _emit(packed, built.module, symbol, schedule, workspace=workspace)
    return replace(
        built,
        tiles=schedule,
        tensor_maps=maps,
        bulk_launches=launches,
        beside=built.tiles,
    )


def _emit(
    plan: Plan, module: ir.Module, symbol: str, schedule: TileSchedule, *, workspace: bool
) -> tuple[tuple[GpuLaunch, ...], tuple[TensorMap, ...]]:
    check_fit(plan)
    check_turns(plan, schedule)
    arena = lay_out(plan, schedule, streamed_tiles(plan))
    maps = tuple(_tensor_map(plan, staged, arena) for staged in arena.tiles)
    if not schedule.split:
        maps += result_maps(plan, schedule, arena)
    with plan.kernel.context, plan.kernel.location:
        function = partial(_Function, module, plan, schedule, arena, workspace, maps=len(maps))
        if not schedule.split:
            return (function().emit(symbol),), maps
        consumers = replace(schedule, producers=0)
        joined = replace(plan, staged=find_reads(plan, (0, 2, 3)).staged)
        places = tiles_arena(joined, consumers)
        join = partial(_Join, module, joined, consumers, places, workspace, maps=len(maps))
        parts = function(is_part=True).emit(f"{symbol}{PARTS}")
        return (parts, *emit_join(join, symbol)), maps


def _tensor_map(plan: Plan, staged: Staged, arena: BulkArena) -> TensorMap:
    """Boxes are panels: all lines, up to 128 bytes of each."""
    tile, labels = arena.tiles[staged], plan.signature.args[staged.argument].labels
    inner = tile.pitch // tile.element_bytes
    lines = tile.lines // packed_boxes(plan, staged)
    box = {**dict.fromkeys(labels, 1), staged.lines: lines, staged.inner: inner}
    return TensorMap(staged.argument, tuple(box[label] for label in labels), tile.pitch)


@dataclass
class _Join(TileFunction):
    """Joins parts as on tiles; so many tensor maps come behind all other parameters, by value."""

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

    result_maps: dict[int, ir.Value] = field(default_factory=dict)

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
        arena, smem = self.places, llvm.AddressOfOp(code.shared, "shared").result
        thread = code.thread()
        warp = code.uniform(code.div(thread, 32))
        zero = code.index(0)

        def is_first(number: Index) -> ir.Value:
            return arith.cmpi(arith.CmpIPredicate.eq, code.index(number), zero)

        warps, stays = self.schedule.warps, self.schedule.stays
        init = partial(init_mbarriers, code, arena, smem, warps, stays=stays)
        code.when(is_first(thread), init)
        code.barrier_of_all()
        self.result_maps.update(zip(arena.boxes, rest[len(arena.tiles) :], strict=False))
        each = self._tiles(code, sizes)

        def produce() -> None:
            code.set_registers(PRODUCER_REGISTERS, more=False)
            maps = dict(zip(arena.tiles, rest, strict=False))

            elected = code.elect()

            def copy(block: TileBlock, carried: Sequence[ir.Value]) -> list[ir.Value]:
                part = block.part if self.is_part else None
                frame = block.make_frame(code, thread)
                memories = self.memories(frame, pointers, strides)
                producer = Producer(frame, self.plan, arena, maps, memories, part)
                run = partial(producer.run, producer.bounds(), *carried)
                if stays:
                    return run()
                code.when(elected, lambda: _ignore(run()))  # all lanes know the bounds
                return []

            # a fresh mbarrier passes for the phase before its first: all stages are free
            work = partial(each, (0, 1), copy)
            code.when(is_first(warp), partial(code.when, elected, work) if stays else work)

        def consume() -> None:
            code.set_registers(consumer_registers(self.schedule), more=True)
            number = code.sub(thread, 32 * self.schedule.producers)
            turns = self._turns(code, number)

            def compute(block: TileBlock, carried: Sequence[ir.Value]) -> list[ir.Value]:
                return self._compute(block, code, number, (pointers, strides), carried, turns)

            each((0, 0), compute)
            self._end(code, turns)

        code.choose(is_first(code.div(warp, WARPGROUP // 32)), produce, consume)

    def _turns(self, code: WarpgroupCode, thread: Index) -> ProductTurns | None:
        """Of the groups that compute, begun; None where they do not wait for each other."""
        if not self.schedule.turns:
            return None
        groups, group = self.schedule.warps * 32 // WARPGROUP, code.div(thread, WARPGROUP)
        turns = ProductTurns(code, groups, group)
        turns.begin()
        return turns

    def _end(self, code: WarpgroupCode, turns: ProductTurns | None) -> None:
        """What a thread that computes has started is over."""
        if self.result_maps:
            wait_stores(code)
        if turns is not None:
            turns.end()

    @property
    def places(self) -> BulkArena:
        """Shared memory."""
        assert isinstance(self.arena, BulkArena)
        return self.arena

    def _tiles(
        self, code: WarpgroupCode, sizes: Mapping[str, Index]
    ) -> Callable[[tuple[int, int], _Work], None]:
        """What emits some work for all tiles of the block.

        Work gets stage and phase of the rings, and the parity of the tiles so far; it gives the
        first two anew.
        """
        if not self.schedule.stays:
            block = TileBlock(self, code, sizes)
            return lambda ring, work: _ignore(work(block, [code.index(x) for x in (*ring, 0)]))
        plan = self.plan
        tiles = code.ceil_div(sizes[plan.row], self.schedule.row_extent)
        heads: Index = 1
        for label in plan.grid:
            heads = code.mul(heads, sizes[label])
        order = TileOrder(code, tiles, heads, code.blocks(), code.block(), plan.grows)

        def each(ring: tuple[int, int], work: _Work) -> None:
            def take(tile: Index, head: Index, carried: list[ir.Value]) -> list[ir.Value]:
                block = TileBlock(self, code, sizes, (tile, head))
                turned = code.index(code.bit_xor(carried[-1], 1))
                return [*work(block, carried), turned]

            order.loop([code.index(x) for x in (*ring, 0)], take)

        return each

    def store_result(
        self, frame: Frame, number: int, tile: Tile, target: Memory, only: Tile | None = None
    ) -> None:
        """By boxes where there is a tensor map of the result."""
        code = frame.code
        assert isinstance(code, WarpgroupCode)
        if number not in self.result_maps:
            if self.result_maps and number in self.arena.results:
                wait_stores(code)
            super().store_result(frame, number, tile, target, only)
            return
        wire, shared = self.signature.results[number], self.places.boxes[number]
        store = BoxStore(frame, tile, shared, wire, self.result_maps[number])
        alone = len(self.arena.results) == 1
        meets = self.places.is_shared if alone else self.places.mixes_lines
        store.emit(meets=meets, waits=self.schedule.stays or not alone)

    def _compute(
        self,
        block: TileBlock,
        code: WarpgroupCode,
        thread: Index,
        wires: tuple[Sequence[ir.Value], Sequence[Mapping[str, Index]]],
        carried: Sequence[ir.Value],
        turns: ProductTurns | None,
    ) -> list[ir.Value]:
        """The region as on tiles, with products of warpgroups; gives the ring anew."""
        stage, phase, turn = carried
        frame = block.make_frame(code, thread)
        memories = self.memories(frame, *wires)
        staging = BulkStaging(frame, self.plan, self.arena, memories)
        staging.ring, staging.parity, staging.turns = (stage, phase), turn, turns
        body = diag.function_body(self.plan.kernel)
        places = dict(zip(body.arguments, memories, strict=False))
        region = Region(frame, self.plan, staging, lower_bulk_stream, {**places}, warpgroup_product)
        if self.is_part:
            run_part(region, BulkLoop, block.part, block.states(frame, wires[0][-1]))
        else:
            block.store(region, region.run(body), memories)
        if self.schedule.stays:
            self._release(staging)
        return [code.index(x) for x in staging.ring]

    def _release(self, staging: BulkStaging) -> None:
        """Rows of the next tile may come; where results are in their place, behind the stores."""
        if self.places.is_shared:
            wait_stores(staging.code)
        if not staging.releases_early:
            staging.release_fixed()


def _ignore(_values: Sequence[ir.Value]) -> None:
    """Of one tile nothing is left."""
