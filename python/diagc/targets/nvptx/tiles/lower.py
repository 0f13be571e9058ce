"""A kernel as a gpu.module of tiles: parameters, position of the block, region, stores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import arith, gpu, ir, llvm
from diagc.runtime.factors import Factor
from diagc.runtime.gpu_kernel import GpuLaunch, Workspace
from diagc.runtime.sharing import PARTS as PART_COUNT
from diagc.runtime.signature import KernelSignature
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import attach_arch, empty_module
from diagc.targets.nvptx.symbols import JOIN, PARTS, SUM, entry_symbol
from diagc.targets.nvptx.tiles.arena import Arena, lay_out
from diagc.targets.nvptx.tiles.bounds import any_row
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.epilogue import store_tile
from diagc.targets.nvptx.tiles.frame import Frame, Span
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.layouts import Tile, literal_tile
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.packing import pack
from diagc.targets.nvptx.tiles.parts import (
    blocks_of_rows,
    least_summed,
    part_elements,
    sharing_of,
    splittable,
)
from diagc.targets.nvptx.tiles.plan import ONE_ROW, Plan, make_plan
from diagc.targets.nvptx.tiles.rare_rows import rare_stream
from diagc.targets.nvptx.tiles.regions import Region, StreamLowering
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.splitting import (
    SUM_ELEMENTS,
    SUM_THREADS,
    PartStates,
    join_parts,
    run_part,
)
from diagc.targets.nvptx.tiles.staging import Staging
from diagc.targets.nvptx.tiles.streams import StreamLoop, lower_stream

__all__ = [
    *("TileBlock", "TileFunction", "add_parts", "emit_join", "lower_tiles"),
    "part_workspace",
]

_BAND = 16
"""Tiles of rows that are gone through before the next tile of columns."""


def lower_tiles(
    kernel: ir.Operation,
    arch: GpuArch,
    schedule: TileSchedule | None = None,
    *,
    workspace: bool = False,
) -> GpuModule:
    """Lower a kernel function to tiles of rows.

    Args:
        kernel: a function of diag ops, with the attribute `diag.kernel`.
        arch: what it is compiled for.
        schedule: tile sizes; by default the first of those that would be tried.
        workspace: whether functions that are put beside it share a stream, so that it has their
            parameters, too.

    Raises:
        UnsupportedError: the kernel does not fit into tiles, it sums over more rows than a block
            of the schedule has, or blocks cannot share its stream as the schedule says; the
            reason says what and where.
    """
    signature = kernel_signature(kernel, entry_symbol(kernel))
    symbol = signature.symbol
    schedule = schedule or _first_on_tiles(kernel, arch)
    plan = pack(make_plan(kernel, signature), schedule)
    _check_fit(plan, schedule)
    arena = lay_out(plan, schedule)
    with kernel.context, kernel.location:
        module = empty_module()
        attach_arch(module, arch)
        if not schedule.split:
            function = TileFunction(module, plan, schedule, arena, workspace)
            return GpuModule(module, signature, (function.emit(symbol),), (), schedule)
        launches = _emit_parts(module, plan, schedule)
    workspaces = (part_workspace(plan, (schedule,)),)
    sharing = sharing_of(plan, schedule)
    return GpuModule(module, signature, launches, workspaces, schedule, sharing=sharing)


def add_parts(kernel: ir.Operation, built: GpuModule, schedule: TileSchedule) -> GpuModule:
    """Put functions whose blocks share the stream beside one whose blocks do not.

    Args:
        kernel: as of `lower_tiles`.
        built: what that gave, with `workspace`.
        schedule: of the functions.

    Raises:
        UnsupportedError: as `lower_tiles`.
    """
    plan = pack(make_plan(kernel, built.signature), schedule)
    _check_fit(plan, schedule)
    with kernel.context, kernel.location:
        launches = _emit_parts(built.module, plan, schedule)
    return replace(
        built,
        workspaces=(part_workspace(plan, (schedule,)),),
        sharing=sharing_of(plan, schedule),
        shared_launches=launches,
        shared=schedule,
    )


def _emit_parts(module: ir.Module, plan: Plan, schedule: TileSchedule) -> tuple[GpuLaunch, ...]:
    """What works on parts of the stream, and what joins them."""
    symbol = plan.signature.symbol
    function = partial(TileFunction, module, plan, schedule, lay_out(plan, schedule), True)
    return function(is_part=True).emit(f"{symbol}{PARTS}"), *emit_join(function, symbol)


def emit_join(function: Callable[..., "TileFunction"], symbol: str) -> tuple[GpuLaunch, ...]:
    """What joins the parts of a stream; before, where that pays, what adds them."""
    join, adder = function(is_join=True), function(is_sum=True)
    joined = join.emit(f"{symbol}{JOIN}")
    return (adder.emit(f"{symbol}{SUM}"), joined) if adder.least_parts else (joined,)


def _first_on_tiles(kernel: ir.Operation, arch: GpuArch) -> TileSchedule:
    from diagc.targets.nvptx.selection import tile_schedules

    return next(each for each in tile_schedules(kernel, arch) if not each.producers)


def _check_fit(plan: Plan, schedule: TileSchedule) -> None:
    """What blocks share must be one that they can: a stream with states; no sum over rows."""
    if schedule.split and splittable(plan) is None:
        raise UnsupportedError(
            plan.kernel.name,
            reason="tiles: the schedule splits the stream over blocks, and there is not one whose "
            "states are f32 and can be joined",
            remedy="choose split = 0, or leave the schedule to the compiler",
            location=plan.kernel.location,
        )
    op, rows = plan.sum_over_rows, plan.sizes[plan.row]
    if op is not None and rows > schedule.rows:
        raise UnsupportedError(
            op.name,
            reason=f"tiles: it sums over the axis {plan.row} of {rows} rows, which one block must "
            f"hold, and the schedule's blocks have {schedule.rows}",
            remedy="choose more warps or row_blocks, or leave the schedule to the compiler",
            location=op.location,
        )


def part_workspace(plan: Plan, schedules: Sequence[TileSchedule]) -> Workspace:
    """Room for the states of all parts, whichever of some schedules is launched."""
    elements = max(part_elements(plan, x.warps, x.row_blocks) for x in schedules)
    extent = min(schedule.row_extent for schedule in schedules)
    rows: Factor = 1 if plan.row == ONE_ROW else (plan.row, extent)
    return Workspace("f32", (PART_COUNT, rows, *reversed(plan.grid), elements))


@dataclass
class TileFunction:
    """Writes one function: all of the kernel, a part of its stream, what adds or joins the parts.

    `workspace` says whether the kernel has one, which all of its functions get, and the number of
    parts.
    """

    module: ir.Module
    plan: Plan
    schedule: TileSchedule
    arena: Arena
    workspace: bool
    is_part: bool = False
    is_join: bool = False
    is_sum: bool = False

    @property
    def least_parts(self) -> int:
        """The number of parts from which on these are added before they are joined."""
        return least_summed(self.plan, self.schedule)

    @property
    def signature(self) -> KernelSignature:
        """The kernel's interface."""
        return self.plan.signature

    def code(self) -> Code:
        """What writes the function."""
        return Code()

    def emit(self, symbol: str) -> GpuLaunch:
        """The function with its body; gives its launch."""
        code = self.code()
        block = next(iter(self.module.body.operations)).operation.regions[0].blocks[0]
        with ir.InsertionPoint(block):
            function = gpu.GPUFuncOp(
                ir.TypeAttr.get(ir.FunctionType.get(self.parameters(code), [])),
                symbol,
                kernel=True,
                known_block_size=[self.threads, 1, 1],
            )
        if not self.is_sum:
            occupancy = ir.IntegerAttr.get(code.i32, self.schedule.blocks_per_sm)
            function.attributes["nvvm.minctasm"] = occupancy
        self.mark(function)
        entry = function.add_entry_block()
        with ir.InsertionPoint(entry):
            self._body(code, list(entry.arguments))
            gpu.return_([])
        return self._launch(symbol)

    @property
    def threads(self) -> int:
        """Of a block."""
        return SUM_THREADS if self.is_sum else self.schedule.threads

    @property
    def elements(self) -> int:
        """Of the states of a part, of one block."""
        return part_elements(self.plan, self.schedule.warps, self.schedule.row_blocks)

    @property
    def pieces(self) -> int:
        """Blocks that add what one block leaves in each part."""
        return -(-self.elements // SUM_ELEMENTS)

    def _launch(self, symbol: str) -> GpuLaunch:
        tile, *rest = blocks_of_rows(self.plan, self.schedule)
        if self.is_sum:
            pieces = (self.pieces, tile, *rest)
            return GpuLaunch(symbol, SUM_THREADS, 0, (pieces,), least_parts=self.least_parts)
        grid = (tile, PART_COUNT, *rest) if self.is_part else (tile, *rest)
        return GpuLaunch(
            symbol,
            self.schedule.threads,
            self.arena.size,
            (grid,),
            self.schedule.blocks_per_sm,
            self.schedule.stays,
        )

    def mark(self, _function: ir.OpView) -> None:
        """Attributes of the function besides."""

    # -- parameters ------------------------------------------------------------------------------
    def _dynamic(self) -> list[str]:
        found = [axis.label for axis in self.signature.axes if axis.size is None]
        return [*found, PART_COUNT] if self.workspace else found

    def _pointers(self) -> int:
        """Wires, and the workspace."""
        return len(self.signature.wires) + (1 if self.workspace else 0)

    def parameters(self, code: Code) -> list[ir.Type]:
        """In the order of `runtime.gpu_kernel`."""
        strides = [
            label
            for wire in self.signature.wires
            for label in (wire.labels[:-1] if wire.unit_stride else wire.labels)
        ]
        pointers = [code.glob] * self._pointers()
        return [*pointers, *[code.i32] * len(self._dynamic()), *[code.i64] * len(strides)]

    def _body(self, code: Code, parameters: list[ir.Value]) -> None:
        pointers, rest = parameters[: self._pointers()], parameters[self._pointers() :]
        dynamic = self._dynamic()
        static = {x: n for x, n in self.plan.sizes.items() if n != diag.DYNAMIC}
        sizes: dict[str, Index] = {**static, **dict(zip(dynamic, rest, strict=False))}
        rest = rest[len(dynamic) :]
        strides = self._strides(rest)
        self.write(code, sizes, pointers, strides, rest)

    def write(
        self,
        code: Code,
        sizes: Mapping[str, Index],
        pointers: Sequence[ir.Value],
        strides: Sequence[Mapping[str, Index]],
        _rest: Sequence[ir.Value],
    ) -> None:
        """The body; `_rest` are the parameters behind sizes and strides."""
        block = TileBlock(self, code, sizes)
        memories = self.memories(block.frame, pointers, strides)
        block.run(memories, pointers[-1])

    def memories(
        self, frame: Frame, pointers: Sequence[ir.Value], strides: Sequence[Mapping[str, Index]]
    ) -> list[Memory]:
        """All wires."""
        return [
            Memory(frame, pointer, wire.dtype, wire.labels, stride)
            for pointer, wire, stride in zip(pointers, self.signature.wires, strides, strict=False)
        ]

    def store_result(
        self, frame: Frame, number: int, tile: Tile, target: Memory, only: Tile | None = None
    ) -> None:
        """Write a result, all rows or some."""
        store_tile(frame, tile, target, self.arena.results.get(number), only)

    def _strides(self, left: list[ir.Value]) -> list[Mapping[str, Index]]:
        """Of every wire, by label; takes them from the parameters."""
        found: list[Mapping[str, Index]] = []
        for wire in self.signature.wires:
            stride: dict[str, Index] = {}
            for label in wire.labels:
                unit = wire.unit_stride and label == wire.labels[-1]
                stride[label] = 1 if unit else left.pop(0)
            found.append(stride)
        return found


class TileBlock:
    """What one block does."""

    def __init__(
        self,
        function: TileFunction,
        code: Code,
        sizes: Mapping[str, Index],
        at: tuple[Index, Index] | None = None,
    ) -> None:
        """Find the block's position: tiles of rows are next to each other.

        `at` is (tile of rows, position of the grid) of a block that stays.
        """
        self.function, self.plan, self.schedule = function, function.plan, function.schedule
        self.sizes = sizes
        self.column_base: Index = 0
        tiles = code.ceil_div(sizes[self.plan.row], self.schedule.row_extent)
        self.piece, block = self._piece(code)
        tile, rest = at or self._tile(code, block, tiles)
        self.parts: Index = 1
        self.part: Index = 0
        if self.schedule.split:
            self.parts = sizes[PART_COUNT]
        if function.is_part:
            self.part, rest = code.rem(rest, self.parts), code.div(rest, self.parts)
        self.number = code.add(code.mul(rest, tiles), tile)
        self.count = tiles
        self.grid: dict[str, Index] = {}
        for label in reversed(self.plan.grid):
            self.grid[label], rest = code.rem(rest, sizes[label]), code.div(rest, sizes[label])
            self.count = code.mul(self.count, sizes[label])
        tile = tile if at else self._order(code, tile, tiles)
        self.row_base = code.mul(tile, self.schedule.row_extent)
        self.smem = llvm.AddressOfOp(code.shared, "shared").result
        self.frame = self.make_frame(code, code.thread())

    def _piece(self, code: Code) -> tuple[Index, Index]:
        """Which states the block adds, and the number of the block that left them."""
        block = code.block()
        if not self.function.is_sum:
            return 0, block
        pieces = self.function.pieces
        return code.rem(block, pieces), code.div(block, pieces)

    def make_frame(self, code: Code, thread: Index) -> Frame:
        """The block as its threads of tiles see it, numbered from 0."""
        frame = Frame(
            code,
            self.schedule,
            self.plan.row,
            self.sizes,
            self.grid,
            self.row_base,
            self.smem,
            code.index(thread),
            scratch=self.function.arena.scratch,
            packed=self.plan.packed,
        )
        for label, size in self.plan.sizes.items():
            if size != diag.DYNAMIC and label not in (*self.plan.grid, *self.plan.streamed):
                frame.spans[label] = Span(0, -(-size // 16) * 16, size)
        if self.plan.tiled is not None:
            extent, size = self.schedule.columns, self.sizes[self.plan.tiled]
            whole = isinstance(size, int) and size % extent == 0
            frame.spans[self.plan.tiled] = Span(self.column_base, extent, size, whole)
        return frame

    def _tile(self, code: Code, rest: Index, tiles: Index) -> tuple[Index, Index]:
        """The block's tile of rows, and what is left of its number; finds its tile of columns.

        With tiles of columns, blocks that run together share few tiles of either, in caches.
        """
        if self.plan.tiled is None:
            return code.rem(rest, tiles), code.div(rest, tiles)
        across = code.ceil_div(self.sizes[self.plan.tiled], self.schedule.columns)
        plane = code.mul(tiles, across)
        number, rest = code.rem(rest, plane), code.div(rest, plane)
        band = code.mul(across, _BAND)
        first = code.mul(code.div(number, band), _BAND)
        height = code.min(code.sub(tiles, first), _BAND)
        inside = code.rem(number, band)
        self.column_base = code.mul(code.div(inside, height), self.schedule.columns)
        return code.add(first, code.rem(inside, height)), rest

    def _order(self, code: Code, tile: Index, tiles: Index) -> Index:
        """Long rows first where they grow with the position: fewer blocks wait at the end."""
        return code.sub(code.sub(tiles, 1), tile) if self.plan.grows else tile

    def run(self, memories: Sequence[Memory], workspace: ir.Value) -> None:
        """The region, and the stores of what it returns."""
        if self.function.is_sum:
            self.states(self.frame, workspace).add_up(self.piece, self.parts)
            return
        body = diag.function_body(self.plan.kernel)
        staging = Staging(self.frame, self.plan, self.function.arena, memories)
        region = Region(self.frame, self.plan, staging, self._stream(workspace))
        region.places.update(zip(body.arguments, memories, strict=False))
        if not self.function.is_join:
            staging.start_fixed()
        if self.function.is_part:
            run_part(region, StreamLoop, self.part, self.states(self.frame, workspace))
        elif rare_stream(self.plan) is not None:
            self._store_rare(region, memories)
        else:
            self.store(region, region.run(body), memories)

    def _store_rare(self, region: Region, memories: Sequence[Memory]) -> None:
        """Write all rows as if none were rare, and those that are once more; see `rare_rows`."""
        code, body = self.frame.code, diag.function_body(self.plan.kernel)
        again, rare = region.nested(), []

        def skip(common: Region, op: ir.Operation) -> list[Tile]:
            (condition,) = op.operands
            tile = common.tile(condition)
            # now, at a barrier: what it is made of shall not wait for the results in registers
            rare.append((tile, any_row(self.frame, tile)))
            common.places[condition] = literal_tile(code, code.i1, False)
            return [literal_tile(code, code.f32, 0.0) for _ in op.results]

        def run(own: Region, op: ir.Operation) -> list[Tile]:
            own.places[op.operands[0]] = literal_tile(code, code.i1, True)
            return lower_stream(own, op)

        region.lower_stream = skip
        self.store(region, region.run(body), memories)
        ((only, wanted),) = rare

        def write() -> None:
            code.barrier()  # rows are written, and their place in shared memory may be taken
            again.lower_stream = run
            self.store(again, again.run(body), memories, only)

        code.when(wanted, write)

    def store(
        self,
        region: Region,
        results: Sequence[ir.Value],
        memories: Sequence[Memory],
        only: Tile | None = None,
    ) -> None:
        """Write what the region returns, all rows or some; last what leaves by shared memory."""
        targets = memories[len(self.function.signature.args) :]
        places = self.function.arena.results
        for number in sorted(range(len(results)), key=lambda x: x in places):
            tile = region.tile(results[number])
            self.function.store_result(region.frame, number, tile, targets[number], only)

    def _stream(self, workspace: ir.Value) -> StreamLowering:
        if not self.function.is_join:
            return lower_stream
        states, left = self.states(self.frame, workspace), self._left(self.frame.code)
        return lambda region, op: join_parts(region, op, left, states)

    def _left(self, code: Code) -> Index:
        """How many parts there are to join."""
        least = self.function.least_parts
        if not least:
            return self.parts
        return arith.select(code.less(self.parts, least), self.parts, code.index(1))

    def states(self, frame: Frame, workspace: ir.Value) -> PartStates:
        """The block's place in the workspace, as the threads of a frame use it."""
        return PartStates(frame, workspace, self.number, self.count, self.function.elements)
