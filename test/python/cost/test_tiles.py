"""The order in which tiles for GPUs are tried is that of the model, where it tells them apart."""

import pytest

from diagc.cost import device_of_architecture, rank
from diagc.mlir import ir
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.tiles.decoration import tile_decoration
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.tiles.schedule import candidates
from diagc.testing.tile_kernels import kernels_of

CLOSE = 1.06
"""Open sizes are assumed, so that less than this says nothing."""

ATTENTION = """axis h, q, x, d = WIDTH
diagram attention(Q: h q d bf16, K: h x d bf16, V: h x d bf16) {
  S: h q x f32 = Q . K over d
  P = softmax(S * 0.125) along x MASK
  O: h q d bf16 = P . V over x
  return O
}
"""


@pytest.mark.parametrize("arch", ["sm_80", "sm_89", "sm_90"])
@pytest.mark.parametrize("mask", ["", "where (q >= x)"])
@pytest.mark.parametrize("width", [64, 128])
def test_first_tiles_are_the_fastest_by_estimate(arch: str, mask: str, width: int) -> None:
    text = ATTENTION.replace("WIDTH", str(width)).replace("MASK", mask)
    _module, (kernel,) = kernels_of(text)
    plan = make_plan(kernel, kernel_signature(kernel))
    found = list(candidates(plan, parse_arch(arch)))
    cuts = [(schedule, tile_decoration(plan, schedule, {})) for schedule in found]
    with kernel.context, ir.Location.unknown():
        ranked = rank(kernel, cuts, device_of_architecture(arch))
    seconds = dict(ranked)
    assert len(seconds) > 1
    assert seconds[found[0]].seconds <= CLOSE * ranked[0][1].seconds


def test_with_16_rows_a_warp_reads_as_long_as_it_multiplies() -> None:
    """On sm_80, as was measured: ldmatrix for 16 rows takes as long as mma, for 32 rows half."""
    _module, (kernel,) = kernels_of(ATTENTION.replace("WIDTH", "64").replace("MASK", ""))
    plan = make_plan(kernel, kernel_signature(kernel))
    found = {s.row_blocks: s for s in candidates(plan, parse_arch("sm_80")) if s.chunk == 32}
    with kernel.context, ir.Location.unknown():
        cuts = [(blocks, tile_decoration(plan, s, {})) for blocks, s in found.items()]
        by_rows = dict(rank(kernel, cuts, device_of_architecture("sm_80")))
    one, two = by_rows[1].resources, by_rows[2].resources
    assert one["shared"] == pytest.approx(one["tensor"], rel=0.1)
    assert two["shared"] == pytest.approx(two["tensor"] / 2, rel=0.1)
