"""What ptxas makes of products in tiles of rows and columns: no spills, nothing serialised."""

import pytest

from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.kernel import compile_kernel
from diagc.targets.nvptx.ptxas import find_tool
from diagc.testing.product_runs import kernels_with_products
from diagc.testing.wgmma_registers import lacking_registers, misuses

pytestmark = pytest.mark.skipif(
    find_tool() is None, reason="NOT TESTED: registers and spills, for there is no ptxas"
)

SCALED = """axis n, c = 4096, o = 4096
diagram f(X: n c bf16, G: c bf16, W: o c bf16) {
  Y: n c bf16 = rms(X) along c eps 1e-5 inside * G
  return Y . W over c
}"""
PAIR = """axis n, c = 4096, o = 4096
diagram f(X: n c bf16, G: c bf16, W: o c bf16, V: o c bf16) {
  Y: n c bf16 = rms(X) along c eps 1e-5 inside * G
  A: n o bf16 = Y . W over c
  B: n o bf16 = Y . V over c
  return silu(A) * B
}"""
LOGITS = """axis n, c = 4096, v
diagram f(X: n c bf16, W: v c bf16) {
  S: n v f32 = X . W over c
  M: n f32 = max(S) over v
  Z: n f32 = sum(exp(S - M)) over v
  return M + log(Z)
}"""


@pytest.mark.parametrize(
    ("text", "columns", "chunk", "depth"),
    [(SCALED, 256, 64, 0), (PAIR, 128, 64, 0), (LOGITS, 0, 256, 64)],
    ids=["scaled rows", "two products", "logits"],
)
def test_registers(text: str, columns: int, chunk: int, depth: int) -> None:
    """Serialised products, of which ptxas has notes, are errors of `assemble`."""
    _module, (kernel,) = kernels_with_products(text)
    with kernel.context, ir.Location.unknown():
        built, made = compile_kernel(kernel, parse_arch("sm_90a"))
    assert built.tiles is not None
    assert (built.tiles.producers, built.tiles.columns) == (4, columns)
    assert (built.tiles.chunk, built.tiles.depth) == (chunk, depth)
    for launch in (*built.bulk_launches, *built.launches):
        used = made.resources[launch.symbol]
        assert used.spills == 0
        assert not lacking_registers(made.ptx, launch.symbol, launch.threads, used.registers)
    assert misuses(made.ptx) == []
    for instruction in ("wgmma.mma_async", "cp.async.bulk.tensor", "setmaxnreg", "mbarrier"):
        assert instruction in made.ptx
