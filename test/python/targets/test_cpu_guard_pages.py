"""Kernels touch nothing outside of their tensors: beside them lie pages that nobody may touch."""

import ctypes
import faulthandler
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diagc import debug
from diagc.options import CompileOptions
from diagc.runtime.cpu_features import ISA_LEVELS, host_features
from diagc.runtime.torch_launch import TORCH_DTYPES
from diagc.testing.agreement import KERNELS_ONLY, Agreement, agreement
from diagc.testing.forked import in_fork
from diagc.testing.guard_pages import guarded, guarded_results
from diagc.testing.seed import SEED

LEVELS = [name for name in ("sse2", "avx2") if ISA_LEVELS[name].needs <= host_features().flags]
BOUNDS = {"f32": 1e-5, "f64": 1e-13, "bf16": 2e-2, "f16": 2e-3}
SIZES = {"b": 2, "q": 97, "x": 65}
"""Beside those of vectors, chunks and tiles."""


def attention(dtype: str, weights: str = "softmax(S) along x where (q + 9 >= x)") -> str:
    return f"""axis b, q, x, d = 17, e = 9
diagram attention(Q: b q d {dtype}, K: b x d {dtype}, V: b x e {dtype}) {{
  S = Q . K over d
  P = {weights}
  return P . V over x
}}
"""


def rows(dtype: str) -> str:
    return f"axis b, d = 77\ndiagram f(X: b d {dtype}) {{\n  return softmax(X) along d\n}}\n"


TURNED = "axis b, q, x\ndiagram f(X: b q x, Y: x b q) {\n  return exp(X) + Y\n}\n"
PRODUCT = (
    "axis m = 207, k = 389, n = 131\ndiagram f(X: m k, W: n k) {\n  return relu(X . W over k)\n}\n"
)
"""Of a tile that is not as many register blocks high as vectors."""
CASES = {
    **{f"attention in {dtype}": (attention(dtype), dtype) for dtype in ("f32", "f64", "bf16")},
    "sums of products": (attention("f32", "S * 2"), "f32"),
    "rows": (rows("f32"), "f32"),
    "rows in f16": (rows("f16"), "f16"),
    "turned": (TURNED, "f32"),
    "tiles": (PRODUCT, "f32"),
}


def tensors(both: Agreement) -> list[Tensor]:
    """The last two axes of the second input have gaps, and lie in the other order."""
    arrays = both.random(SIZES, SEED)
    given = [
        torch.tensor(array).to(TORCH_DTYPES[entry.type.dtype])
        for array, entry in zip(arrays, both.program.inputs, strict=True)
    ]
    if len(given) > 1:
        wide = torch.zeros(*given[1].shape[:-2], *given[1].mT.shape[-2:-1], 2 * given[1].shape[-2])
        gaps = wide.to(given[1].dtype)[..., 1::2]
        given[1] = gaps.copy_(given[1].mT).mT
    return given


def error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest, relative to the largest element; NaN if something is NaN."""
    pairs = zip(found, exact, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def check(source: str, level: str, bound: float, options: CompileOptions) -> None:
    """Run in a process of its own, which may be killed."""
    with debug.CPU_ISA.override(level):
        both = agreement(source, options)
    assert both.fall_backs == []
    assert both.kernels
    given = tensors(both)
    exact = both.reference([x.double() if x.is_floating_point() else x for x in given])

    def runs(at_end: bool) -> bool:
        faulthandler.disable()
        torch.set_num_threads(1)  # the pool's threads are the parent's
        with guarded_results(at_end=at_end):
            found = both.program([guarded(x, at_end=at_end) for x in given])
            return error(found, exact) <= bound

    assert in_fork(lambda: runs(at_end=True), seconds=30)
    assert in_fork(lambda: runs(at_end=False), seconds=30)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_forward(name: str, level: str) -> None:
    source, dtype = CASES[name]
    options = replace(KERNELS_ONLY, library="tiled") if source == PRODUCT else KERNELS_ONLY
    check(source, level, BOUNDS[dtype], options)


def test_gradients() -> None:
    check(attention("f32"), LEVELS[-1], 1e-4, replace(KERNELS_ONLY, wrt=("K",)))


def test_who_reads_too_far_is_killed() -> None:
    def reads(place: int, *, at_end: bool) -> bool:
        faulthandler.disable()
        tensor = guarded(torch.ones(12), at_end=at_end)
        return len(ctypes.string_at(tensor.data_ptr() + place, 1)) == 1

    assert in_fork(lambda: reads(0, at_end=False) and reads(47, at_end=True), seconds=30)
    assert not in_fork(lambda: reads(-1, at_end=False), seconds=30)
    assert not in_fork(lambda: reads(48, at_end=True), seconds=30)
