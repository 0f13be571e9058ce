"""Lowering of one kernel to a gpu.module: parameters, blocks, groups of threads, two widths.

Where vector accesses are possible, the body is emitted twice, and the test whether everything is
aligned chooses one for all threads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from diagc.dialects import diag
from diagc.errors import LoweringError
from diagc.mlir import arith, gpu, ir
from diagc.runtime.gpu_kernel import Factor, GpuLaunch
from diagc.runtime.signature import KernelSignature, Wire
from diagc.targets.elementwise.code import Index
from diagc.targets.kernel_signature import kernel_signature, with_aliases
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import SHARED_MEMORY, attach_arch
from diagc.targets.nvptx.threads.code import WARP, GpuCode
from diagc.targets.nvptx.threads.evaluate import Evaluator, SharedMemory
from diagc.targets.nvptx.threads.layout import Frame, Pos, Span
from diagc.targets.nvptx.threads.parts import Part, link_streams, split_results
from diagc.targets.nvptx.threads.regions import Regions
from diagc.targets.nvptx.threads.schedule import SimtSchedule, choose_schedule
from diagc.targets.nvptx.threads.wires import GlobalWire

__all__ = ["lower_threads"]

MODULE, SYMBOL = "kernels", "kernel"


def lower_threads(kernel: ir.Operation, arch: GpuArch) -> GpuModule:
    """A module of upstream ops that holds the kernel.

    Raises:
        UnsupportedError: an op that has no rule.
        LoweringError: what a block keeps does not fit shared memory.
    """
    signature = kernel_signature(kernel, SYMBOL)
    launches: list[GpuLaunch] = []
    with kernel.context, kernel.location:
        module = ir.Module.parse(f"module {{ gpu.module @{MODULE} {{ {SHARED_MEMORY} }} }}")
        attach_arch(module, arch)
        for number, part in enumerate(split_results(kernel)):
            symbol = SYMBOL if number == 0 else f"{SYMBOL}_{number}"
            launches.append(_emit_part(kernel, part, signature, arch, module, symbol))
    return GpuModule(module, signature, tuple(launches))


def _emit_part(
    kernel: ir.Operation,
    part: Part,
    signature: KernelSignature,
    arch: GpuArch,
    module: ir.Module,
    symbol: str,
) -> GpuLaunch:
    """Add the function of one launch; smaller tiles where memory does not suffice."""
    schedule: SimtSchedule | None = choose_schedule(kernel, part)
    while schedule is not None:
        emitter = _Emitter(kernel, part, schedule, signature, symbol)
        function, shared = emitter.emit(module)
        if shared <= arch.block_shared_bytes:
            claim = schedule.blocks_per_sm
            return GpuLaunch(symbol, schedule.threads, shared, (_grid(schedule),), claim)
        function.erase()
        schedule = _with_less_memory(schedule)
    raise LoweringError(
        f"a block of the kernel needs {shared} bytes of shared memory",
        expected=f"at most {arch.block_shared_bytes} on {arch.name}",
        location=kernel.location,
    )


def _with_less_memory(schedule: SimtSchedule) -> SimtSchedule | None:
    """A schedule whose blocks keep about half as much, if there is one."""
    if schedule.rows * schedule.group > WARP and schedule.rows > 1:
        return replace(schedule, rows=schedule.rows // 2)
    if any(size > 8 for _, size in schedule.chunks):
        halves = tuple((axis, max(size // 2, 8)) for axis, size in schedule.chunks)
        return replace(schedule, chunks=halves)
    return None


def _grid(schedule: SimtSchedule) -> tuple[Factor, ...]:
    factors: list[Factor] = list(schedule.grid)
    if schedule.row is not None:
        factors.append((schedule.row, schedule.rows))
    if schedule.tile is not None:
        factors.append((schedule.tile, schedule.tile_extent))
    return tuple(factors)


@dataclass
class _Emitter:
    """Emits the function of a kernel."""

    kernel: ir.Operation
    part: Part
    schedule: SimtSchedule
    signature: KernelSignature
    symbol: str

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
        count = len(self.signature.wires)
        sizes = [axis for axis in self.signature.axes if axis.size is None]
        strides = [x for wire in self.signature.wires for x in _stride_labels(wire)]
        return [pointer] * count + [self.code.i32] * len(sizes) + [self.code.i64] * len(strides)

    def _read_parameters(
        self, arguments: list[ir.Value]
    ) -> tuple[list[GlobalWire], Mapping[str, Index]]:
        rest = list(arguments)
        wires = self.signature.wires
        pointers = [rest.pop(0) for _ in wires]
        open_sizes = {a.label: rest.pop(0) for a in self.signature.axes if a.size is None}
        found: list[GlobalWire] = []
        values = [*diag.function_body(self.kernel).arguments, *self._returned()]
        for wire, pointer, value in zip(wires, pointers, values, strict=True):
            strides: dict[str, Index] = {x: rest.pop(0) for x in _stride_labels(wire)}
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
        regions = Regions(values, dict(schedule.chunks), rows, exists, self.part.needed)
        regions.run(ops[:-1])
        for number in self.part.results:
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
        rest: Index = code.register("ctaid.x")
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


def _stride_labels(wire: Wire) -> tuple[str, ...]:
    """Axes whose strides are parameters."""
    return wire.labels[:-1] if wire.unit_stride else wire.labels
