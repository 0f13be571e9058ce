"""A kernel as a gpu.module of tiles: parameters, position of the block, region, stores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from diagc.dialects import diag
from diagc.mlir import gpu, ir, llvm
from diagc.runtime.gpu_kernel import Factor, GpuLaunch
from diagc.runtime.signature import KernelSignature
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import SHARED_MEMORY, attach_arch
from diagc.targets.nvptx.tiles.arena import Arena, lay_out
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.epilogue import store_tile
from diagc.targets.nvptx.tiles.frame import Frame, Span
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.plan import Plan, make_plan
from diagc.targets.nvptx.tiles.regions import Region
from diagc.targets.nvptx.tiles.schedule import TileSchedule, candidates, choose_schedule
from diagc.targets.nvptx.tiles.staging import Staging
from diagc.targets.nvptx.tiles.streams import lower_stream

__all__ = ["lower_tiles", "tile_schedules"]

_EMPTY = (
    f"module attributes {{gpu.container_module}} {{ gpu.module @kernels {{ {SHARED_MEMORY} }} }}"
)


def tile_schedules(kernel: ir.Operation, arch: GpuArch) -> Iterator[TileSchedule]:
    """Tile sizes for a kernel, the best first.

    Raises:
        UnsupportedError: the kernel does not fit into tiles; the reason says what and where.
    """
    return candidates(make_plan(kernel, kernel_signature(kernel)), arch)


def lower_tiles(
    kernel: ir.Operation,
    arch: GpuArch,
    symbol: str = "kernel",
    schedule: TileSchedule | None = None,
) -> GpuModule:
    """Lower a kernel function to tiles of rows.

    Args:
        kernel: a function of diag ops, with the attribute `diag.kernel`.
        arch: what it is compiled for.
        symbol: name of the function.
        schedule: tile sizes; chosen from the axes by default.

    Raises:
        UnsupportedError: the kernel does not fit into tiles; the reason says what and where.
    """
    signature = kernel_signature(kernel, symbol)
    plan = make_plan(kernel, signature)
    schedule = schedule or choose_schedule(plan, arch)
    arena = lay_out(plan, schedule)
    with kernel.context, ir.Location.unknown():
        module = ir.Module.parse(_EMPTY)
        attach_arch(module, arch)
        _Function(module, plan, schedule, arena).emit(symbol)
    launch = GpuLaunch(
        symbol,
        schedule.threads,
        arena.size,
        (_grid(plan, schedule),),
        schedule.blocks_per_sm,
    )
    return GpuModule(module, signature, (launch,))


def _grid(plan: Plan, schedule: TileSchedule) -> tuple[Factor, ...]:
    """One block per tile of rows and position of the grid's axes; all along x."""
    return ((plan.row, schedule.rows), *reversed(plan.grid))


@dataclass
class _Function:
    """Writes one function."""

    module: ir.Module
    plan: Plan
    schedule: TileSchedule
    arena: Arena

    @property
    def signature(self) -> KernelSignature:
        return self.plan.signature

    def emit(self, symbol: str) -> None:
        """The function with its body."""
        code = Code()
        block = next(iter(self.module.body.operations)).operation.regions[0].blocks[0]
        with ir.InsertionPoint(block):
            function = gpu.GPUFuncOp(
                ir.TypeAttr.get(ir.FunctionType.get(self._parameters(code), [])),
                symbol,
                kernel=True,
                known_block_size=[self.schedule.threads, 1, 1],
            )
        function.attributes["nvvm.minctasm"] = ir.IntegerAttr.get(
            code.i32, self.schedule.blocks_per_sm
        )
        entry = function.add_entry_block()
        with ir.InsertionPoint(entry):
            self._body(code, list(entry.arguments))
            gpu.return_([])

    # -- parameters ------------------------------------------------------------------------------
    def _dynamic(self) -> list[str]:
        return [axis.label for axis in self.signature.axes if axis.size is None]

    def _parameters(self, code: Code) -> list[ir.Type]:
        """In the order of `runtime.gpu_kernel`."""
        strides = [
            label
            for wire in self.signature.wires
            for label in (wire.labels[:-1] if wire.unit_stride else wire.labels)
        ]
        pointers = [code.glob] * len(self.signature.wires)
        return [*pointers, *[code.i32] * len(self._dynamic()), *[code.i64] * len(strides)]

    def _body(self, code: Code, parameters: list[ir.Value]) -> None:
        wires = self.signature.wires
        pointers, rest = parameters[: len(wires)], parameters[len(wires) :]
        dynamic = self._dynamic()
        sizes: dict[str, Index] = {
            axis.label: axis.size for axis in self.signature.axes if axis.size is not None
        }
        sizes |= dict(zip(dynamic, rest, strict=False))
        strides = self._strides(rest[len(dynamic) :])
        frame = self._frame(code, self._all_sizes(sizes))
        memories = [
            Memory(frame, pointer, wire.dtype, wire.labels, stride)
            for pointer, wire, stride in zip(pointers, wires, strides, strict=True)
        ]
        self._region(frame, memories)

    def _strides(self, rest: Sequence[ir.Value]) -> list[Mapping[str, Index]]:
        left = list(rest)
        found: list[Mapping[str, Index]] = []
        for wire in self.signature.wires:
            stride: dict[str, Index] = {}
            for label in wire.labels:
                unit = wire.unit_stride and label == wire.labels[-1]
                stride[label] = 1 if unit else left.pop(0)
            found.append(stride)
        return found

    def _all_sizes(self, sizes: Mapping[str, Index]) -> dict[str, Index]:
        """Static sizes of labels that only appear inside, too."""
        known = {x: n for x, n in self.plan.sizes.items() if n != diag.DYNAMIC}
        return {**known, **sizes}

    # -- the block -------------------------------------------------------------------------------
    def _frame(self, code: Code, sizes: Mapping[str, Index]) -> Frame:
        smem = llvm.AddressOfOp(code.shared, "shared").result
        thread, rest = code.thread(), code.block()
        tiles = code.ceil_div(sizes[self.plan.row], self.schedule.rows)
        tile, left = code.rem(rest, tiles), code.div(rest, tiles)
        grid: dict[str, Index] = {}
        for label in reversed(self.plan.grid):
            grid[label], left = code.rem(left, sizes[label]), code.div(left, sizes[label])
        frame = Frame(
            code,
            self.schedule,
            self.plan.row,
            sizes,
            grid,
            code.mul(self._order(code, tile, tiles), self.schedule.rows),
            smem,
            thread,
            scratch=self.arena.scratch,
        )
        for label, size in self.plan.sizes.items():
            if size != diag.DYNAMIC and label not in (*self.plan.grid, *self.plan.streamed):
                frame.spans[label] = Span(0, -(-size // 16) * 16, size)
        return frame

    def _order(self, code: Code, tile: Index, tiles: Index) -> Index:
        """Long rows first where they grow with the position: fewer blocks wait at the end."""
        grows = any("diag.upper" in op.attributes for op in self.plan.streams())
        return code.sub(code.sub(tiles, 1), tile) if grows else tile

    def _region(self, frame: Frame, memories: Sequence[Memory]) -> None:
        body = diag.function_body(self.plan.kernel)
        staging = Staging(frame, self.plan, self.arena, memories)
        region = Region(frame, self.plan, staging, lower_stream)
        region.places.update(zip(body.arguments, memories, strict=False))
        staging.start_fixed()
        results = region.run(body)
        targets = memories[len(self.signature.args) :]
        for value, target in zip(results, targets, strict=True):
            store_tile(frame, region.tile(value), target)
