"""Kernels lowered to tiles of one's choice, run in the simulator, compared with the interpreter.

Arrays are float64 (or bool) at both ends; memory around them, and results before they are written,
is poisoned. Every finding of the simulator is an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from diagc.compiler import run_pipeline
from diagc.dialects import diag
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import current
from diagc.runtime.factors import element_count
from diagc.runtime.gpu_kernel import GpuLaunch, grid_of, planned_launches, planned_sizes
from diagc.runtime.signature import DTYPES, KernelSignature, Wire
from diagc.simulator import Buffer, Report, SimulatorOptions, TensorMap, simulate
from diagc.targets import interp
from diagc.targets.interp.rounding import float8_bits, float8_numbers
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.kernel import LoadedKernel
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import (
    CompiledModule,
    NvvmModule,
    compile_module,
    lower_to_nvvm,
    translate,
)
from diagc.targets.nvptx.tiles.lower import lower_tiles
from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = [
    "Placement",
    "TileRun",
    "compile_tiles",
    "compiled_as",
    "kernels_of",
    "loaded",
    "place",
    "random_inputs",
    "run_tiles",
    "stored",
    "translate_module",
    "translate_tiles",
]

Array = npt.NDArray[Any]

_STORAGE: Mapping[str, Any] = {
    "i1": np.uint8,
    "f8E4M3FN": np.uint8,
    "bf16": np.uint16,
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "i32": np.int32,
    "index": np.int64,
}
_POISON = 0xFF  # NaN in every float type


@dataclass(frozen=True)
class Placement:
    """How arrays lie: elements between their first and a multiple of 16 bytes, and after a line."""

    offset: int = 0
    gap: int = 0


@dataclass(frozen=True)
class TileRun:
    """Results of a kernel, what they should be, and what the simulator counted."""

    arguments: tuple[Array, ...]
    found: tuple[Array, ...]
    expected: tuple[Array, ...]
    reports: tuple[Report, ...]

    def error(self) -> float:
        """The largest difference, relative to the largest element of its array; NaN counts."""
        return max(map(_difference, self.found, self.expected))

    def error_of_averages(self) -> float:
        """The largest difference, relative to the largest element of arguments and results.

        Rounded weights of an average are wrong by a part of the values, however small it is.
        """
        largest = max(float(np.abs(array).max(initial=0.0)) for array in self.arguments)
        return max(
            _difference(found, expected, largest)
            for found, expected in zip(self.found, self.expected, strict=True)
        )


def _difference(found: Array, expected: Array, least: float = 1e-30) -> float:
    largest = np.abs(expected).max(initial=least)
    error = np.abs(found - expected).max(initial=0.0) / largest
    return float("inf") if np.isnan(error) else float(error)


def kernels_of(text: str, target: str = "auto") -> tuple[ir.Module, list[ir.Operation]]:
    """The kernels that a diagram becomes, and the module that they live as long as."""
    module = parse(text)
    run_pipeline(module, replace(current(), target=target))
    return module, [op for op in diag.functions(module) if diag.is_kernel(op)]


def compile_tiles(
    kernel: ir.Operation, schedule: TileSchedule | None = None, arch: str = "sm_80"
) -> tuple[GpuModule, CompiledModule]:
    """Lower a kernel to tiles and compile it."""
    with kernel.context, ir.Location.unknown():
        built = lower_tiles(kernel, parse_arch(arch), schedule=schedule)
        return built, compile_module(built.module)


def compiled_as(built: GpuModule, arch: str) -> LoadedKernel:
    """A lowered kernel as if it had been compiled, without code."""
    code = built.as_kernel(arch), NvvmModule(b"")
    return LoadedKernel(*code, "", "miss", built.tiles, built.shared)


def translate_tiles(kernel: ir.Operation, schedule: TileSchedule) -> tuple[GpuModule, str]:
    """Lower a kernel to tiles, up to the LLVM IR that the simulator reads; no PTX is made."""
    with kernel.context, ir.Location.unknown():
        built = lower_tiles(kernel, parse_arch("sm_80"), schedule=schedule)
    return built, translate_module(built)


def translate_module(built: GpuModule) -> str:
    """The LLVM IR of a lowered kernel, which becomes the stage `nvvm`."""
    with built.module.context, ir.Location.unknown():
        lower_to_nvvm(built.module)
        return translate(built.module)


def random_inputs(
    signature: KernelSignature, sizes: Mapping[str, int], seed: int = 0
) -> list[Array]:
    """Normal numbers, and conditions that hold seven times in ten.

    `sizes` is of axes whose size is open, by label or its first letter: g (grid), l (rows), s
    (streamed).
    """
    rng = np.random.default_rng(seed)
    static = {axis.label: axis.size for axis in signature.axes if axis.size is not None}
    found: list[Array] = []
    for wire in signature.args:
        known = {**sizes, **static}
        shape = [known.get(label) or sizes[label[0]] for label in wire.labels]
        mask = wire.dtype == "i1"
        found.append(rng.random(shape) < 0.7 if mask else rng.standard_normal(shape))
    return found


def run_tiles(
    kernel: ir.Operation,
    built: GpuModule,
    compiled: CompiledModule | str,
    inputs: Sequence[Array],
    placement: Placement | None = None,
    options: SimulatorOptions | None = None,
) -> TileRun:
    """Simulate all launches of a kernel, given compiled or as LLVM IR.

    Raises:
        AssertionError: the simulator has a finding, or an element was not written.
    """
    text = compiled if isinstance(compiled, str) else compiled.nvvm.llvm_text
    signature, placement = built.signature, placement or Placement()
    sizes = _sizes(built, inputs, options or SimulatorOptions())
    shapes = [[sizes[label] for label in wire.labels] for wire in signature.wires]
    arrays = [
        place(shape, wire, placement) for shape, wire in zip(shapes, signature.wires, strict=True)
    ]
    for array, wire, value in zip(arrays, signature.wires, inputs, strict=False):
        array[...] = stored(value, wire.dtype)
    buffers = [
        Buffer(array, wire.name, writable=number >= len(signature.args))
        for number, (array, wire) in enumerate(zip(arrays, signature.wires, strict=True))
    ]
    launches = planned_launches(built.as_kernel(), sizes, mapped=bool(built.bulk_launches))
    maps = () if set(launches) <= set(built.shared_launches) else built.tensor_maps
    parameters: list[Buffer | TensorMap | int] = [
        *buffers,
        *_scratch(built, sizes),
        *_numbers(built, sizes, arrays),
        *(TensorMap(buffers[x.wire], x.box, swizzle=x.swizzle) for x in maps),
    ]
    reports = tuple(_reports(launches, text, parameters, sizes, options))
    for buffer in buffers[len(signature.args) :]:
        assert buffer.unwritten == 0 or not reports, f"{buffer.name}: {buffer.unwritten} elements"
    values = [
        loaded(array, wire.dtype) for array, wire in zip(arrays, signature.wires, strict=True)
    ]
    count = len(signature.args)
    expected = interp.evaluate_function(kernel, values[:count])
    return TileRun(
        tuple(values[:count]),
        tuple(values[count:]),
        tuple(np.asarray(array, dtype=np.float64) for array in expected),
        reports,
    )


def _reports(
    launches: Sequence[GpuLaunch],
    text: str,
    parameters: Sequence[Buffer | TensorMap | int],
    sizes: Mapping[str, int],
    options: SimulatorOptions | None,
) -> Iterator[Report]:
    """Of all launches that have a block."""
    for launch in launches:
        grid = grid_of(launch, sizes, (options or SimulatorOptions()).multiprocessors)
        if 0 in grid:
            continue
        block = launch.threads, launch.shared_bytes
        report = simulate(text, launch.symbol, parameters, grid, *block, options=options)
        assert not report.findings, str(report)
        yield report


def _sizes(built: GpuModule, inputs: Sequence[Array], options: SimulatorOptions) -> dict[str, int]:
    """Of all axes, and in how many parts blocks share a stream."""
    signature = built.signature
    sizes = {axis.label: axis.size for axis in signature.axes if axis.size is not None}
    for wire, array in zip(signature.args, inputs, strict=True):
        sizes |= dict(zip(wire.labels, array.shape, strict=True))
    return planned_sizes(built.as_kernel(), sizes, options.multiprocessors)


def place(shape: Sequence[int], wire: Wire, placement: Placement) -> Array:
    """An array of poison, as the placement says."""
    dtype = np.dtype(_STORAGE[wire.dtype])
    padded = [*shape[:-1], shape[-1] + placement.gap] if shape else []
    count = int(np.prod(padded))
    memory = np.full((count + 64) * dtype.itemsize, _POISON, np.uint8)
    start = -memory.ctypes.data % 16 + placement.offset * dtype.itemsize
    line: Array = memory[start : start + count * dtype.itemsize].view(dtype).reshape(padded)
    return line[..., : shape[-1]] if shape else line


def _scratch(built: GpuModule, sizes: Mapping[str, int]) -> list[Buffer]:
    found = []
    for number, workspace in enumerate(built.workspaces):
        size = max(element_count(workspace.size, sizes), 1) * DTYPES[workspace.dtype]
        memory = np.full(size, _POISON, np.uint8).view(_STORAGE[workspace.dtype])
        found.append(Buffer(memory, f"workspace{number}", writable=True))
    return found


def _numbers(built: GpuModule, sizes: Mapping[str, int], arrays: Sequence[Array]) -> list[int]:
    """Open sizes, then strides in elements."""
    found = [sizes[label] for label in built.as_kernel().dynamic_axes]
    for array, wire in zip(arrays, built.signature.wires, strict=True):
        strides = [stride // array.itemsize for stride in array.strides]
        found += strides[:-1] if wire.unit_stride else strides
    return found


def stored(values: Array, dtype: str) -> Array:
    """Numbers as they lie in memory: bf16 as uint16, f8 as uint8 of bits, conditions as bytes."""
    if dtype == "f8E4M3FN":
        return float8_bits(values)
    if dtype != "bf16":
        return values.astype(_STORAGE[dtype])
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def loaded(array: Array, dtype: str) -> Array:
    """The float64 numbers, integers, or truth values, that an array in memory stands for."""
    if dtype == "i1":
        return np.asarray(array != 0)
    if dtype == "i32":
        return np.array(array)
    if dtype == "f8E4M3FN":
        return float8_numbers(array)
    if dtype == "bf16":
        array = (np.ascontiguousarray(array).astype(np.uint32) << 16).view(np.float32)
    return np.asarray(array, dtype=np.float64)
