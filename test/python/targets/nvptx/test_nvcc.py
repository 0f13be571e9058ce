"""Our kernel beside one that a person wrote for nvcc: same algorithm, tiles and instructions."""

import subprocess
from pathlib import Path

import pytest

from diagc.targets.nvptx.ptxas import Resources, find_tool, parse_report
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.attention import Attention
from diagc.testing.cubins import instruction_count
from diagc.testing.tile_kernels import compile_tiles, kernels_of

SOURCE = Path(__file__).parents[4] / "benchmarks" / "gpu" / "nvcc" / "attention.cu"
SCHEDULE = TileSchedule(row_blocks=2, warps=4, chunk=64, stages=2, blocks_per_sm=2)
MOST = 1.1


def by_nvcc(nvcc: str, folder: Path) -> tuple[int, Resources]:
    """Instructions and resources of the kernel in CUDA C++."""
    target = folder / "attention.cubin"
    command = [nvcc, "-std=c++17", "-arch=sm_80", "-cubin", "-Xptxas", "-v"]
    done = subprocess.run(
        [*command, str(SOURCE), "-o", str(target)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    resources = parse_report(done.stderr + done.stdout)["attention"]
    return instruction_count(target.read_bytes(), "attention"), resources


def test_instructions_and_registers_are_within_a_tenth_of_nvcc(tmp_path: Path) -> None:
    nvcc = find_tool("nvcc")
    if nvcc is None or find_tool() is None:
        pytest.skip("NOT TESTED: our code beside nvcc's, for there is no nvcc, or no ptxas")
    wanted, theirs = by_nvcc(nvcc, tmp_path)
    _module, (kernel,) = kernels_of(Attention("q >= x").text)
    built, compiled = compile_tiles(kernel, SCHEDULE)
    assert compiled.cubin is not None
    (launch,) = built.launches
    found, ours = (
        instruction_count(compiled.cubin, launch.symbol),
        compiled.resources[launch.symbol],
    )
    assert ours.spills == theirs.spills == 0
    assert found <= MOST * wanted, f"{found} instructions, nvcc {wanted}"
    assert ours.registers <= MOST * theirs.registers, f"{ours.registers}, {theirs.registers}"


def test_both_kernels_multiply_as_often(tmp_path: Path) -> None:
    """The one would not be a measure for the other if it did less."""
    nvcc = find_tool("nvcc")
    if nvcc is None:
        pytest.skip("NOT TESTED: what the kernel in CUDA C++ does, for there is no nvcc")
    target = tmp_path / "attention.ptx"
    command = [nvcc, "-std=c++17", "-arch=sm_80", "-ptx", str(SOURCE), "-o", str(target)]
    subprocess.run(command, capture_output=True, check=True)
    theirs = target.read_text(encoding="utf-8")
    _module, (kernel,) = kernels_of(Attention("q >= x").text)
    ours = compile_tiles(kernel, SCHEDULE)[1].ptx
    for instruction in ("mma.sync", "ldmatrix", "cp.async.cg", "ex2.approx"):
        assert theirs.count(instruction) == ours.count(instruction), instruction
