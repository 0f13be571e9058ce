"""Global traffic that is predicted for kernels on threads is what the simulator counts."""

from collections.abc import Mapping

import pytest
import torch

import diagc
from diagc.cost import Traffic
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.pipeline import lower_to_nvvm, translate
from diagc.targets.nvptx.threads.lower import lower_threads
from diagc.targets.nvptx.threads.traffic import thread_traffic
from diagc.testing.diagrams import BROADCASTS, LAYOUTS, REDUCED_AXES, ROWS, STATISTICS, diagram
from diagc.testing.tile_kernels import kernels_of, random_inputs, run_tiles

TOLERANCE = 0.02
ARCH = parse_arch("sm_80")
SIZES = {"g": 3, "l": 45, "s": 70, "v": 19}
"""By the first letters of labels: tails everywhere."""


def counted_and_predicted(
    kernel: ir.Operation, sizes: Mapping[str, int], *, rare: bool
) -> tuple[Traffic, Traffic | None]:
    with kernel.context, ir.Location.unknown():
        built = lower_threads(kernel, ARCH)
        lower_to_nvvm(built.module)
        text = translate(built.module)
    run = run_tiles(kernel, built, text, random_inputs(built.signature, sizes))
    counters = [report.counters for report in run.reports]
    counted = Traffic(
        sum(c.global_read_bytes for c in counters), sum(c.global_write_bytes for c in counters)
    )
    given = {a.label: sizes[a.label[0]] for a in built.signature.axes if a.size is None}
    return counted, thread_traffic(kernel, ARCH, given, rare=rare)


def check(text: str, sizes: Mapping[str, int] = SIZES, *, rare: bool = False) -> None:
    """Every kernel of a diagram."""
    with use(CompileOptions(library="none")):
        _module, kernels = kernels_of(text)
    assert kernels
    for kernel in kernels:
        counted, predicted = counted_and_predicted(kernel, sizes, rare=rare)
        assert predicted is not None
        assert counted.total > 0
        assert predicted.read == pytest.approx(counted.read, rel=TOLERANCE)
        assert predicted.written == pytest.approx(counted.written, rel=TOLERANCE)


@pytest.mark.parametrize("name", BROADCASTS)
def test_maps(name: str) -> None:
    parameters, *body = BROADCASTS[name]
    check(diagram(parameters, *body))


@pytest.mark.parametrize("name", LAYOUTS)
def test_views(name: str) -> None:
    parameters, *body = LAYOUTS[name]
    check(diagram(parameters, *body))


@pytest.mark.parametrize("name", REDUCED_AXES)
def test_reductions(name: str) -> None:
    parameters, axes = REDUCED_AXES[name]
    check(diagram(parameters, f"return sum(X) over {axes}"))


@pytest.mark.parametrize("name", ROWS)
def test_norms(name: str) -> None:
    parameters, *body = ROWS[name]
    check(diagram(parameters, *body))


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics(name: str) -> None:
    parameters, *body = STATISTICS[name]
    check(diagram(parameters, *body))


@pytest.mark.parametrize("dtype", ["bf16", "f64", "i1"])
def test_other_types(dtype: str) -> None:
    body = "return where(X, Y, 0.0)" if dtype == "i1" else "return exp(f32(X)) * Y + 1"
    check(diagram(f"X: n m {dtype}, Y: m", body), {"g": 3, "l": 256, "s": 256, "v": 5})


ATTENTION = """axis h, q, x, d = 32
diagram attention(Q: h q d, K: h x d, V: h x d) {{
  S = (Q . K over d) * 0.2
  P = {0}(S) along x{1}
  return P . V over x
}}
"""


@pytest.mark.parametrize("mask", ["", " where (q >= x)", " where (q >= x and x > q - 20)"])
@pytest.mark.parametrize("normaliser", ["softmax", "l2"])
def test_streams(normaliser: str, mask: str) -> None:
    """Blocks have bounds of their own; what applies a Gram matrix streams all rows again."""
    check(ATTENTION.format(normaliser, mask), {"g": 1, "l": 70, "s": 150}, rare=not mask)


def test_arrays_are_read_once_where_no_axis_has_a_tail() -> None:
    _module, (kernel,) = kernels_of(diagram("X: n m, Y: n m", "return exp(X) * Y + 1"))
    sizes = dict(zip(("g0", "l"), (1 << 14, 1 << 12), strict=True))
    predicted = thread_traffic(kernel, ARCH, {x: sizes[x] for x in _open_labels(kernel)})
    elements = 1 << 26
    assert predicted == Traffic(2 * 4 * elements, 4 * elements)


def _open_labels(kernel: ir.Operation) -> list[str]:
    with kernel.context, ir.Location.unknown():
        signature = lower_threads(kernel, ARCH).signature
    return [axis.label for axis in signature.axes if axis.size is None]


def test_programs_show_it() -> None:
    def normed(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x, (96,)) * w

    x, w = torch.randn(33, 96), torch.randn(96)
    compiled = diagc.compile(normed, x, w, target="nvptx")
    _out, report = diagc.simulate(compiled, x, w)
    assert report.predicted is not None
    assert report.predicted.read == pytest.approx(report.counters.global_read_bytes, rel=TOLERANCE)
    assert report.predicted.written == report.counters.global_write_bytes
    assert "of global memory" in compiled.explain()
