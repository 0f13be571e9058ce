"""Global memory traffic of a kernel on threads, worked out on its loops before they become code.

Counted is what lanes ask for: each load of each thread, though lanes that read one element are
served by one sector, and threads beyond the end of an axis, which read its last element again. A
thread reads an array again for every position that it holds and for every turn of a loop: that is
what differs from kernel to kernel, so the loads and loops of the lowered kernel are counted, with
the bounds that each block has. Nothing is compiled or run.

Arrays are taken to be contiguous and to begin at a multiple of 16 bytes. Streams with a condition
(results that are worked out again where precision was lost) run rarely.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from diagc.cost import Traffic
from diagc.dialects import diag
from diagc.mlir import ir, passmanager
from diagc.runtime.factors import element_count
from diagc.runtime.gpu_kernel import GpuLaunch, grid_of
from diagc.runtime.signature import DTYPES, KernelSignature
from diagc.targets.nvptx.arch import GpuArch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.threads.lower import lower_threads, stride_labels
from diagc.targets.nvptx.threads.parts import split_results
from diagc.targets.nvptx.threads.schedule import choose_schedule
from diagc.targets.nvptx.threads.splits import needed_states, shared_stream

__all__ = ["thread_traffic"]

_BLOCKS, _MOST_BLOCKS = 1 << 16, 1 << 17
"""Blocks of the grid that are worked out at a time, and at all where bounds differ: two seconds."""

Numbers = Any
"""An int, or an array of them, one for each block."""


def thread_traffic(
    kernel: ir.Operation, arch: GpuArch, sizes: Mapping[str, int], *, rare: bool = False
) -> Traffic | None:
    """Bytes that all launches of a kernel move.

    None where loads depend on data, or too many blocks have bounds of their own.

    Args:
        kernel: the function of diag ops.
        arch: the GPU's.
        sizes: of the axes that are open, by label.
        rare: whether streams with a condition run.

    Raises:
        UnsupportedError: an op that has no rule.
        LoweringError: what a block keeps does not fit shared memory.
    """
    with kernel.context, ir.Location.unknown():
        built = lower_threads(kernel, arch)
        passmanager.PassManager.parse("builtin.module(canonicalize, cse)").run(
            built.module.operation
        )
        given = _all_sizes(built.signature, sizes)
        functions = _functions(built)
        try:
            read = sum(
                _read(functions[launch.symbol], built, launch, given, rare=rare)
                for launch in built.launches
            )
        except _Unknown:
            return None
        wires = built.signature.results
        results = sum(prod(given[x] for x in wire.labels) * DTYPES[wire.dtype] for wire in wires)
        return Traffic(read, results + _states(kernel, built, given))


def _states(kernel: ir.Operation, built: GpuModule, sizes: Mapping[str, int]) -> int:
    """Bytes of the states of parts that are written: those at positions that exist."""
    scratch, found = iter(built.workspaces), 0
    for part in split_results(kernel):
        schedule = choose_schedule(kernel, part)
        stream = shared_stream(kernel, part) if schedule.parts > 1 else None
        if stream is None:
            continue
        arguments = stream.regions[1].blocks[0].arguments
        for number in needed_states(stream, part):
            memory = next(scratch)
            count = element_count(memory.size, sizes)
            if schedule.tile in diag.labels(arguments[number]):
                size, extent = sizes[schedule.tile], schedule.tile_extent
                count = count * size // max(-(-size // extent) * extent, 1)
            found += count * DTYPES[memory.dtype]
    return found


def _all_sizes(signature: KernelSignature, sizes: Mapping[str, int]) -> dict[str, int]:
    return {a.label: sizes[a.label] if a.size is None else a.size for a in signature.axes}


def _functions(built: GpuModule) -> dict[str, ir.Operation]:
    (holder,) = built.module.body.operations
    found = [op.operation for op in holder.operation.regions[0].blocks[0].operations]
    kernels = [op for op in found if op.name == "gpu.func"]
    return {ir.StringAttr(op.attributes["sym_name"]).value: op for op in kernels}


def _read(
    function: ir.Operation,
    built: GpuModule,
    launch: GpuLaunch,
    sizes: Mapping[str, int],
    *,
    rare: bool,
) -> int:
    """Bytes that all threads of a launch read."""
    entry = function.regions[0].blocks[0]
    known = dict(zip(entry.arguments, _parameters(built, sizes), strict=True))
    blocks = prod(grid_of(launch, sizes))
    if not blocks:
        return 0
    try:
        count = _Count(dict(known), rare, {"nctaid.x": blocks})
        count.block(entry, np.array([blocks]))
        return count.read * launch.threads
    except _Unknown as unknown:
        if unknown.root != "ctaid.x" or blocks > _MOST_BLOCKS:
            raise
    read = 0
    for start in range(0, blocks, _BLOCKS):  # blocks have bounds of their own
        numbers = np.arange(start, min(start + _BLOCKS, blocks))
        count = _Count(dict(known), rare, {"nctaid.x": blocks, "ctaid.x": numbers})
        count.block(entry, np.ones(len(numbers), np.int64))
        read += count.read
    return read * launch.threads


def _parameters(built: GpuModule, sizes: Mapping[str, int]) -> list[int]:
    """As the launcher passes them: pointers (to aligned memory), sizes, strides."""
    signature = built.signature
    found = [0] * (len(signature.wires) + len(built.workspaces))
    found += [sizes[axis.label] for axis in signature.axes if axis.size is None]
    for wire in signature.wires:
        shape = [sizes[label] for label in wire.labels]
        strides = {x: prod(shape[i + 1 :]) for i, x in enumerate(wire.labels)}
        found += [strides[label] for label in stride_labels(wire)]
    return found


class _Unknown(Exception):
    """A number that is not known: `root` is what it depends on."""

    def __init__(self, root: Any) -> None:
        super().__init__(str(root))
        self.root = root


@dataclass
class _Count:
    """Counts loads; numbers are worked out when a loop or a branch asks for them.

    Args:
        known: numbers of values.
        rare: whether a condition on data holds.
        registers: numbers of special registers.
        read: bytes that one thread of every block reads, all blocks together.
    """

    known: dict[ir.Value, Numbers]
    rare: bool
    registers: Mapping[str, Numbers]
    read: int = 0
    open_loops: list[ir.Value] = field(default_factory=list)

    def block(self, block: ir.Block, weight: np.ndarray[Any, Any]) -> None:
        """Count a block that every block of the grid enters `weight` times."""
        for item in block.operations:
            op = item.operation
            if op.name == "llvm.load":
                if _is_global(op):
                    self.read += int(weight.sum()) * _bytes(op.results[0].type)
            elif any(_loads(op)):
                if op.name not in _REGIONS:
                    raise _Unknown(op.name)
                _REGIONS[op.name](self, op, weight)

    def branch(self, op: ir.Operation, weight: np.ndarray[Any, Any]) -> None:
        """`scf.if`: each block of the grid takes one of both."""
        taken = np.asarray(self.number(op.operands[0])) != 0
        for region, chosen in zip(op.regions, (taken, ~taken), strict=True):
            for block in region.blocks:
                self.block(block, weight * chosen)

    def loop(self, op: ir.Operation, weight: np.ndarray[Any, Any]) -> None:
        """`scf.for`: all turns at once, or one by one where they differ."""
        low, high, step = (np.asarray(self.number(x)) for x in list(op.operands)[:3])
        turns = np.maximum(-((low - high) // step), 0)
        body = op.regions[0].blocks[0]
        counter, before = body.arguments[0], self.read
        self.open_loops.append(counter)
        known = self.known
        try:
            self.known = dict(known)
            self.block(body, weight * turns)
        except _Unknown as unknown:
            if unknown.root != counter:
                raise
            self.read = before
            for turn in range(int(turns.max(initial=0))):
                self.known = {**known, counter: low + turn * step}
                self.block(body, weight * (turn < turns))
        finally:
            self.known = known
            self.open_loops.pop()

    # -- numbers -----------------------------------------------------------------------------------
    def number(self, value: ir.Value) -> Numbers:
        """A number of the launch, one for each block where they differ.

        Raises:
            _Unknown: it depends on a loop's counter, on the thread or on data.
        """
        if value not in self.known:
            if isinstance(value.owner, ir.Block):
                raise _Unknown(value)
            self.known[value] = self._compute(value.owner.operation)
        return self.known[value]

    def _compute(self, op: ir.Operation) -> Numbers:
        if op.name.startswith("nvvm.read.ptx.sreg."):
            name = op.name.removeprefix("nvvm.read.ptx.sreg.")
            if name not in self.registers:
                raise _Unknown(name)
            return self.registers[name]
        if op.name == "arith.constant":
            return ir.IntegerAttr(op.attributes["value"]).value
        if op.name == "arith.cmpi":
            rule = _PREDICATES[ir.IntegerAttr(op.attributes["predicate"]).value]
        elif op.name == "arith.select":
            return self._select(op)
        elif op.name in _RULES:
            rule = _RULES[op.name]
        else:
            raise _Unknown(op.name)
        return rule(*(self.number(operand) for operand in op.operands))

    def _select(self, op: ir.Operation) -> Numbers:
        """A condition on data is whether a stream runs that does so rarely."""
        condition, yes, no = op.operands
        try:
            chosen = self.number(condition)
        except _Unknown as unknown:
            if unknown.root in self.open_loops or unknown.root == "ctaid.x":
                raise
            return self.number(yes if self.rare else no)
        return np.where(np.asarray(chosen) != 0, self.number(yes), self.number(no))


def _loads(op: ir.Operation) -> Iterator[ir.Operation]:
    """Loads inside of an op."""
    for region in op.regions:
        for block in region.blocks:
            for item in block.operations:
                inner = item.operation
                if inner.name == "llvm.load" and _is_global(inner):
                    yield inner
                yield from _loads(inner)


def _is_global(load: ir.Operation) -> bool:
    return str(load.operands[0].type) == "!llvm.ptr<1>"


def _bytes(type_: ir.Type) -> int:
    if isinstance(type_, ir.VectorType):
        return int(prod(type_.shape)) * _bytes(type_.element_type)
    return (int(type_.width) + 7) // 8


_REGIONS: Mapping[str, Callable[[_Count, ir.Operation, Any], None]] = {
    "scf.if": _Count.branch,
    "scf.for": _Count.loop,
}

_PREDICATES: tuple[Callable[..., Numbers], ...] = (
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.less, np.less_equal, np.greater, np.greater_equal),
)
"""By number of `arith.CmpIPredicate`; sizes and positions are not negative."""

_RULES: Mapping[str, Callable[..., Numbers]] = {
    "arith.addi": np.add,
    "arith.subi": np.subtract,
    "arith.muli": np.multiply,
    "arith.divui": np.floor_divide,
    "arith.remui": np.remainder,
    "arith.floordivsi": np.floor_divide,
    "arith.ceildivui": lambda a, b: -(-a // b),
    "arith.minsi": np.minimum,
    "arith.maxsi": np.maximum,
    "arith.andi": np.bitwise_and,
    "arith.ori": np.bitwise_or,
    "arith.extsi": lambda a: a,
    "arith.extui": lambda a: a,
    "arith.trunci": lambda a: a,
    "llvm.ptrtoint": lambda a: a,
}
