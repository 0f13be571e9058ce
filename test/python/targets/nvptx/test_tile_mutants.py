"""Mutants of real kernels: the simulator sees every wait, barrier and swizzle that goes wrong."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diagc.runtime.gpu_kernel import GpuKernel
from diagc.runtime.numpy_launch import call_numpy
from diagc.simulator import SimulatedKernel, SimulatorOptions
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.gpu_mutants import BOUND, SWIZZLE, SYNC, Outcome, Runner, Verdict, hunt, table
from diagc.testing.tile_kernels import compile_tiles, kernels_of

TEXT = """axis h, q, x, d = 32
diagram attention(Q: h q d {0}, K: h x d {0}, V: h x d {0}) {{
  S: h q x f32 = Q . K over d
  P = {1}(S * 0.125) along x where ({2})
  O: h q d {0} = P . V over x
  return O
}}
"""
SIZES = {"g": 1, "l": 64, "s": 87}  # two tiles of rows, six of keys with a tail


def _bits(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    if dtype != "bf16":
        return values.astype({"f16": np.float16, "f32": np.float32}[dtype])
    return (values.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype != np.uint16:
        return array
    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _runner(built: GpuModule, offset: int) -> Runner:
    """Runs a text on random inputs that begin `offset` elements after a multiple of 16 bytes."""
    signature, rng = built.signature, np.random.default_rng(0)
    kernel = GpuKernel(signature, built.launches, built.workspaces, "sm_80", "")
    static = {axis.label: axis.size for axis in signature.axes}
    arrays = []
    for wire in signature.args:
        shape = [static[label] or SIZES[label[0]] for label in wire.labels]
        values = _bits(rng.standard_normal(shape), wire.dtype)
        memory = np.zeros(values.size + 32, values.dtype)
        start = -memory.ctypes.data // memory.itemsize % (16 // memory.itemsize) + offset
        array = memory[start : start + values.size].reshape(shape)
        array[...] = values
        arrays.append(array)

    def run(text: str) -> Outcome:
        simulated = SimulatedKernel(kernel, text, SimulatorOptions(step_limit=20000))
        results = call_numpy(simulated, arrays)
        return Outcome([_wide(result) for result in results], simulated.reports[-1])

    return run


def _verdicts(text: str, schedule: TileSchedule, areas: Sequence[str]) -> list[Verdict]:
    _module, (kernel,) = kernels_of(text)
    built, compiled = compile_tiles(kernel, schedule)
    runs = [_runner(built, offset) for offset in (0, 1)]
    return hunt(compiled.nvvm.llvm_text, runs, tolerance=1e-3, areas=areas)


def _hunt(text: str, schedule: TileSchedule, areas: Sequence[str]) -> None:
    verdicts = _verdicts(text, schedule, areas)
    assert len(verdicts) >= 10
    # what the barrier of a block before the next use orders anyway
    needed = [v for v in verdicts if not v.mutant.op.startswith("bar.warp.sync")]
    assert all(v.caught or not v.reached for v in needed), table(verdicts)
    synced = [v for v in needed if v.mutant.area == SYNC]
    assert all(v.named for v in synced if v.reached), table(verdicts)


@pytest.mark.slow
@pytest.mark.parametrize("areas", [(SYNC,), (SWIZZLE,)])
@pytest.mark.parametrize(
    ("dtype", "normaliser", "mask", "stages"),
    [
        ("bf16", "softmax", "q >= x", 2),
        ("f16", "softmax", "q + 46 >= x", 3),
        ("f32", "l1", "q >= x", 2),
        ("bf16", "l2", "(q >= x) and (q - x < 20)", 2),
    ],
)
def test_synchronisation_and_swizzles(
    dtype: str, normaliser: str, mask: str, stages: int, areas: tuple[str, ...]
) -> None:
    schedule = TileSchedule(warps=2, chunk=16, stages=stages)
    _hunt(TEXT.format(dtype, normaliser, mask), schedule, areas)


# By the right side of the comparison: how many do more work that nobody sees, and why.
HARMLESS = {
    "rows": 1,  # lines of the tile of rows: one more turn copies to memory that is written again
    "chunk": 4,  # lines of a chunk of keys or values: likewise
    "ring": 1,  # bytes of all stages: a third buffer, in place of the rows, which are in registers
    "count": 2,  # chunks of the masked loop: one more, all masked; one more on its way, never read
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "normaliser", "bytes_"), [("bf16", "softmax", 2), ("f32", "l1", 4)]
)
def test_bounds(dtype: str, normaliser: str, bytes_: int) -> None:
    schedule = TileSchedule(warps=2, chunk=16)
    verdicts = _verdicts(TEXT.format(dtype, normaliser, "q >= x"), schedule, (BOUND,))
    chunk, rows = schedule.chunk, schedule.rows
    ring = schedule.stages * 2 * chunk * 32 * bytes_  # d = 32
    kinds = {str(rows): "rows", str(chunk): "chunk", str(ring): "ring"}
    needed = [v for v in verdicts if v.reached and not v.equivalent]
    left = [v.mutant.op for v in needed if not v.caught]
    sides = [op.split(", ")[1] for op in left]
    found = Counter("count" if s.startswith("%") else kinds.get(s, s) for s in sides)
    assert not found - Counter(HARMLESS), table(verdicts)
    caught, harmless = sum(v.caught for v in needed), sum((found & Counter(HARMLESS)).values())
    assert caught >= 8, table(verdicts)
    assert caught >= 0.95 * (len(needed) - harmless), table(verdicts)
