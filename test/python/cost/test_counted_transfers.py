"""H of the cost model against what the simulator counts while the kernels run.

The prediction is made from the diagram, its groups and chunks alone, by the function that ranks
tiles; the count is of every byte that threads of the compiled kernel ask global memory for.
"""

from collections.abc import Mapping

import pytest

from diagc.cost import Traffic, transfers
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.tiles.decoration import tile_decoration
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.attention import Attention
from diagc.testing.tile_kernels import compile_tiles, kernels_of, random_inputs, run_tiles

TOLERANCE = 0.05

MATMUL = """axis g, a, b = 96, c = 64
diagram matmul(A: g a b bf16, B: g b c bf16) {
  C: g a c f32 = A . B over b
  return C
}
"""
SMALL, TALL = TileSchedule(warps=2, chunk=16), TileSchedule(row_blocks=2, warps=2, chunk=32)


def counted(kernel: ir.Operation, schedule: TileSchedule, sizes: Mapping[str, int]) -> Traffic:
    built, compiled = compile_tiles(kernel, schedule)
    inputs = random_inputs(built.signature, sizes)
    counters = [r.counters for r in run_tiles(kernel, built, compiled, inputs).reports]
    read = sum(counter.global_read_bytes for counter in counters)
    return Traffic(read, sum(counter.global_write_bytes for counter in counters))


def open_sizes(kernel: ir.Operation, sizes: Mapping[str, int]) -> dict[str, int]:
    axes = kernel_signature(kernel).axes
    return {axis.label: sizes[axis.label[0]] for axis in axes if axis.size is None}


CASES = {
    "matmul": (MATMUL, {"g": 2, "l": 160, "s": 96}),
    "attention": (Attention(d=32).text, {"g": 2, "l": 128, "s": 192}),
    "attention, causal": (Attention("q >= x", d=32).text, {"g": 2, "l": 192, "s": 192}),
    "attention, window": (
        Attention("(q >= x) and (q - x < 40)", d=32).text,
        {"g": 2, "l": 192, "s": 192},
    ),
    "attention with rests": (Attention(d=32).text, {"g": 2, "l": 150, "s": 200}),
    "heads that share keys": (
        Attention("q >= x", d=32, heads="g = 2", group=3).text,
        {"g": 2, "l": 96, "s": 128},
    ),
    "rows of one block that share keys": (
        Attention(heads="b, g = 2", group=4, queries="").text,
        {"g": 2, "s": 192},
    ),
}


@pytest.mark.parametrize("schedule", [SMALL, TALL], ids=["32 rows", "64 rows"])
@pytest.mark.parametrize("case", CASES)
def test_predicted_transfers_are_counted(case: str, schedule: TileSchedule) -> None:
    text, sizes = CASES[case]
    with use(CompileOptions(library="none")):
        _module, kernels = kernels_of(text)
    assert kernels
    for kernel in kernels:
        known = open_sizes(kernel, sizes)
        cut = tile_decoration(make_plan(kernel, kernel_signature(kernel)), schedule, known)
        with kernel.context, ir.Location.unknown():
            predicted = transfers(kernel, cut, known)
        found = counted(kernel, schedule, sizes)
        assert found.total > 0
        assert predicted.read == pytest.approx(found.read, rel=TOLERANCE)
        assert predicted.written == pytest.approx(found.written, rel=TOLERANCE)


def test_half_the_rows_bring_the_keys_twice_as_often() -> None:
    """The counts themselves follow the law, so that agreeing with them means something."""
    text, sizes = CASES["attention"]
    _module, (kernel,) = kernels_of(text)
    few, many = (counted(kernel, schedule, sizes).read for schedule in (SMALL, TALL))
    queries, keys = 2 * 128 * 32 * 2, 2 * 2 * 192 * 32 * 2
    assert few == pytest.approx(queries + 4 * keys, rel=TOLERANCE)
    assert many == pytest.approx(queries + 2 * keys, rel=TOLERANCE)
