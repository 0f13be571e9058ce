"""Causal sums of squares in chunks on tensor cores: against float64, beside scores, and statically.

States of chunks, their sums over earlier chunks, and what applies them are kernels on tiles; rows
that these would give without their digits are streamed.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from diagc import compiler
from diagc.algebra.graph import Graph
from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.passes.contractions import chunk_guard, chunked_sums, reassociate_contractions
from diagc.passes.contractions.chain_search import MaskedChain
from diagc.runtime.program import Program
from diagc.simulator import SimulatorOptions
from diagc.simulator.program import simulated_program
from diagc.targets.nvptx.kernel import LoadedKernel
from diagc.targets.nvptx.ptxas import disassemble, find_tool
from diagc.testing.seed import SEED
from diagc.testing.warpgroup_runs import TARGET

Array = Any
Inputs = Callable[[int, int], tuple[Array, Array, Array]]
QUICK = SimulatorOptions(checking=False)
FORM = """axis h, {axis}q = {n}, x = {n}, {d}
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
    n: int,
    d: int,
    dtype: str = "bf16",
    heads: int = 1,
    weights: str = L2,
    depth: str = "d = {}",
    **options: Any,
) -> Program:
    axis, label = (f"r = {heads}, ", "r ") if heads > 1 else ("", "")
    text = FORM.format(n=n, d=depth.format(d), dtype=dtype, axis=axis, heads=label, weights=weights)
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


def tiny(n: int, d: int) -> tuple[Array, Array, Array]:
    """Keys whose squares f32 does not hold, and queries that give scores which it does."""
    q, k, v = drawn(n, d, "bf16")
    return rounded(q * 1e12, "bf16"), rounded(k * 1e-22, "bf16"), v


@cache
def both(n: int, d: int) -> tuple[Program, Program]:
    """As one stream, and cut at chunks."""
    return compiled(n, d, reassociate="off"), compiled(n, d)


@pytest.mark.parametrize(
    ("make", "part", "without"), [(hard, "_BOUND", 1e30), (tiny, "_LOST", 0.0)]
)
def test_rows_that_states_do_not_give(
    make: Inputs, part: str, without: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, d = 100, 16
    inputs, (streamed, guarded) = make(n, d), both(n, d)
    least = error(streamed, inputs)
    assert error(guarded, inputs) <= 1.05 * least
    monkeypatch.setattr(chunk_guard, part, without)
    assert error(compiled(n, d), inputs) > 1.3 * least


def test_a_guard_needs_the_number_of_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the depth is open squares are summed in f64, and nothing is doubtful."""
    found: list[chunk_guard.ChunkGuard | None] = []

    def guard(graph: Graph, chain: MaskedChain) -> chunk_guard.ChunkGuard | None:
        found.append(chunk_guard.chunk_guard(graph, chain))
        return found[-1]

    monkeypatch.setattr(chunked_sums, "chunk_guard", guard)
    for depth in ("d = {}", "d"):
        program = compiled(64, 16, depth=depth)
        wires = [wire for kernel in program.kernels for wire in kernel.signature.wires]
        assert any(wire.dtype == "f64" for wire in wires) == (found[-1] is None)
    assert [each is None for each in found] == [False, True]


@pytest.mark.skipif(find_tool() is None, reason="NOT TESTED: registers, for there is no ptxas")
def test_registers() -> None:
    """Products on tensor cores, and nothing spilled; what has no product is on threads.

    With a factor of the scores, by which states are multiplied where they join a chunk's sums.
    """
    found = kernels(compiled(16384, 128))
    assert any(name.startswith(("stream", "contract")) for name in found)
    for name, kernel in found.items():
        assert kernel.kernel.cubin is not None
        sass = disassemble(kernel.kernel.cubin)
        if sass is None:
            pytest.skip("NOT TESTED: machine code, for there is neither nvdisasm nor cuobjdump")
        assert not set(re.findall(r"\b(STL|LDL)\b", sass)), name
        is_product = name.startswith(("stream", "contract"))
        assert is_product == bool(re.search(r"\bHG?MMA\b", sass)), name
