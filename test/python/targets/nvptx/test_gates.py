"""Static gates: no kernel of a fixed matrix spills, and its blocks fit as the schedule claims."""

import pytest

from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.dialects import diag
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.targets.nvptx import ptxas
from diagc.targets.nvptx.arch import ARCHITECTURES, parse_arch
from diagc.targets.nvptx.pipeline import compile_module
from diagc.targets.nvptx.threads.lower import lower_threads
from diagc.testing.diagrams import BROADCASTS, ROWS, diagram

pytestmark = pytest.mark.skipif(
    ptxas.find_tool() is None, reason="NOT TESTED: registers of GPU kernels, for there is no ptxas"
)
OPTIONS = CompileOptions(library="none", target="nvptx")
MAPS = ("chain", "bias of long rows", "gates", "three results", "bias of short rows", "one vector")
NORMS = (
    "layer norm",
    "residual and layer norm",
    "rms norm",
    "softmax",
    "softmax of static rows",
    "softmax of long rows",
    "softmax along columns",
    "softmax along two axes",
    "group norm",
    "sum and sum of squares",
)
ATTENTION = """
axis b, h, q, x, d = {d}
diagram attention(Q: b h q d {dtype}, K: b h x d {dtype}, V: b h x d {dtype}) {{
  P = {kind}((Q . K over d) * 0.125) along x where (q >= x)
  return P . V over x
}}
"""
GRAM = """
axis n, m, c = 64, e = 64
diagram gram(X: n c {dtype}, Y: n e {dtype}) {{
  return X . Y over n
}}
"""


def sources(dtype: str) -> dict[str, str]:
    found = {}
    for name in (*MAPS, *NORMS):
        parameters, *body = (BROADCASTS | ROWS)[name]
        typed = ", ".join(f"{part} {dtype}" for part in parameters.split(", "))
        found[name] = diagram(typed, *body)
    for kind in ("softmax", "l2"):
        found[f"{kind} attention"] = ATTENTION.format(d=64, dtype=dtype, kind=kind)
    found["gram"] = GRAM.format(dtype=dtype)
    return found


def check_registers(source: str, arch: str) -> None:
    """Lower every kernel to threads, also those that tiles would take."""
    with make_context(), ir.Location.unknown(), use(OPTIONS):
        module = parse(source, "test.diag")
        run_pipeline(module, OPTIONS)
        kernels = [op for op in diag.functions(module) if diag.is_kernel(op)]
        assert kernels
        for kernel in kernels:
            built = lower_threads(kernel, parse_arch(arch))
            used = compile_module(built.module).resources
            for launch in built.launches:
                registers = 65536 // (launch.threads * launch.blocks_per_sm)
                assert used[launch.symbol].spills == 0
                assert used[launch.symbol].registers <= registers


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("name", sources("f32"))
def test_threads_do_not_spill(name: str, dtype: str) -> None:
    check_registers(sources(dtype)[name], "sm_80")


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if arch != "sm_80"])
@pytest.mark.parametrize("name", ["chain", "layer norm", "softmax", "softmax attention", "gram"])
def test_threads_do_not_spill_on_other_architectures(name: str, arch: str) -> None:
    check_registers(sources("bf16")[name], arch)
