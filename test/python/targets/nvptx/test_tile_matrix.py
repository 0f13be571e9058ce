"""The matrix of kernels on tiles: normaliser, mask, type, head, group, stages, tails.

The traffic that is counted shows that the loops went where the bounds say.
"""

from collections.abc import Iterator
from itertools import product

import pytest

from diagc.cost import Traffic
from diagc.mlir import ir
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.traffic import tile_traffic, visited_chunks
from diagc.testing.attention import MASKS, TailedAttention
from diagc.testing.tile_kernels import kernels_of, random_inputs, run_tiles, translate_tiles

# of the largest element: products and results are rounded to the type, 2**-9 and 2**-12 each
TOLERANCE = {"bf16": 3 * 2.0**-9, "f16": 3 * 2.0**-12, "f32": 4e-6}
CHUNK, WARPS = 16, 2
HEADS = (32, 16, 64, 40, 128, 80, 96)
TAILS = (1, 15, 7, 8)


def _cases() -> Iterator[TailedAttention]:
    """Every normaliser with every mask and type, three times with other sizes."""
    kinds = product(("softmax", "l1", "relu_sum", "l2"), MASKS, TOLERANCE, range(3))
    streamed = (kind for kind in kinds if kind[:2] != ("l2", "none"))  # that is re-associated
    for number, (normaliser, mask, dtype, turn) in enumerate(streamed):
        row_blocks = 2 if number % 11 == 0 and dtype != "f32" else 1
        yield TailedAttention(
            *(normaliser, mask, dtype, HEADS[number % len(HEADS)]),
            chunk=CHUNK,
            stages=2 + turn,
            group=(0, 2, 0, 3)[number // 3 % 4],
            tile=16 * WARPS * row_blocks,
            tails=(TAILS[number % 4], TAILS[number // 4 % 4]),
            passed=2,
        )


CASES = list(_cases())


def _name(case: TailedAttention) -> str:
    group = f"-r{case.group}" if case.group else ""
    kind = f"{case.normaliser}-{case.mask}-{case.dtype}-d{case.d}{group}"
    return f"{kind}-s{case.stages}-{case.rows}x{case.keys}"


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_kernel(case: TailedAttention) -> None:
    """With all checks of the simulator."""
    module, (kernel,) = kernels_of(case.text)
    schedule = TileSchedule(case.tile // (16 * WARPS), WARPS, CHUNK, case.stages)
    built, text = translate_tiles(kernel, schedule)
    inputs = random_inputs(built.signature, {"g": 1, "l": case.rows, "s": case.keys})
    run = run_tiles(kernel, built, text, inputs)
    assert run.error() < TOLERANCE[case.dtype]
    (report,) = run.reports
    assert report.checking
    counted = report.counters.global_read_bytes, report.counters.global_write_bytes
    check_tiles(case, kernel, schedule, Traffic(*counted))
    del module


def check_tiles(
    case: TailedAttention, kernel: ir.Operation, schedule: TileSchedule, counted: Traffic
) -> None:
    """Some block visits enough chunks, and what was counted is what such blocks read."""
    plan = make_plan(kernel, kernel_signature(kernel))
    given = {"g": 1, "l": case.rows, "s": case.keys}
    sizes = {label: given[label[0]] for label in plan.sizes if label[0] in given}
    (visited,) = visited_chunks(plan, schedule, sizes)
    assert max(visited) > 2 * case.stages
    assert case.rows > schedule.rows
    assert case.rows % schedule.rows
    assert case.keys % schedule.chunk
    predicted = tile_traffic(plan, schedule, sizes)
    assert predicted.read == pytest.approx(counted.read, rel=0.02)
    assert predicted.written == counted.written


def test_the_matrix_is_full() -> None:
    print(f"{len(CASES)} kernels on tiles")
    assert len(set(CASES)) == len(CASES) >= 150
    pairs = {(case.normaliser, case.stages, bool(case.group)) for case in CASES}
    assert len(pairs) == 4 * 3 * 2
    assert {(case.dtype, case.d) for case in CASES} == set(product(TOLERANCE, HEADS))
