"""Lowering of one kernel to a gpu.module: parameters, blocks, groups of threads, two widths.

Where vector accesses are possible, the body is emitted twice, and the test whether everything is
aligned chooses one for all threads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from diagc.dialects import diag
from diagc.errors import LoweringError
from diagc.mlir import arith, gpu, ir
from diagc.runtime.gpu_kernel import GpuLaunch, Workspace
from diagc.runtime.signature import KernelSignature, Wire
from diagc.targets.elementwise.code import Index
from diagc.targets.kernel_signature import kernel_signature, with_aliases
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import SHARED_MEMORY, attach_arch
from diagc.targets.nvptx.symbols import JOIN, PARTS, entry_symbol, numbered
from diagc.targets.nvptx.threads.code import WARP, GpuCode
from diagc.targets.nvptx.threads.evaluate import Evaluator, SharedMemory
from diagc.targets.nvptx.threads.layout import Frame, Pos, Span
from diagc.targets.nvptx.threads.parts import Part, link_streams, split_results
from diagc.targets.nvptx.threads.regions import Regions
from diagc.targets.nvptx.threads.schedule import SimtSchedule, choose_schedule
from diagc.targets.nvptx.threads.splits import (
    Split,
    needed_states,
    shared_stream,
    state_workspaces,
)
from diagc.targets.nvptx.threads.wires import GlobalWire

__all__ = ["lower_threads", "stride_labels"]

MODULE = "kernels"


def lower_threads(kernel: ir.Operation, arch: GpuArch) -> GpuModule:
    """A module of upstream ops that holds the kernel.

    Raises:
        UnsupportedError: an op that has no rule.
        LoweringError: what a block keeps does not fit shared memory.
    """
    signature = kernel_signature(kernel, entry_symbol(kernel))
    launches: list[GpuLaunch] = []
    workspaces: list[Workspace] = []
    found = split_results(kernel)
    streams = [_shared(kernel, part) for part in found]
    count = sum(len(needed_states(s, p)) for s, p in zip(streams, found, strict=True) if s)
    with kernel.context, kernel.location:
        module = ir.Module.parse(f"module {{ gpu.module @{MODULE} {{ {SHARED_MEMORY} }} }}")
        attach_arch(module, arch)
        for number, (part, stream) in enumerate(zip(found, streams, strict=True)):
            symbol = numbered(signature.symbol, number)
            emitter = _Emitter(kernel, part, choose_schedule(kernel, part), signature, symbol)
            emitter.stream, emitter.scratch = stream, (len(workspaces), count)
            launches += _emit_launches(emitter, module, arch)
            workspaces += emitter.workspaces()
    return GpuModule(module, signature, tuple(launches), tuple(workspaces))


def _shared(kernel: ir.Operation, part: Part) -> ir.Operation | None:
    """The stream that blocks of a launch share, if they do."""
    shares = choose_schedule(kernel, part).parts > 1
    return shared_stream(kernel, part) if shares else None


def _emit_launches(emitter: "_Emitter", module: ir.Module, arch: GpuArch) -> list[GpuLaunch]:
    """Add the functions of one launch, or of two, where the second joins what blocks shared."""
    if emitter.stream is None:
        return [_emit_launch(emitter, module, arch)]
    symbol = emitter.symbol
    emitter.symbol = f"{symbol}{PARTS}"
    first = _emit_launch(emitter, module, arch)
    emitter.symbol, emitter.joins = f"{symbol}{JOIN}", True
    schedule = emitter.schedule
    second = _emit_launch(emitter, module, arch)
    if emitter.schedule != schedule:
        raise LoweringError("the launch that joins parts needs more memory than they did")
    return [first, second]


def _emit_launch(emitter: "_Emitter", module: ir.Module, arch: GpuArch) -> GpuLaunch:
    """Add one function; smaller tiles where memory does not suffice."""
    while True:
        function, shared = emitter.emit(module)
        schedule = emitter.schedule
        if shared <= arch.block_shared_bytes:
            parts = () if emitter.stream is None or emitter.joins else (schedule.parts,)
            grid = (*parts, *schedule.blocks)
            claim = schedule.blocks_per_sm
            return GpuLaunch(emitter.symbol, schedule.threads, shared, (grid,), claim)
        function.erase()
        smaller = _with_less_memory(schedule)
        if smaller is None:
            raise LoweringError(
                f"a block of the kernel needs {shared} bytes of shared memory",
                expected=f"at most {arch.block_shared_bytes} on {arch.name}",
                location=emitter.kernel.location,
            )
        emitter.schedule = smaller


def _with_less_memory(schedule: SimtSchedule) -> SimtSchedule | None:
    """A schedule whose blocks keep about half as much, if there is one."""
    if schedule.rows * schedule.group > WARP and schedule.rows > 1:
        return replace(schedule, rows=schedule.rows // 2)
    if any(size > 8 for _, size in schedule.chunks):
        halves = tuple((axis, max(size // 2, 8)) for axis, size in schedule.chunks)
        return replace(schedule, chunks=halves)
    return None


@dataclass
class _Emitter:
    """Emits the functions of a kernel.

    Args:
        kernel: the function of diag ops.
        part: what the launch makes.
        schedule: how it is laid out.
        signature: of the kernel.
        symbol: of the function.
        stream: the stream that blocks share, if they do.
        joins: whether this launch joins the parts.
        scratch: number of the launch's first workspace, and how many the kernel has.
    """

    kernel: ir.Operation
    part: Part
    schedule: SimtSchedule
    signature: KernelSignature
    symbol: str
    stream: ir.Operation | None = None
    joins: bool = False
    scratch: tuple[int, int] = (0, 0)

    def workspaces(self) -> list[Workspace]:
        """Scratch memory for what the blocks of this launch share."""
        if self.stream is None:
            return []
        arguments = self.stream.regions[1].blocks[0].arguments
        states = [arguments[i] for i in needed_states(self.stream, self.part)]
        extents = [self.schedule.rows * self._extent(state) for state in states]
        return state_workspaces(states, extents, self.schedule.parts, self.schedule.blocks)

    def _extent(self, value: ir.Value) -> int:
        """Positions of a value that one group has."""
        schedule = self.schedule
        fixed = {*schedule.grid, schedule.row}
        dims = {x: n for x, n in diag.dims(value).items() if x not in fixed}
        return prod(schedule.tile_extent if x == schedule.tile else n for x, n in dims.items())

    def emit(self, module: ir.Module) -> tuple[ir.Operation, int]:
        """Add the function to the module's gpu.module; gives it and bytes of shared memory."""
        self.code = GpuCode()
        body = next(iter(module.body.operations)).operation.regions[0].blocks[0]
        with ir.InsertionPoint(body):
            threads = [self.schedule.threads, 1, 1]
            type_ = ir.FunctionType.get(self._parameters(), [])
            function = gpu.GPUFuncOp(
                ir.TypeAttr.get(type_), self.symbol, kernel=True, known_block_size=threads
            )
            blocks = self.schedule.blocks_per_sm
            function.attributes["nvvm.minctasm"] = ir.IntegerAttr.get(self.code.i32, blocks)
            entry = function.add_entry_block()
        with ir.InsertionPoint(entry):
            shared = self._body(list(entry.arguments))
            gpu.return_([])
        return function.operation, shared

    # -- parameters --------------------------------------------------------------------------------
    def _parameters(self) -> list[ir.Type]:
        pointer = ir.Type.parse("!llvm.ptr<1>")
        count = len(self.signature.wires) + self.scratch[1]
        sizes = [axis for axis in self.signature.axes if axis.size is None]
        strides = [x for wire in self.signature.wires for x in stride_labels(wire)]
        return [pointer] * count + [self.code.i32] * len(sizes) + [self.code.i64] * len(strides)

    def _read_parameters(
        self, arguments: list[ir.Value]
    ) -> tuple[list[GlobalWire], Mapping[str, Index]]:
        rest = list(arguments)
        wires = self.signature.wires
        pointers = [rest.pop(0) for _ in wires]
        self.scratch_pointers = [rest.pop(0) for _ in range(self.scratch[1])]
        open_sizes = {a.label: rest.pop(0) for a in self.signature.axes if a.size is None}
        found: list[GlobalWire] = []
        values = [*diag.function_body(self.kernel).arguments, *self._returned()]
        for wire, pointer, value in zip(wires, pointers, values, strict=True):
            strides: dict[str, Index] = {x: rest.pop(0) for x in stride_labels(wire)}
            for label in wire.labels:
                strides.setdefault(label, 1)
            # results may have other names for the axes than the signature gives them
            labels = diag.labels(value)
            named = {x: strides[y] for x, y in zip(labels, wire.labels, strict=True)}
            found.append(GlobalWire(pointer, labels, named, diag.element_type(value)))
        sizes: dict[str, Index] = dict(with_aliases(self.kernel, self._sizes(open_sizes)))
        static = {axis.label: axis.size for axis in self.signature.axes if axis.size is not None}
        return found, {**sizes, **static}

    def _sizes(self, open_sizes: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        sizes = {a.label: a.size for a in self.signature.axes}
        return {
            label: open_sizes[label] if size is None else self.code.index(size)
            for label, size in sizes.items()
        }

    def _returned(self) -> list[ir.Value]:
        return list(self._ops()[-1].operands)

    def _ops(self) -> list[ir.Operation]:
        return [op.operation for op in diag.function_body(self.kernel).operations]

    # -- the body ----------------------------------------------------------------------------------
    def _body(self, arguments: list[ir.Value]) -> int:
        code, schedule = self.code, self.schedule
        wires, sizes = self._read_parameters(arguments)
        thread = code.register("tid.x")
        lane = arith.remui(thread, code.index(schedule.group))
        row = arith.divui(thread, code.index(schedule.group))
        fixed, spans, exists = self._place(sizes, row)
        shared = SharedMemory(schedule.rows)

        def emit(vector: int) -> None:
            along = {} if schedule.inner is None else {schedule.inner: vector}
            frame = Frame(
                code, schedule.group, lane, row, fixed, sizes, schedule.unrolled,
                self._order(wires), along, dict(spans),
            )  # fmt: skip
            self._emit(frame, wires, shared, thread, exists)

        aligned = self._aligned(wires, sizes)
        if aligned is None:
            emit(1)
        else:
            code.branch(aligned, lambda: emit(schedule.vector), lambda: emit(1))
        return shared.used

    def _emit(
        self,
        frame: Frame,
        wires: Sequence[GlobalWire],
        shared: SharedMemory,
        thread: ir.Value,
        exists: ir.Value | None,
    ) -> None:
        code, schedule = self.code, self.schedule
        ops = self._ops()
        arguments = list(diag.function_body(self.kernel).arguments)
        known = dict(zip(arguments, wires[: len(arguments)], strict=True))
        pointer = _shared_pointer()
        values = Evaluator(code, frame, known, shared, pointer, thread, link_streams(ops))
        results = wires[len(arguments) :]
        values.prepare_bases([*known.values(), *results])
        rows = None if schedule.row is None else (schedule.row, schedule.rows)
        chunks, needed = dict(schedule.chunks), self.part.needed
        regions = Regions(values, chunks, rows, exists, needed, self._split())
        regions.run(ops[:-1])
        for number in () if regions.ends else self.part.results:
            regions.store(self._returned()[number], results[number])

    def _order(self, wires: Sequence[GlobalWire]) -> list[str]:
        """Axes as they follow each other in the arrays, the innermost last."""
        order: list[str] = []
        for wire in sorted(wires, key=lambda wire: -len(wire.labels)):
            order += [label for label in wire.labels if label not in order]
        inner = self.schedule.inner
        return [x for x in order if x != inner] + ([inner] if inner is not None else [])

    def _place(
        self, sizes: Mapping[str, Index], row: ir.Value
    ) -> tuple[dict[str, Pos], dict[str, Span], ir.Value | None]:
        """Positions of the grid's axes, the last fastest."""
        code, schedule = self.code, self.schedule
        rest: Index = self._block()[1]
        fixed: dict[str, Pos] = {}
        spans: dict[str, Span] = {}
        exists: ir.Value | None = None
        if schedule.tile is not None:
            size = sizes[schedule.tile]
            digit, rest = self._digit(rest, code.ceil_div(size, schedule.tile_extent))
            base = code.mul(digit, schedule.tile_extent)
            spans[schedule.tile] = Span(base, schedule.tile_extent, size)
        if schedule.row is not None:
            size = sizes[schedule.row]
            digit, rest = self._digit(rest, code.ceil_div(size, schedule.rows))
            first = code.mul(digit, schedule.rows)
            whole = code.add(first, row)
            if not (isinstance(size, int) and size % schedule.rows == 0):
                exists = code.less(whole, size)
                whole = code.min(whole, code.sub(size, 1))
            fixed[schedule.row] = Pos(first, whole)
        for label in reversed(schedule.grid):
            digit, rest = self._digit(rest, sizes[label])
            fixed[label] = Pos(digit, digit)
        return fixed, spans, exists

    def _block(self) -> tuple[Index, Index, Index]:
        """Part of this block, its number among the blocks of that part, how many these are."""
        code, number = self.code, self.code.register("ctaid.x")
        if self.stream is None:
            return 0, number, 0
        blocks = code.register("nctaid.x")
        if self.joins:
            return 0, number, blocks
        blocks = arith.divui(blocks, code.index(self.schedule.parts))
        return arith.divui(number, blocks), arith.remui(number, blocks), blocks

    def _split(self) -> Split | None:
        if self.stream is None:
            return None
        part, block, blocks = self._block()
        first = self.scratch[0]
        count = len(needed_states(self.stream, self.part))
        pointers = tuple(self.scratch_pointers[first : first + count])
        schedule = self.schedule
        return Split(
            self.stream, schedule.parts, self.joins, pointers, part, block, blocks, schedule.rows
        )

    def _digit(self, number: Index, base: Index) -> tuple[Index, Index]:
        code = self.code
        if base == 1:
            return 0, number
        a, b = code.index(number), code.index(base)
        return arith.remui(a, b), arith.divui(a, b)

    # -- vectors -----------------------------------------------------------------------------------
    def _aligned(self, wires: Sequence[GlobalWire], sizes: Mapping[str, Index]) -> ir.Value | None:
        """Whether vectors may be used; None where they never are."""
        code, schedule = self.code, self.schedule
        width, inner = schedule.vector, schedule.inner
        if width == 1 or inner is None:
            return None
        size = sizes[inner]
        arguments = diag.function_body(self.kernel).arguments
        read = [w for value, w in zip(arguments, wires, strict=False) if value in self.part.needed]
        written = [wires[len(arguments) + number] for number in self.part.results]
        taken = [wire for wire in (*read, *written) if wire.unit == inner]
        if not taken or (isinstance(size, int) and size % width):
            return None
        found: ir.Value | None = None
        if not isinstance(size, int):
            rest = arith.remui(size, code.index(width))
            found = arith.cmpi(arith.CmpIPredicate.eq, rest, code.index(0))
        for wire in taken:
            found = code.both(found, wire.aligned(code, width))
        return found


def _shared_pointer() -> ir.Value:
    name = ir.FlatSymbolRefAttr.get("shared")
    op = ir.Operation.create(
        "llvm.mlir.addressof",
        results=[ir.Type.parse("!llvm.ptr<3>")],
        attributes={"global_name": name},
    )
    return op.results[0]


def stride_labels(wire: Wire) -> tuple[str, ...]:
    """Axes whose strides are parameters."""
    return wire.labels[:-1] if wire.unit_stride else wire.labels
