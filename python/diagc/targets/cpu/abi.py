"""The frame around a kernel's tasks: entry, worker threads, and access to arguments.

    llvm.func @<symbol>(%ctx)            counts the tasks, then runs the worker on every thread
    llvm.func internal @<symbol>.worker  takes tasks from the atomic counters until there are none
    func.func private @<symbol>.task     one task: its body is what the code generator emits

`%ctx` is the block of slots that `KernelSignature` lays out. One thread calls the worker directly,
several go through `GOMP_parallel(worker, ctx, threads, 0)` of the OpenMP run time that torch uses.

Each thread has an equal part of the tasks, in a row, and a counter for it. When its part is done it
takes tasks from the parts of the others. So the next call, and the next kernel over the same rows,
find in a core's cache what that core left there, and no thread waits for a slow one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

from diagc.mlir import arith, builtin, func, ir, llvm, scf
from diagc.runtime.signature import KernelSignature, Slot, Wire

__all__ = ["TaskContext", "build_entry", "element_type", "memref_type"]

_GOMP = "GOMP_parallel"
_THREAD_NUMBER = "omp_get_thread_num"
_INTERNAL = "#llvm.linkage<internal>"
_MONOTONIC = 2  # llvm.AtomicOrdering
_ADD = 1  # llvm.AtomicBinOp
_LINE = 8  # slots of a cache line: each counter has one of its own
_DYNAMIC = -(2**31)  # in the indices of llvm.getelementptr: an operand
# in memory: one byte for a bool, 64 bits for an index; narrow floats are bits, because LLVM splits
# masked accesses of them into calls of conversion functions where the CPU lacks the type
_MEMORY_TYPES = {
    "i1": "i8",
    "ui8": "i8",
    "index": "i64",
    "bf16": "i16",
    "f16": "i16",
    "f8E4M3FN": "i8",
}


@dataclass(frozen=True)
class TaskContext:
    """What the body of a task can read; all values dominate the body.

    Args:
        signature: of the kernel.
        task: number of this task, an index below the task count.
        sizes: the size of every axis (index; a constant for static axes).
        pointers: data pointer of every wire (`!llvm.ptr`), arguments first.
        strides: for every wire, the stride in elements along each of its labels (index).
        memrefs: every wire as a memref of type `memref_type`.
    """

    signature: KernelSignature
    task: ir.Value
    sizes: Mapping[str, ir.Value]
    pointers: tuple[ir.Value, ...]
    strides: tuple[Mapping[str, ir.Value], ...]
    memrefs: tuple[ir.Value, ...]

    def memref(self, name: str) -> ir.Value:
        """The wire of this name as a memref."""
        names = [wire.name for wire in self.signature.wires]
        return self.memrefs[names.index(name)]


CountTasks = Callable[[Mapping[str, ir.Value]], ir.Value]
EmitTask = Callable[[TaskContext], None]


def element_type(dtype: str) -> ir.Type:
    """Element type in memory: i8 for `i1` (0 or 1), i64 for `index`, i16 for 16-bit floats."""
    return ir.Type.parse(_MEMORY_TYPES.get(dtype, dtype))


def memref_type(signature: KernelSignature, wire: Wire) -> ir.MemRefType:
    """`memref<?x64xf32, strided<[?, 1], offset: ?>>`: static sizes of static axes, dynamic strides.

    The innermost stride is 1 when the wire says `unit_stride`.
    """
    dynamic = ir.ShapedType.get_dynamic_stride_or_offset()
    sizes = [signature.static_sizes[label] for label in wire.labels]
    shape = [ir.ShapedType.get_dynamic_size() if size is None else size for size in sizes]
    strides = [dynamic] * len(shape)
    if wire.unit_stride and strides:
        strides[-1] = 1
    layout = ir.StridedLayoutAttr.get(dynamic, strides)
    return ir.MemRefType.get(shape, element_type(wire.dtype), layout)


def build_entry(
    module: ir.Module,
    signature: KernelSignature,
    count_tasks: CountTasks,
    emit_task: EmitTask,
    joined: Sequence[str] = (),
) -> None:
    """Append a kernel to a module; needs an ambient Location.

    Args:
        module: gets the three functions, and the declaration of GOMP_parallel.
        signature: interface of the kernel.
        count_tasks: emits the number of tasks (index) from the sizes (label to index value).
        emit_task: emits the body of one task; the terminator is added after it.
        joined: axes of every wire, slowest first, that run as the last one where memory is dense.
    """
    with ir.InsertionPoint(module.body):
        _declare_openmp(module)
        _build_task(signature, emit_task)
        _build_worker(signature)
        _build_main(signature, count_tasks, joined)


def _declare_openmp(module: ir.Module) -> None:
    if _GOMP in ir.SymbolTable(module.operation):
        return
    _llvm_func(_GOMP, "void (ptr, ptr, i32, i32)", sym_visibility="private")
    _llvm_func(_THREAD_NUMBER, "i32 ()", sym_visibility="private")


def _llvm_func(name: str, function_type: str, **attributes: object) -> llvm.LLVMFuncOp:
    function = ir.TypeAttr.get(ir.Type.parse(f"!llvm.func<{function_type}>"))
    return llvm.LLVMFuncOp(name, function, **attributes)


def _pointer() -> ir.Type:
    return ir.Type.parse("!llvm.ptr")


def _i64() -> ir.Type:
    return ir.IntegerType.get_signless(64)


def _index(value: ir.Value) -> ir.Value:
    return arith.index_cast(ir.IndexType.get(), value)


def _gep(base: ir.Value, dynamic: list[ir.Value], indices: ir.Attribute) -> ir.Value:
    """An address so many slots behind `base`."""
    return llvm.GEPOp(_pointer(), base, dynamic, indices, ir.TypeAttr.get(_i64()), 0).result


class _Block:
    """Reads and writes the slots of one `ctx` value at the current insertion point."""

    def __init__(self, ctx: ir.Value) -> None:
        self.ctx = ctx

    def address(self, slot: int) -> ir.Value:
        return _gep(self.ctx, [], ir.DenseI32ArrayAttr.get([slot]))

    def load(self, slot: int, slot_type: ir.Type | None = None) -> ir.Value:
        return llvm.LoadOp(slot_type or _i64(), self.address(slot)).result

    def store(self, slot: int, value: ir.Value) -> None:
        llvm.StoreOp(value, self.address(slot))

    def sizes(self, signature: KernelSignature) -> dict[str, ir.Value]:
        """The size of every axis as an index; a constant for static ones."""
        return {
            axis.label: _index(self.load(signature.slot_of_size(axis.label)))
            if axis.size is None
            else arith.constant(ir.IndexType.get(), axis.size)
            for axis in signature.axes
        }


def _build_task(signature: KernelSignature, emit_task: EmitTask) -> None:
    function_type = ir.FunctionType.get([_pointer(), ir.IndexType.get()], [])
    task = func.FuncOp(f"{signature.symbol}.task", function_type, visibility="private")
    task.attributes["llvm.linkage"] = ir.Attribute.parse(_INTERNAL)
    entry = task.add_entry_block()
    with ir.InsertionPoint(entry):
        emit_task(_task_context(signature, _Block(entry.arguments[0]), entry.arguments[1]))
        func.return_([])


def _task_context(signature: KernelSignature, block: _Block, task: ir.Value) -> TaskContext:
    pointers, strides, memrefs = [], [], []
    for i, wire in enumerate(signature.wires):
        pointers.append(block.load(signature.slot_of_pointer(i), _pointer()))
        steps = [block.load(signature.slot_of_stride(i, label)) for label in wire.labels]
        strides.append(dict(zip(wire.labels, map(_index, steps), strict=True)))
        sizes = [block.load(signature.slot_of_size(label)) for label in wire.labels]
        memrefs.append(_memref(memref_type(signature, wire), pointers[-1], sizes, steps))
    return TaskContext(
        signature, task, block.sizes(signature), tuple(pointers), tuple(strides), tuple(memrefs)
    )


def _memref(
    memref_type: ir.MemRefType, pointer: ir.Value, sizes: list[ir.Value], strides: list[ir.Value]
) -> ir.Value:
    """Build a descriptor: allocated and aligned pointer, offset, sizes, strides."""
    rank = len(sizes)
    arrays = f", array<{rank} x i64>, array<{rank} x i64>" if rank else ""
    descriptor = llvm.UndefOp(ir.Type.parse(f"!llvm.struct<(ptr, ptr, i64{arrays})>")).result
    zero = arith.constant(_i64(), 0)
    fields: list[tuple[tuple[int, ...], ir.Value]]
    fields = [((0,), pointer), ((1,), pointer), ((2,), zero)]
    fields += [((3, i), size) for i, size in enumerate(sizes)]
    fields += [((4, i), stride) for i, stride in enumerate(strides)]
    for position, value in fields:
        where = ir.DenseI64ArrayAttr.get(list(position))
        descriptor = llvm.InsertValueOp(descriptor, value, where).result
    return builtin.unrealized_conversion_cast([memref_type], [descriptor])


def _build_worker(signature: KernelSignature) -> None:
    worker = _llvm_func(
        f"{signature.symbol}.worker",
        "void (ptr)",
        linkage=ir.Attribute.parse(_INTERNAL),
        # called from two places: inlined, all code of the kernel would be compiled twice
        passthrough=ir.ArrayAttr.get([ir.StringAttr.get("noinline")]),
    )
    entry = worker.body.blocks.append(_pointer())
    with ir.InsertionPoint(entry):
        _work(signature, _Block(entry.arguments[0]))
        llvm.ReturnOp()


def _work(signature: KernelSignature, block: _Block) -> None:
    """Do the tasks of the thread's own part, then those that are left of the parts behind it."""
    parts = _Parts(block)
    own, threads = _thread_number(parts.threads), _index(parts.threads)
    with _loop(threads) as step:
        part = arith.remui(arith.addi(own, step), threads)
        counter, end = parts.counter(part), parts.start(_next(part))
        loop = scf.WhileOp([_i64()], [arith.constant(_i64(), 0)])
        with ir.InsertionPoint(loop.before.blocks.append(_i64())):
            task = _take(counter)
            scf.condition(arith.cmpi(arith.CmpIPredicate.slt, task, end), [task])
        after = loop.after.blocks.append(_i64())
        with ir.InsertionPoint(after):
            task = after.arguments[0]
            func.call([], f"{signature.symbol}.task", [block.ctx, _index(task)])
            scf.yield_([task])


class _Parts:
    """The equal parts of the tasks: where each starts, and the counters."""

    def __init__(self, block: _Block) -> None:
        self.threads = block.load(Slot.THREADS)
        self._tasks = block.load(Slot.TASKS)
        self._counters = block.load(Slot.COUNTERS, _pointer())

    def start(self, part: ir.Value) -> ir.Value:
        """The first task of a part; part `threads` starts where the last one ends."""
        return arith.divui(arith.muli(_i64_of(part), self._tasks), self.threads)

    def counter(self, part: ir.Value) -> ir.Value:
        """Where the counter of a part lies: the next task that nobody took."""
        slot = arith.muli(_i64_of(part), arith.constant(_i64(), _LINE))
        indices = ir.DenseI32ArrayAttr.get([_DYNAMIC])
        return _gep(self._counters, [slot], indices)


def _thread_number(threads: ir.Value) -> ir.Value:
    """This thread's number, 0 where the kernel runs on one thread, which knows no OpenMP."""
    several = arith.cmpi(arith.CmpIPredicate.sgt, threads, arith.constant(_i64(), 1))
    branch = scf.IfOp(several, [ir.IndexType.get()], has_else=True)
    with ir.InsertionPoint(branch.then_block):
        i32 = ir.IntegerType.get_signless(32)
        number = llvm.CallOp(i32, [], [], [], callee=_THREAD_NUMBER).result
        scf.yield_([_index(number)])
    with ir.InsertionPoint(branch.else_block):
        scf.yield_([arith.constant(ir.IndexType.get(), 0)])
    return branch.results[0]


def _take(counter: ir.Value) -> ir.Value:
    one = arith.constant(_i64(), 1)
    add, order = (ir.IntegerAttr.get(_i64(), value) for value in (_ADD, _MONOTONIC))
    return llvm.AtomicRMWOp(add, counter, one, order).res


@contextmanager
def _loop(count: ir.Value) -> Iterator[ir.Value]:
    """A loop from 0 to `count`, both indices; what is made inside is its body."""
    zero, one = (arith.constant(ir.IndexType.get(), value) for value in (0, 1))
    loop = scf.ForOp(zero, count, one)
    with ir.InsertionPoint(loop.body):
        yield loop.induction_variable
        scf.yield_([])


def _next(part: ir.Value) -> ir.Value:
    return arith.addi(part, arith.constant(ir.IndexType.get(), 1))


def _i64_of(index: ir.Value) -> ir.Value:
    return arith.index_cast(_i64(), index)


def _join_axes(signature: KernelSignature, block: _Block, joined: Sequence[str]) -> None:
    """Where all wires are dense along `joined`, the last axis gets all positions, others one."""
    sizes = {label: block.load(signature.slot_of_size(label)) for label in joined}
    dense = arith.constant(ir.IntegerType.get_signless(1), 1)
    for wire in range(len(signature.wires)):
        strides = [block.load(signature.slot_of_stride(wire, label)) for label in joined]
        for outer, inner, label in zip(strides, strides[1:], joined[1:], strict=False):
            follows = arith.cmpi(arith.CmpIPredicate.eq, outer, arith.muli(inner, sizes[label]))
            dense = arith.andi(dense, follows)
    total = reduce(arith.muli, sizes.values())
    for label, size in sizes.items():
        other = total if label == joined[-1] else arith.constant(_i64(), 1)
        block.store(signature.slot_of_size(label), arith.select(dense, other, size))


def _build_main(signature: KernelSignature, count_tasks: CountTasks, joined: Sequence[str]) -> None:
    main = _llvm_func(signature.symbol, "void (ptr)")
    entry = main.body.blocks.append(_pointer())
    with ir.InsertionPoint(entry):
        block = _Block(entry.arguments[0])
        if len(joined) > 1:
            _join_axes(signature, block, joined)
        tasks = arith.index_cast(_i64(), count_tasks(block.sizes(signature)))
        block.store(Slot.TASKS, tasks)
        threads = _part_tasks(block, tasks)
        several = arith.cmpi(arith.CmpIPredicate.sgt, threads, arith.constant(_i64(), 1))
        branch = scf.IfOp(several, has_else=True)
        with ir.InsertionPoint(branch.then_block):
            _call_gomp(signature, block.ctx, threads)
            scf.yield_([])
        with ir.InsertionPoint(branch.else_block):
            llvm.CallOp(None, [block.ctx], [], [], callee=f"{signature.symbol}.worker")
            scf.yield_([])
        llvm.ReturnOp()


def _part_tasks(block: _Block, tasks: ir.Value) -> ir.Value:
    """Write what the workers share; gives the number of threads, 1 to that of the tasks."""
    one = arith.constant(_i64(), 1)
    threads = arith.maxsi(arith.minsi(block.load(Slot.THREADS), tasks), one)
    block.store(Slot.THREADS, threads)
    slots = arith.muli(threads, arith.constant(_i64(), _LINE))
    counters = llvm.AllocaOp(_pointer(), slots, ir.TypeAttr.get(_i64()), alignment=8 * _LINE)
    block.store(Slot.COUNTERS, counters.result)
    parts = _Parts(block)
    with _loop(_index(threads)) as part:
        llvm.StoreOp(parts.start(part), parts.counter(part))
    return threads


def _call_gomp(signature: KernelSignature, ctx: ir.Value, threads: ir.Value) -> None:
    i32 = ir.IntegerType.get_signless(32)
    worker = llvm.AddressOfOp(_pointer(), f"{signature.symbol}.worker").result
    arguments = [worker, ctx, arith.trunci(i32, threads), arith.constant(i32, 0)]
    llvm.CallOp(None, arguments, [], [], callee=_GOMP)
