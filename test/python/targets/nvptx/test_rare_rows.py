"""Rows that may have lost accuracy are written again: no number of others depends on the stream."""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.simulator import SimulatorOptions
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.tiles.arena import lay_out
from diagc.targets.nvptx.tiles.lower import lower_tiles
from diagc.targets.nvptx.tiles.plan import Plan, make_plan
from diagc.targets.nvptx.tiles.rare_rows import rare_stream, read_again
from diagc.targets.nvptx.tiles.schedule import TileSchedule, candidates
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import kernels_of, loaded, run_tiles, stored, translate_module

Array = npt.NDArray[np.float64]

SPHERICAL = """axis h, q, x, d = {d}, e = {d}
diagram spherical(Q: h q d {dtype}, K: h x d {dtype}, V: h x e {dtype}) {{
  S: h q x f32 = Q . K over d
  P = l2(S) along x
  O: h q e {dtype} = P . V over x
  return O
}}
"""
TOLERANCE = {"bf16": 2.0**-6, "f16": 2.0**-9, "f32": 2.0**-15}
ROWS, KEYS, D = 75, 40, 32
SCHEDULES = {
    "16 rows of a warp": TileSchedule(row_blocks=1, warps=2, chunk=16),
    "32 rows of a warp": TileSchedule(row_blocks=2, warps=2, chunk=32),
    "one warp": TileSchedule(row_blocks=2, warps=1, chunk=16, stages=3),
}


def applying(dtype: str, d: int = D) -> tuple[ir.Module, ir.Operation]:
    """The kernel that applies the Gram matrix, and streams some rows."""
    module, kernels = kernels_of(SPHERICAL.format(dtype=dtype, d=d), "nvptx:sm_80")
    return module, kernels[-1]


def plan_of(kernel: ir.Operation) -> Plan:
    return make_plan(kernel, kernel_signature(kernel))


@dataclass(frozen=True)
class Case:
    """Arguments of the kernel, the rows that are rare, and results in float64."""

    arguments: list[Array]
    rare: npt.NDArray[np.bool_]
    wanted: Array


def case(dtype: str, bad: float | None = None) -> Case:
    """Queries of rare rows are orthogonal to all keys but a little; half of the blocks have none.

    Args:
        dtype: of arguments and results.
        bad: what the values of one position are, for the stream alone.
    """
    rng = np.random.default_rng(SEED)
    axis = np.eye(D)[0]
    k = 8 * axis * rng.standard_normal((2, KEYS, 1)) + 2**-6 * rng.standard_normal((2, KEYS, D))
    q, v = (rng.standard_normal((2, count, D)) for count in (ROWS, KEYS))
    rare = rng.random((2, ROWS)) < 0.2
    rare[:, ROWS // 2 :] = False
    q[..., 0] = np.where(rare, 0.0, 3.0)
    q, k, v = (rounded(x, dtype) for x in (q, k, v))
    scores = q @ k.swapaxes(1, 2)
    wanted = scores @ v / np.linalg.norm(scores, axis=-1, keepdims=True)
    gram, moments = np.einsum("hxd,hxe->hde", k, k), np.einsum("hxd,hxe->hde", k, v)
    if bad is not None:
        v[:, 7] = bad
    matrices = [*words(gram), *words(moments)] if dtype == "bf16" else [gram, moments]
    return Case([q, *matrices, (gram**2).sum((1, 2)), k, v], rare, wanted)


def rounded(x: Array, dtype: str) -> Array:
    return loaded(stored(x, dtype), dtype)


def words(x: Array) -> list[Array]:
    high = rounded(x, "bf16")
    return [high, rounded(x - high, "bf16")]


def run(kernel: ir.Operation, schedule: TileSchedule, given: Case, order: int = 0) -> Array:
    built = lower_tiles(kernel, parse_arch("sm_80"), schedule)
    options = SimulatorOptions(seed=order)
    found = run_tiles(kernel, built, translate_module(built), given.arguments, options=options)
    return found.found[0]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_all_rows_are_right(dtype: str, name: str) -> None:
    _module, kernel = applying(dtype)
    given = case(dtype)
    found = run(kernel, SCHEDULES[name], given)
    lost = np.linalg.norm(found - given.wanted, axis=-1) / np.linalg.norm(given.wanted, axis=-1)
    assert 4 < given.rare.sum() < ROWS
    assert lost.max() < TOLERANCE[dtype]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_the_stream_reads_reaches_rare_rows_alone(bad: float, name: str) -> None:
    _module, kernel = applying("bf16")
    given = case("bf16", bad)
    found = run(kernel, SCHEDULES[name], given, order=SEED % 1000 + 1)
    assert (~np.isfinite(found).all(-1) == given.rare).all()
    others = ~given.rare
    assert (
        np.abs(found - given.wanted)[others].max() < TOLERANCE["bf16"] * np.abs(given.wanted).max()
    )


@pytest.mark.parametrize("d", [32, 64, 128])
def test_results_do_not_stand_where_rare_rows_read(d: int) -> None:
    _module, kernel = applying("bf16", d)
    plan = plan_of(kernel)
    stream = rare_stream(plan)
    assert stream is not None
    again = read_again(plan, stream)
    assert [plan.signature.args[staged.argument].name for staged in again] == ["arg0"]  # queries
    for row_blocks in (1, 2):
        arena = lay_out(plan, TileSchedule(row_blocks=row_blocks, warps=4, chunk=16))
        ends = [arena.tiles[staged].offset + arena.tiles[staged].size for staged in again]
        assert max(ends) <= min(arena.results.values())


def test_32_rows_of_a_warp_fit() -> None:
    """States of the stream do not stand in registers beside products outside of it."""
    _module, kernel = applying("bf16", 128)
    found = list(candidates(plan_of(kernel), parse_arch("sm_90a")))
    assert any(schedule.row_blocks == 2 and schedule.warps == 8 for schedule in found)


OTHERWISE = {
    "added": r"arith.addf \2, \3 : f32",
    "where the condition does not hold": r"arith.select \1, \3, \2 : f32",
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_other_readers_of_the_stream_are_refused(name: str) -> None:
    """They are lowered, with the stream in front of the one store of all rows."""
    module, _kernel = applying("bf16")
    text = re.sub(r"arith.select (%\w+), (%\w+), (%\w+) : f32", OTHERWISE[name], str(module))
    with module.context, ir.Location.unknown():
        changed = ir.Module.parse(text)
        kernel = [op for op in diag.functions(changed) if diag.is_kernel(op)][-1]
        assert rare_stream(plan_of(kernel)) is None
        built = lower_tiles(kernel, parse_arch("sm_80"), SCHEDULES["16 rows of a warp"])
    assert "ldmatrix" in str(built.module)


def test_sums_over_rows_are_refused() -> None:
    """Gram states: a stream without a condition."""
    _module, (gram, *_) = kernels_of(SPHERICAL.format(dtype="bf16", d=D), "nvptx:sm_80")
    assert rare_stream(plan_of(gram)) is None
