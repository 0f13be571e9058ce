"""Which tiles the model chooses, by registers, empty lanes and cores."""

from collections.abc import Callable
from typing import Any

import pytest

from diagc.compiler import run_pipeline
from diagc.cost import cpu_device, steps_of, tilings
from diagc.cost.registers import ACCUMULATORS, SIDES, register_block, slowdown
from diagc.dialects import diag
from diagc.frontend.builder import Diagram, Wire
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.passes.kernels.schedule_candidates import best_schedule, ranked_schedules
from diagc.passes.kernels.schedules import TILES, read_schedule

Build = Callable[[Diagram], Wire]
kept: list[ir.Module] = []


def kernel_of(build: Build, stage: str = "kernels") -> ir.Operation:
    with Diagram("main") as g:
        g.output(build(g))
    kept.append(g.module)
    with g.module.context, ir.Location.unknown():
        run_pipeline(g.module, CompileOptions(target="cpu"), stage)
    (kernel,) = (op for op in diag.functions(g.module) if diag.is_kernel(op))
    return kernel


def attention(rows: Any, heads: int = 4) -> Build:
    def build(g: Diagram) -> Wire:
        q = g.input("Q", h=heads, q=rows, d=64)
        k, v = g.input("K", h=heads, x=..., d=64), g.input("V", h=heads, x=..., e=64)
        return q.contract(k, "d").normalize("softmax", "x").contract(v, "x")

    return build


@pytest.mark.parametrize(
    ("vector_bytes", "rows", "tile"),
    [
        (32, ..., 96),
        (32, 2048, 96),
        (32, 64, 32),  # blocks of 24 would leave 8 lanes empty
        (32, 72, 96),
        (64, ..., 64),
        (64, 197, 32),
        (64, 48, 48),
    ],
)
def test_tiles_fill_registers_and_leave_few_lanes_empty(
    vector_bytes: int, rows: Any, tile: int
) -> None:
    schedule = best_schedule(kernel_of(attention(rows)), cpu_device(vector_bytes))
    assert (schedule.mode, schedule.lane_tile) == ("lanes", tile)


def test_few_tasks_are_shared_out_evenly() -> None:
    """Two heads of 48 rows on 4 cores: tiles of 24 keep all of them busy."""
    kernel = kernel_of(attention(48, heads=2))
    one, four = (best_schedule(kernel, cpu_device(32).with_units(n)) for n in (1, 4))
    assert (one.lane_tile, four.lane_tile) == (96, 24)


def test_candidates_are_different_and_begin_with_the_choice() -> None:
    kernel = kernel_of(attention(2048))
    device = cpu_device(32)
    found = ranked_schedules(kernel, device)
    assert found[0] == best_schedule(kernel, device)
    assert len(set(found)) == len(found) > 10
    assert {schedule.mode for schedule in found} == {"lanes", "features"}


def test_the_pass_chooses_the_same() -> None:
    assert read_schedule(kernel_of(attention(2048), "schedules")) is not None


@pytest.mark.parametrize("registers", [16, 32])
def test_register_blocks_divide_tiles_and_fit(registers: int) -> None:
    for vectors in TILES[registers]:
        side, rows = register_block(vectors, registers)
        assert side in (*SIDES[registers], 1, 2)
        assert side * rows <= ACCUMULATORS[registers]
        assert vectors % side == 0


def test_slowdowns_are_as_measured() -> None:
    """Attention in f32 on AVX2: 1.00, 1.00, 1.00, 1.03, 2.0 of the best, exponentials and all."""
    device = cpu_device(32)
    best = slowdown(6, device)
    assert [round(slowdown(n, device) / best, 1) for n in (6, 3, 4, 2)] == [1.0, 1.0, 1.0, 1.0]
    assert slowdown(1, device) > 2 * best


def test_steps_divide_an_axis_or_are_powers_of_two() -> None:
    assert steps_of(96, 16) == [16, 32, 48, 64, 96]
    assert steps_of(7, 16) == [7]
    assert steps_of(10) == [1, 2, 4, 5, 8, 10]
    combinations = list(tilings({"a": 4, "b": 96}, {"b": 32}))
    assert combinations[0] == {"a": 1, "b": 32}
    assert len(combinations) == 3 * len(steps_of(96, 32))
