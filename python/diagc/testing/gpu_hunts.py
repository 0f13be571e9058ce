"""Mutants of every class of GPU kernels: which there are, and how the simulator fares.

`python -m diagc.testing.gpu_hunts` judges all (half a minute on two cores) and prints tables;
`python -m diagc.testing.gpu_hunts gram map` those of some classes. Each kernel runs on several
inputs: tails on all axes, arrays that begin between multiples of 16 bytes, sizes that tiles divide,
and sizes of a few.
"""

import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from diagc.mlir import ir
from diagc.runtime.numpy_launch import call_numpy
from diagc.simulator import SimulatedKernel, SimulatorOptions
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import lower_to_nvvm, translate
from diagc.targets.nvptx.threads.lower import lower_threads
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.testing.attention import Attention, two_sums
from diagc.testing.gpu_mutants import (
    BOUND,
    FINDING_LIMIT,
    SWIZZLE,
    SYNC,
    Mutant,
    Outcome,
    Runner,
    Verdict,
    hunt,
    table,
)
from diagc.testing.tile_kernels import (
    Placement,
    kernels_of,
    loaded,
    place,
    random_inputs,
    stored,
    translate_module,
    translate_tiles,
)

__all__ = ["HUNTS", "Hunt", "explain", "main", "verdicts"]

Sizes = Mapping[str, int]

# one worker: kernels are judged side by side
OPTIONS = SimulatorOptions(
    step_limit=20000, workers=1, finding_limit=FINDING_LIMIT, multiprocessors=1
)
_SHARING = 64  # multiprocessors for a stream in several parts


@dataclass(frozen=True)
class Hunt:
    """One kernel.

    Args:
        text: the diagram.
        sizes: of open axes, by the first letter of their labels; one run each, and one more of the
            first two with arrays that begin one element after a multiple of 16 bytes, which tensor
            maps do not describe. Every second one, and those, have NaN between lines.
        tiles: None for a kernel on threads.
        number: of the kernel among those that the diagram becomes.
        tolerance: of results, for mutants that change nothing but the order of sums.
    """

    text: str
    sizes: tuple[Sizes, ...]
    tiles: TileSchedule | None = None
    number: int = 0
    tolerance: float = 1e-3

    def lower(self) -> tuple[GpuModule, str]:
        """The kernel and its LLVM IR."""
        _module, kernels = kernels_of(self.text)
        kernel = kernels[self.number]
        if self.tiles is not None and self.tiles.producers:
            with kernel.context, ir.Location.unknown():
                built = lower_warpgroups(kernel, parse_arch("sm_90a"), schedule=self.tiles)
            return built, translate_module(built)
        if self.tiles is not None:
            return translate_tiles(kernel, self.tiles)
        with kernel.context, ir.Location.unknown():
            built = lower_threads(kernel, parse_arch("sm_80"))
            lower_to_nvvm(built.module)
            return built, translate(built.module)

    def runs(self, built: GpuModule) -> Iterator[Runner]:
        """One for each size and placement."""
        for number, sizes in enumerate(self.sizes):
            # copies by tensor maps land late, in any order
            seed = 2 * number + 2 if built.tensor_maps else 0
            yield _runner(built, sizes, Placement(gap=8 * (number % 2)), seed)
        for sizes in self.sizes[:2] if not built.tensor_maps else ():
            yield _runner(built, sizes, Placement(offset=1, gap=1))


def _runner(built: GpuModule, sizes: Sizes, placement: Placement, seed: int = 0) -> Runner:
    signature = built.signature
    kernel = built.as_kernel()
    if built.tensor_maps:
        kernel = replace(kernel, tensor_maps=built.tensor_maps, bulk_launches=built.launches)
    arrays, known = [], {axis.label: axis.size for axis in signature.axes}
    for wire, values in zip(signature.args, random_inputs(signature, sizes), strict=True):
        known |= dict(zip(wire.labels, values.shape, strict=True))
        array = place(values.shape, wire, placement)
        array[...] = stored(values, wire.dtype)
        arrays.append(array.view(np.bool_) if wire.dtype == "i1" else array)
    out = [place([known[x] or 0 for x in w.labels], w, placement) for w in signature.results]

    def run(text: str, number: int) -> Outcome:
        options = replace(OPTIONS, environment=number, seed=seed)
        if built.sharing is not None:  # blocks are few, and share the stream
            options = replace(options, multiprocessors=_SHARING)
        simulated = SimulatedKernel(kernel, text, options)
        results = zip(call_numpy(simulated, arrays, out), signature.results, strict=True)
        return Outcome([loaded(a, wire.dtype) for a, wire in results], simulated.reports[-1])

    return run


SPHERICAL = Attention(d=32, normaliser="l2", scores="S").text


def _simple(parameters: str, body: str) -> str:
    return f"axis n, m, f = 768, h = 33, d = 64\ndiagram test({parameters}) {{\n  {body}\n}}\n"


# rows and keys: tiles of 32 and of 16, with tails in every quarter, and with none; where there are
# more rows than keys, causal masks leave the last key to the bounds
TILED = tuple(
    {"g": 1 + (rows == 41), "l": rows, "s": keys}
    for rows, keys in (
        *((41, 87), (52, 93), (64, 96), (1, 5), (9, 16), (87, 41), (32, 132)),
        *((64, 34), (64, 37), (64, 44), (64, 47), (96, 96), (64, 64)),
    )
)
SHARED = tuple({"g": 1 + keys % 2, "s": keys} for keys in (87, 93, 96, 5, 64, 138))
# by threads of a warp and elements of a vector: tails that end at each of the places of a thread
FLAT = tuple(
    {"g": 1 + size % 5, "l": size, "s": size}
    for size in (45, 13, 77, 109, 141, 173, 205, 237, 100, 256, 1000, 2050)
)
SMALL = TileSchedule(warps=2, chunk=16)
GROUP = TileSchedule(warps=4, chunk=16, producers=4)
# lines of biases are of a multiple of 16 bytes; masks end at each place of a thread; twice, for
# copies land in another order
BULK = 2 * tuple({"g": 1, "l": rows, "s": keys} for rows, keys in ((75, 104), (64, 88), (5, 8)))

HUNTS: Mapping[str, Hunt] = {
    "streamed": Hunt(Attention("q >= x", d=32).text, TILED, SMALL),
    "streamed, three stages": Hunt(
        Attention("q + 46 >= x", "f16", 40).text,
        TILED,
        TileSchedule(warps=2, chunk=16, stages=3),
    ),
    "streamed, window": Hunt(
        Attention("(q >= x) and (q - x < 20)", d=32, normaliser="l2").text, TILED, SMALL
    ),
    "streamed, bias and condition": Hunt(
        Attention("M", "f16", 32, arguments="B: q x f32, M: h x i1", scores="S * 0.125 + B").text,
        TILED,
        SMALL,
    ),
    "statistics": Hunt(two_sums(32), TILED, SMALL),
    "f32": Hunt(Attention("q >= x", "f32", 40, normaliser="l1").text, TILED, SMALL),
    "tf32": Hunt(
        Attention("q >= x", "f32", 32, normaliser="l1").text,
        TILED,
        TileSchedule(warps=2, chunk=16, tf32=True),
    ),
    "gram": Hunt(SPHERICAL, TILED, SMALL, tolerance=1e-2),
    "apply": Hunt(SPHERICAL, TILED, SMALL, number=1),
    "split and combine": Hunt(
        Attention(d=32, heads="b, g = 2", group=4, queries="").text,
        SHARED,
        TileSchedule(warps=1, chunk=16, split=32),
    ),
    "warpgroups": Hunt(
        Attention("q + 20 >= x", arguments="B: h q x bf16", scores="S * 0.17 + B").text, BULK, GROUP
    ),
    "warpgroups that stay": Hunt(
        Attention("q >= x").text,
        # three chunks a tile: every second tile begins in the second stage
        2
        * tuple(
            {"g": 2, "l": rows, "s": keys}
            for rows, keys in ((150, 150), (150, 40), (64, 88), (75, 5))
        ),
        replace(GROUP, stays=True),
    ),
    "warpgroups in turns": Hunt(
        Attention("q >= x").text,
        2 * tuple({"g": 2, "l": rows, "s": keys} for rows, keys in ((250, 140), (64, 88), (75, 5))),
        replace(GROUP, warps=8, stays=True, turns=True),
    ),
    "warpgroups, parts": Hunt(
        Attention(scores="S * 0.17", heads="b", group=4, queries="q = 4").text,
        2 * tuple({"g": 1, "s": keys} for keys in (183, 192, 5)),
        replace(GROUP, split=96, packed=4),
    ),
    "map": Hunt(_simple("X: n m, Y: m", "return X * Y + 1"), FLAT),
    "reduce rows": Hunt(_simple("X: n m", "return sum(X) over m, max(X) over m"), FLAT),
    "reduce columns": Hunt(_simple("X: n m", "return sum(X) over n"), FLAT),
    "reindex": Hunt(_simple("X: n f", "return X[f = 2 * d + 5] * 2 + 1"), FLAT),
    "transpose": Hunt(_simple("X: n m, Y: m n", "Z: n m = X * 2 + Y\n  return Z"), FLAT),
    "norm": Hunt(_simple("X: n f, W: f", "return (layer(X) along f eps 1e-5) * W"), FLAT),
    "norm of odd rows": Hunt(_simple("X: n h", "return softmax(X) along h"), FLAT),
    "norm, statistics": Hunt(_simple("X: n m", "return softmax(X) along m"), FLAT),
    "norm, apply": Hunt(_simple("X: n m", "return softmax(X) along m"), FLAT, number=1),
    "stream on threads": Hunt(
        Attention("q >= x", "f32", 32).text,
        tuple(
            {"g": 1, "l": rows, "s": keys}
            for rows, keys in ((21, 150), (16, 128), (1, 5), (200, 20), (70, 64))
        ),
    ),
}


HARMLESS = (
    (
        r"icmp slt i32 %, (16|32|512|768|1024|1536): ",
        "one more turn of a loop that copies a tile: into memory that is written again",
    ),
    (
        r"icmp slt i32 %, (4096|8192|12288|16384): ",
        "one stage more than there are, in the place of rows, which are in registers by then",
    ),
    (r"icmp slt i32 %, (6|12): ", "lanes beyond a line write zeros between lines"),
    (r"icmp slt i32 %, 40: ", "columns beyond a line, which are cut a second time"),
    (r"smax.i32\(i32 %, i32 0\): ", "only lanes that copy nothing have numbers below 0"),
    (
        r"icmp sgt i32 %, 1: |icmp slt i32 %, %: ",
        "a chunk or a key more, which is masked or zero",
    ),
    (r"smin.i32\(i32 %, i32 %\): ", "the end of a range that is cut again, or is empty"),
    (
        r"barrier.cta|cp.async.wait",
        "before memory that is used once, or before what the first turn of a loop waits for",
    ),
    (r"cp.async.commit", "of a group that nothing waits for by itself"),
    (r"bar.warp.sync", "before a barrier of the block"),
    (r"wgmma.commit", "the next commit takes these products in"),
    (r"mbarrier.arrive.shared", "of a stage that is not filled again"),
    (r"mbarrier.try_wait", "the wait before it was for a later arrival"),
)
"""By pattern of a mutant that nothing tells from the kernel: why it gives the same results."""


def explain(mutant: Mutant) -> str | None:
    """Why a survivor does no harm, if that is known."""
    return next((why for op, why in HARMLESS if re.search(op, mutant.pattern)), None)


def verdicts(
    name: str,
    areas: Sequence[str] = (SYNC, SWIZZLE, BOUND),
    sample: tuple[int, int] | None = None,
) -> list[Verdict]:
    """Judge the mutants of a class; see `gpu_mutants.hunt`."""
    found = HUNTS[name]
    built, text = found.lower()
    runs = list(found.runs(built))
    return hunt(text, runs, tolerance=found.tolerance, areas=areas, sample=sample)


def main(arguments: Sequence[str]) -> int:
    """Judge classes, all if none is named."""
    parser = ArgumentParser(prog="python -m diagc.testing.gpu_hunts", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="class", help=f"one of {', '.join(HUNTS)}")
    chosen = parser.parse_args(arguments).names or list(HUNTS)
    if unknown := sorted(set(chosen) - set(HUNTS)):
        parser.error(f"unknown class: {', '.join(unknown)}")
    together: list[Verdict] = []
    with ProcessPoolExecutor(2) as pool:
        for name, found in zip(chosen, pool.map(verdicts, chosen), strict=True):
            print(f"{name}\n{table(found, explain)}\n", flush=True)
            together += found
    print(f"all\n{table(together, explain)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
