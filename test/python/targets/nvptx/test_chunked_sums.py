"""Causal sums of squares in chunks on tensor cores: against float64, beside scores, and statically.

States of chunks, their sums over earlier chunks, and what applies them are kernels on tiles; rows
that these would give without their digits are streamed.
"""

import re
from typing import Any

import numpy as np
import pytest
import torch

from diagc import compiler
from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.passes import chunk_guard, reassociate_contractions
from diagc.runtime.program import Program
from diagc.simulator import SimulatorOptions
from diagc.simulator.program import simulated_program
from diagc.targets.nvptx.kernel import LoadedKernel
from diagc.targets.nvptx.ptxas import disassemble, find_tool
from diagc.testing.seed import SEED
from diagc.testing.warpgroup_runs import TARGET

Array = Any
QUICK = SimulatorOptions(checking=False)
FORM = """axis h, {axis}q = {n}, x = {n}, d = {d}
diagram causal(Q: h {heads}q d {dtype}, K: h x d {dtype}, V: h x d {dtype}) {{
  S: h {heads}q x f32 = Q . K over d
  P = {weights}
  O: h {heads}q d {dtype} = P . V over x
  return O
}}
"""
L2 = "l2(S * 0.5) along x where (q >= x)"
SUM = "where(q >= x, S, 0.0)"


@pytest.fixture(autouse=True)
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut whatever can be cut, though short sums take less time as a stream; compile anew."""
    monkeypatch.setattr(reassociate_contractions, "GAIN", 0.0)
    monkeypatch.setattr(compiler, "_program_key", lambda *_: None)


def compiled(
    n: int, d: int, dtype: str = "bf16", heads: int = 1, weights: str = L2, **options: Any
) -> Program:
    axis, label = (f"r = {heads}, ", "r ") if heads > 1 else ("", "")
    text = FORM.format(n=n, d=d, dtype=dtype, axis=axis, heads=label, weights=weights)
    chosen = CompileOptions(target=TARGET, library="none", device="h200", **options)
    with make_context(), ir.Location.unknown(), use(chosen):
        return compile_module(parse(text), TARGET, chosen)


def kernels(program: Program) -> dict[str, LoadedKernel]:
    loaded = [kernel for kernel in program.kernels if isinstance(kernel, LoadedKernel)]
    return {kernel.kernel.launches[0].symbol: kernel for kernel in loaded}


def drawn(n: int, d: int, dtype: str, heads: int = 1) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(SEED)
    rows = (1, heads, n, d) if heads > 1 else (1, n, d)
    arrays = (rng.standard_normal(shape) for shape in (rows, (1, n, d), (1, n, d)))
    q, k, v = (rounded(array, dtype) for array in arrays)
    return q, k, v


def rounded(array: Array, dtype: str) -> Array:
    types = {"bf16": torch.bfloat16, "f16": torch.float16}
    return torch.tensor(array).to(types[dtype]).double().numpy()


def wanted(q: Array, k: Array, v: Array, weights: str = L2) -> Array:
    if q.ndim > k.ndim:
        k, v = k[:, None], v[:, None]
    scores = np.where(np.tri(q.shape[-2], dtype=bool), q @ k.swapaxes(-1, -2), 0.0)
    if weights == L2:
        length = np.sqrt((scores**2).sum(-1, keepdims=True))
        scores = scores / np.where(length, length, 1.0)
    return scores @ v


def error(program: Program, inputs: tuple[Array, Array, Array], weights: str = L2) -> float:
    (found,) = simulated_program(program, QUICK).run(list(inputs))
    exact = wanted(*inputs, weights)
    assert np.isfinite(found).all()
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize(
    ("n", "d", "dtype", "heads", "weights"),
    [
        (100, 16, "f16", 2, L2),
        (100, 16, "bf16", 1, SUM),
    ],
)
def test_no_worse_than_scores(n: int, d: int, dtype: str, heads: int, weights: str) -> None:
    """Tails, heads that share keys, no statistic: beside one stream of scores."""
    inputs = drawn(n, d, dtype, heads)
    program = compiled(n, d, dtype, heads, weights)
    found = kernels(program)
    products = [name for name in found if name.startswith(("stream", "contract"))]
    assert len(products) >= 3
    assert [name for name in products if found[name].tiles is None] == []
    streamed = compiled(n, d, dtype, heads, weights, reassociate="off")
    assert error(program, inputs, weights) <= 1.05 * error(streamed, inputs, weights)


def hard(n: int, d: int) -> tuple[Array, Array, Array]:
    """Queries that are orthogonal to all keys, of rank 4, but for a part of a thousandth."""
    q, k, v = drawn(n, d, "bf16")
    basis = np.linalg.qr(k[0, :d, :4])[0]
    k = rounded(k @ basis @ basis.T, "bf16")
    return rounded(q - 0.999 * (q @ basis @ basis.T), "bf16"), k, v


def test_rows_near_the_null_space_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    n, d = 100, 16
    inputs = hard(n, d)
    streamed = error(compiled(n, d, reassociate="off"), inputs)
    assert error(compiled(n, d), inputs) <= 1.05 * streamed
    monkeypatch.setattr(chunk_guard, "_BOUND", 1e30)
    assert error(compiled(n, d), inputs) > 1.3 * streamed


@pytest.mark.skipif(find_tool() is None, reason="NOT TESTED: registers, for there is no ptxas")
def test_registers() -> None:
    """Products on tensor cores, and nothing spilled; what has no product is on threads.

    With a factor of the scores, by which states are multiplied where they join a chunk's sums.
    """
    for name, kernel in kernels(compiled(16384, 128)).items():
        assert kernel.kernel.cubin is not None
        sass = disassemble(kernel.kernel.cubin)
        if sass is None:
            pytest.skip("NOT TESTED: machine code, for there is neither nvdisasm nor cuobjdump")
        assert not set(re.findall(r"\b(STL|LDL)\b", sass)), name
        is_product = name.startswith(("stream", "contract"))
        assert is_product == bool(re.search(r"\bHG?MMA\b", sass)), name
