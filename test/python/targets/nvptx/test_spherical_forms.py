"""Rows of unit length in three forms from one diagram, for sm_90a: streamed, by Gram, in chunks."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.runtime.program import Program
from diagc.simulator import SimulatorOptions
from diagc.simulator.program import simulated_program
from diagc.targets.nvptx.kernel import LoadedKernel
from diagc.testing.attention import Attention
from diagc.testing.seed import SEED
from diagc.testing.warpgroup_runs import TARGET, TOLERANCE

Array = Any
QUICK = SimulatorOptions(checking=False)


def form(d: int, where: str = "") -> str:
    return Attention(where, d=d, normaliser="l2", scores="S").text


def compiled(text: str, device: str = "") -> Program:
    options = CompileOptions(target=TARGET, library="none", device=device)
    with make_context(), ir.Location.unknown(), use(options):
        return compile_module(parse(text), TARGET, options)


def families(program: Program) -> list[str]:
    """What each kernel runs on."""
    found = []
    for kernel in program.kernels:
        assert isinstance(kernel, LoadedKernel)
        tiles = kernel.tiles
        bulk = tiles is not None and tiles.producers
        found.append("warpgroups" if bulk else "threads" if tiles is None else "tiles")
    return found


@pytest.fixture
def slow_device(tmp_path: Path) -> str:
    """An H200 with slow products in 16 bits and quick launches: sums are cut at chunks early."""
    text = files("diagc.cost").joinpath("devices/h200.toml").read_text(encoding="utf-8")
    assert "seconds = 4e-6" in text
    assert "per_second = 989.4e12" in text
    text = text.replace("seconds = 4e-6", "seconds = 1e-9")
    path = tmp_path / "slow.toml"
    path.write_text(text.replace("per_second = 989.4e12", "per_second = 9.894e9"))
    return str(path)


def check(program: Program, n: int, d: int, kept: Array | None = None) -> None:
    """Against float64."""
    rng = np.random.default_rng(SEED)
    q, k, v = (
        torch.tensor(rng.standard_normal((1, n, d))).to(torch.bfloat16).double().numpy()
        for _ in range(3)
    )
    (found,) = simulated_program(program, QUICK).run([q, k, v])
    scores = q @ k.swapaxes(1, 2)
    if kept is not None:
        scores = np.where(kept, scores, 0)
    length = np.sqrt((scores**2).sum(-1, keepdims=True))
    wanted = scores @ v / np.where(length, length, 1)
    assert abs(np.asarray(found, np.float64) - wanted).max() < TOLERANCE["bf16"] * abs(wanted).max()


def test_streamed() -> None:
    """Under a mask, no exponentials: products of warpgroups."""
    n, d = 200, 64
    text = form(d, "q >= x")
    program = compiled(text)
    assert families(program) == ["warpgroups"]
    check(program, n, d, np.tri(n, dtype=bool))


@pytest.mark.parametrize("d", [64, 128])
def test_by_gram_matrices(d: int) -> None:
    n = 150
    program = compiled(form(d))
    assert families(program) == ["tiles", "tiles"]
    check(program, n, d)


def test_in_chunks(slow_device: str) -> None:
    """Scores within a chunk and states of earlier chunks on tensor cores."""
    n, d = 1024, 16
    text = form(d, "q >= x").replace("q, x,", f"q = {n}, x = {n},")
    program = compiled(text, slow_device)
    assert families(program).count("tiles") > 2
    check(program, n, d, np.tri(n, dtype=bool))
