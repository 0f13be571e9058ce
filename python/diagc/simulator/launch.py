"""Runs one launch of a kernel on the CPU: `simulate`."""

import ctypes
import os
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diagc.errors import LaunchError
from diagc.simulator.buffers import Buffer, TensorMap
from diagc.simulator.describe import describe
from diagc.simulator.engine import LoadedProgram, load_program
from diagc.simulator.native import (
    NativeBuffer,
    NativeFinding,
    NativeLaunch,
    NativeTensorMap,
    load_runtime,
)
from diagc.simulator.report import Counters, Report

__all__ = ["Parameter", "SimulatorOptions", "simulate"]

_MAX_THREADS = 1024
_BUFFER_SPACE, _BUFFER_SHIFT = 1 << 62, 44  # kBufferSpace, kBufferShift in machine.h
_PAGE = 4096
_WARP = 32
_MAP_RANK = 5

_MAP_SPACE = 1 << 63  # kMapSpace

Parameter = Buffer | TensorMap | int | float


@dataclass(frozen=True)
class SimulatorOptions:
    """How a launch is simulated.

    Args:
        checking: keep shadow memory, which finds races, missing waits and unwritten reads, and
            counts traffic; about ten times slower.
        seed: order of warps; 0 runs each warp as far as it can, others choose at random.
        workers: threads of the host that share the grid; 0 for one a processor.
        step_limit: basic blocks that one thread may enter before its loop counts as endless.
        finding_limit: how many different findings are kept.
        environment: the special register `envreg0`, which no compiled kernel reads; a text may hold
            several kernels that differ in little, and choose by it.
        multiprocessors: of the device, which says how many blocks that stay are started.
    """

    checking: bool = True
    seed: int = 0
    workers: int = 0
    step_limit: int = 1 << 22
    finding_limit: int = 64
    environment: int = 0
    multiprocessors: int = 132


def simulate(
    code: str,
    launch_symbol: str,
    params: Sequence[Parameter],
    grid: Sequence[int],
    block_threads: int,
    shared_bytes: int = 0,
    *,
    options: SimulatorOptions | None = None,
) -> Report:
    """Run a kernel on the CPU, in place on the arrays of its buffers.

    Args:
        code: LLVM IR for NVPTX, as `targets.nvptx.pipeline.translate` gives it.
        launch_symbol: the kernel in it.
        params: its parameters in order; buffers become addresses.
        grid: blocks along x, y, z.
        block_threads: threads of a block, along x.
        shared_bytes: dynamic shared memory of a block.
        options: how to simulate.

    Raises:
        LaunchError: no such kernel, or parameters, grid or threads that do not fit.
        UnsupportedError: an instruction that the simulator has no model of.
        TargetError: there is no C++ compiler for the run time.
    """
    options = options or SimulatorOptions()
    loaded = load_program(code)
    _check_launch(loaded, launch_symbol, params, grid, block_threads, shared_bytes)
    buffers = _buffers(params)
    launch = _Launch(loaded, launch_symbol, params, buffers)
    seconds = launch.run(tuple(grid), block_threads, shared_bytes, options)
    return launch.report(options, seconds)


def _buffers(params: Sequence[Parameter]) -> tuple[Buffer, ...]:
    """Those that are parameters, in order, then others that tensor maps are of."""
    found = [item for item in params if isinstance(item, Buffer)]
    for item in params:
        if isinstance(item, TensorMap) and all(item.buffer is not known for known in found):
            found.append(item.buffer)
    return tuple(found)


def _check_launch(
    loaded: LoadedProgram,
    symbol: str,
    params: Sequence[Parameter],
    grid: Sequence[int],
    threads: int,
    shared_bytes: int,
) -> None:
    kernels = loaded.program.kernels
    if symbol not in kernels:
        raise LaunchError("no such kernel", expected=", ".join(kernels), found=f"'{symbol}'")
    types = kernels[symbol]
    if len(types) != len(params):
        raise LaunchError(
            f"kernel '{symbol}' takes other parameters", expected=len(types), found=len(params)
        )
    for i, (kind, value) in enumerate(zip(types, params, strict=True)):
        if not isinstance(value, _accepted(kind)):
            found = type(value).__name__
            raise LaunchError(f"parameter {i} of '{symbol}'", expected=kind, found=found)
    if not 1 <= len(grid) <= 3 or min(grid) < 1:
        raise LaunchError("a grid has one to three sizes of at least 1", found=tuple(grid))
    if not 1 <= threads <= _MAX_THREADS:
        raise LaunchError("threads of a block", expected=f"1 to {_MAX_THREADS}", found=threads)
    if shared_bytes < 0:
        raise LaunchError("shared memory of a block", expected="at least 0", found=shared_bytes)


class _Launch:
    """The arrays that the run time reads and writes; they must live as long as it runs."""

    def __init__(
        self,
        loaded: LoadedProgram,
        symbol: str,
        params: Sequence[Parameter],
        buffers: tuple[Buffer, ...],
    ) -> None:
        self.loaded = loaded
        self.symbol = symbol
        self.buffers = buffers
        self.native_buffers = (NativeBuffer * max(len(buffers), 1))(*map(_native, buffers))
        types = loaded.program.kernels[symbol]
        maps = [item for item in params if isinstance(item, TensorMap)]
        self.map_count = len(maps)
        self.native_maps = (NativeTensorMap * max(len(maps), 1))(
            *(_native_map(item, buffers) for item in maps)
        )
        indices, map_addresses = iter(range(len(buffers))), iter(range(_MAP_SPACE, 2 * _MAP_SPACE))
        slots = []
        for kind, value in zip(types, params, strict=True):
            if isinstance(value, Buffer):
                slots.append(_address(next(indices), value))
            elif isinstance(value, TensorMap):
                slots.append(next(map_addresses))
            else:
                slots.append(_bits(kind, value))
        self.arguments = (ctypes.c_uint64 * max(len(slots), 1))(*slots)
        self.runs = (ctypes.c_int64 * max(len(loaded.program.tallies), 1))()

    def run(
        self, grid: tuple[int, ...], threads: int, shared: int, options: SimulatorOptions
    ) -> float:
        blocks = (*grid, 1, 1)[:3]
        program = self.loaded.program
        self.grid = blocks
        self.findings = (NativeFinding * options.finding_limit)()
        workers = min(
            options.workers or len(os.sched_getaffinity(0)), blocks[0] * blocks[1] * blocks[2]
        )
        self.native = NativeLaunch(
            entry=self.loaded.entry(self.symbol),
            arguments=self.arguments,
            grid=blocks,
            threads=threads,
            shared_bytes=program.static_shared + shared,
            buffer_count=len(self.buffers),
            buffers=self.native_buffers,
            tensor_maps=self.native_maps,
            tensor_map_count=self.map_count,
            site_count=len(program.sites),
            basic_block_count=len(program.tallies),
            checking=options.checking,
            seed=options.seed,
            workers=workers,
            finding_limit=options.finding_limit,
            environment=options.environment,
            step_limit=options.step_limit,
            findings=self.findings,
            basic_block_runs=self.runs,
        )
        start = time.perf_counter()
        load_runtime().diagc_sim_launch(ctypes.byref(self.native))
        return time.perf_counter() - start

    def report(self, options: SimulatorOptions, seconds: float) -> Report:
        sites = self.loaded.program.sites
        found = self.findings[: self.native.finding_count]
        findings = tuple(
            describe(item, self.symbol, sites, self.buffers, self.grid) for item in found
        )
        lines = zip(self.runs, self.loaded.program.block_lines, strict=False)
        reached = frozenset(line for runs, line in lines if runs)
        return Report((self.symbol,), findings, self.counters(), options.checking, seconds, reached)

    def counters(self) -> Counters:
        instructions: Counter[str] = Counter()
        for runs, counts in zip(self.runs, self.loaded.program.tallies, strict=False):
            for pipe, count in counts.items():
                instructions[pipe] += runs * count
        by_warp = {pipe: count / _WARP for pipe, count in instructions.items()}
        numbers: dict[str, Any] = {
            name: getattr(self.native.counters, name) for name, _ in self.native.counters._fields_
        }
        return Counters(**numbers, instructions=by_warp)


def _native(buffer: Buffer) -> NativeBuffer:
    written = None if buffer.written is None else buffer.written.ctypes.data
    return NativeBuffer(
        data=buffer.array.ctypes.data,
        bytes=buffer.span,
        item=buffer.array.itemsize,
        written=written,
        writable=buffer.writable,
    )


def _native_map(item: TensorMap, buffers: Sequence[Buffer]) -> NativeTensorMap:
    array, axes = item.buffer.array, item.axes
    numbers = [i for i, buffer in enumerate(buffers) if buffer is item.buffer]
    if len(axes) > _MAP_RANK or len(item.box) != len(axes) or not numbers:
        raise LaunchError(
            f"a tensor map of '{item.buffer.name}'",
            expected=f"one of a buffer of this launch, with at most {_MAP_RANK} axes",
            found=f"{array.ndim} axes, box {item.box}",
        )
    return NativeTensorMap(
        buffer=numbers[0],
        rank=len(axes),
        item=array.itemsize,
        swizzle=item.swizzle,
        size=tuple(array.shape[axis] for axis in axes),
        stride=tuple(array.strides[axis] for axis in axes),
        box=tuple(item.box[axis] for axis in axes),
    )


def _address(index: int, buffer: Buffer) -> int:
    """Where the kernel sees a buffer; at the same place of a page as on the host."""
    middle = 1 << (_BUFFER_SHIFT - 1)
    return _BUFFER_SPACE | index << _BUFFER_SHIFT | middle | buffer.array.ctypes.data % _PAGE


def _accepted(kind: str) -> type | tuple[type, ...]:
    if kind == "ptr":  # generic: also of a tensor map that is passed by value
        return (Buffer, TensorMap)
    if kind.startswith("ptr"):
        return Buffer
    return (int, float) if kind in ("float", "double") else int


def _bits(kind: str, value: float) -> int:
    if kind in ("float", "double"):
        pack, unpack = ("<f", "<I") if kind == "float" else ("<d", "<Q")
        return int(struct.unpack(unpack, struct.pack(pack, value))[0])
    return int(value) & (1 << 64) - 1
