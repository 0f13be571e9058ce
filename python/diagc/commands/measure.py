"""`diagc targets --measure`: describes this machine's CPU by what small loops reach on it."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from diagc.api import CompiledFunction
from diagc.api import compile as compile_function
from diagc.commands.cpu_probes import Probes
from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.cost import Device, Level, Rate, cpu_device
from diagc.cost.device_catalog import THIS_CPU, processor_name, store_measured
from diagc.frontend.builder import Diagram, Wire, fn
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.runtime.cpu_features import selected_features
from diagc.runtime.kernel_times import time_kernels

__all__ = ["measure", "measure_cpu"]

_SECONDS = 0.05
"""How long one reading of a level takes at least, about."""

_MOST_BYTES = 512 << 20
_ROWS = 512
_LINEAR_ROWS, _LINEAR_WIDTH, _LINEAR_ROUNDS = 1024, 1024, 9
"""A layer that takes 10 to 30 ms on two cores."""

_CALLS = 300
_EXPONENTIALS = 4
"""Per element, so that memory plays no role."""


def measure() -> int:
    """Measure, keep the description, say where it is."""
    started = perf_counter()
    device = measure_cpu(_say)
    path = store_measured(device)
    print(f"{device.name}: {device.summary}; {perf_counter() - started:.1f} s")
    for line in figures(device):
        print(f"  {line}")
    print(f"kept in {path}; the cost model reads it from now on")
    return 0


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"measuring {text} ...", file=sys.stderr)


def figures(device: Device) -> Iterator[str]:
    """Levels, rates and limits as lines for people."""
    for level in device.levels:
        size = (
            f"{level.size / 1024:.0f} KiB" if level.size < 1 << 30 else f"{level.size / 1e9:.0f} GB"
        )
        each = " each" if level.shared_by == "unit" else ""
        yield f"{level.name:8} {size}{each}, {level.bandwidth / 1e9:.4g} GB/s of all"
    for rate in device.rates:
        unit = "G results/s" if rate.pipe == "special" else "GFLOP/s"
        yield f"{rate.pipe:8} {rate.dtype}: {rate.per_second / 1e9:.4g} {unit}"
    yield f"launch   {device.launch_seconds * 1e6:.2g} µs"
    yield f"call     {device.call_seconds * 1e6:.2g} µs"


def measure_cpu(say: Callable[[str], None]) -> Device:
    """Describe this machine; takes a few seconds.

    Args:
        say: gets the name of what is being measured.
    """
    features = selected_features()
    cores = os.cpu_count() or 1
    probes = Probes(4 * features.lanes, features.vector_registers)
    say("arithmetic")
    single, double = (cores * probes.fma_rate(bits) for bits in (32, 64))
    in_flight = probes.fma_in_flight()
    levels = []
    for name, size, shared in _levels():
        say(f"reads of {name}")
        bandwidth = _bandwidth(probes, _inside(name, size), cores)
        levels.append(Level(name, size, bandwidth, "device" if shared else "unit"))
    say("kernels")
    launch = _seconds_of_launch()
    call = max(_seconds_of_call() - launch, launch)
    wide, narrow = (_exponentials_per_second(dtype, launch) for dtype in ("f64", "f32"))
    say("products")
    library, tiles = _product_rates()
    dots = 2.0 if features.bf16_dot else 1.0
    rates = (
        Rate("fma", "f64", double),
        Rate("fma", "f32", single),
        Rate("fma", "bf16", single * dots),
        Rate("fma", "f16", single),
        Rate("special", "f32", narrow),
        Rate("special", "f64", wide),
        Rate("library", "f32", library),
        Rate("tiles", "f32", tiles),
    )
    limits = {
        "vector_bytes": 4 * features.lanes,
        "vector_registers": features.vector_registers,
        "fma_in_flight": in_flight,
    }
    return Device(
        THIS_CPU,
        processor_name(),
        "cpu",
        cores,
        tuple(levels),
        rates,
        launch,
        limits,
        call_seconds=call,
    )


# ---- memory ------------------------------------------------------------------------------------


def _levels() -> list[tuple[str, int, bool]]:
    """(name, bytes of one instance, whether all cores share it), the fastest first."""
    found = sorted(_caches())
    if not found:  # nobody tells: as in the generic description
        generic = cpu_device(4 * selected_features().lanes).levels[:-1]
        found = [(int(level.name[1:]), level.size, False) for level in generic]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [*((f"l{n}", size, shared) for n, size, shared in found), ("memory", memory, True)]


def _caches() -> Iterator[tuple[int, int, bool]]:
    """(level, bytes, shared) of the first core's caches, as the kernel tells them."""
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, level, size, shared = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("type", "level", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            yield int(level), int(size[:-1]) << 10, shared not in ("", "0") and int(level) > 2


def _inside(name: str, size: int) -> int:
    """Bytes to read, a power of two: half of a cache, and of main memory far more than caches."""
    if name == "memory":
        caches = max(bytes_ for _, bytes_, _ in _levels()[:-1])
        size = min(16 * caches, _MOST_BYTES)
    return 1 << ((size // 2).bit_length() - 1)


def _bandwidth(probes: Probes, size: int, cores: int) -> float:
    """Bytes per second of all cores, each of which reads an array of its own."""
    own = max(4096, size if size <= 1 << 20 else size // (1 << (cores - 1).bit_length()))
    arrays = [torch.ones(own // 4) for _ in range(cores)]
    repeats = max(1, (1 << 22) // own)
    with ThreadPoolExecutor(cores) as pool:

        def read(times: int) -> float:
            start = perf_counter()
            list(pool.map(lambda array: probes.read(array.data_ptr(), own, times), arrays))
            return perf_counter() - start

        read(1)
        while read(repeats) < _SECONDS / 2:
            repeats *= 2
        return cores * own * repeats / min(read(repeats) for _ in range(3))


# ---- kernels of our own ------------------------------------------------------------------------


def _product_rates() -> tuple[float, float]:
    """FLOP/s of a product of matrices in torch's library and in our tiles, measured in turns."""
    x, w = torch.randn(_LINEAR_ROWS, _LINEAR_WIDTH), torch.randn(_LINEAR_WIDTH, _LINEAR_WIDTH)
    ours = compile_function(torch.nn.functional.linear, x, w, library="tiled", target="cpu")
    calls: tuple[Callable[..., torch.Tensor], ...] = (torch.nn.functional.linear, ours)
    times: list[list[float]] = [[], []]
    for _ in range(_LINEAR_ROUNDS):
        for call, found in zip(calls, times, strict=True):
            start = perf_counter()
            call(x, w)
            found.append(perf_counter() - start)
    flops = 2.0 * _LINEAR_ROWS * _LINEAR_WIDTH**2
    library, tiles = (flops / median(found) for found in times)
    return library, tiles


def _kernel_seconds(build: Callable[[Diagram], Wire], data: torch.Tensor) -> float:
    with Diagram("main") as diagram:
        diagram.output(build(diagram))
    options = CompileOptions(target="cpu", library="none")
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(str(diagram.module))
        program = compile_module(module, "cpu", options)
    (found,) = time_kernels(program, [data])
    assert found is not None, "the cpu target has code for it"
    return found.seconds


def _seconds_of_launch() -> float:
    """Of the smallest kernel."""
    return _kernel_seconds(lambda g: g.input("X", n=8).sum("n"), torch.ones(8))


@torch.no_grad()
def _seconds_of_call() -> float:
    """Of the smallest function, as graphs of torch's call it."""
    data = torch.ones(8)
    function = CompiledFunction(torch.sum, CompileOptions(target="cpu"), False, "fx", key="a sum")
    function.prepare(data)
    found = []
    for _ in range(_CALLS):
        start = perf_counter()
        torch.ops.diagc.call.default([data], function.key)
        found.append(perf_counter() - start)
    return median(found)


def _exponentials_per_second(dtype: str, launch: float) -> float:
    """Of all cores, as kernels compute them."""

    def build(g: Diagram) -> Wire:
        x = g.input("X", dtype, n=_ROWS, d=_ROWS)
        total = fn.exp(x)
        for number in range(1, _EXPONENTIALS):
            total = total + fn.exp(x * (1.0 / (1 + number)))
        return total.sum("d")

    data = torch.randn(_ROWS, _ROWS, dtype={"f32": torch.float32, "f64": torch.float64}[dtype])
    seconds = _kernel_seconds(build, data)
    return _EXPONENTIALS * _ROWS * _ROWS / max(seconds - launch, 1e-6)
