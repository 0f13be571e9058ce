"""Functions in PTX bear the names of their kernels, so that a profiler tells them apart."""

import json
import re
import zipfile
from pathlib import Path

import pytest
import torch

import diagc
from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.nvptx import LoadedKernel
from diagc.targets.nvptx.symbols import entry_symbol


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("stream_max_exp_d64_bf16", "stream_max_exp_d64_bf16"),
        ("map_exp_f32_1", "map_exp_f32_1"),
        ("my.kernel-2", "my_kernel_2"),
        ("shared", "kernel_shared"),
        ("add", "kernel_add"),
        ("2_rows", "kernel_2_rows"),
        ("_x", "kernel__x"),
        ("größe_1", "gr__e_1"),
    ],
)
def test_names_are_identifiers_of_ptx(name: str, symbol: str) -> None:
    with make_context():
        text = f'func.func private @"{name}"() attributes {{diag.kernel}} {{ return }}'
        (function,) = diag.functions(ir.Module.parse(text))
        assert entry_symbol(function) == symbol


def two(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two kernels of one kind that differ in a number."""
    return torch.softmax(x * 2.5, dim=-1), torch.softmax(y * 3.5, dim=-1)


def test_names_are_those_of_the_report_from_the_cache_too(tmp_path: Path) -> None:
    arrays = torch.randn(5, 7), torch.randn(3, 7)
    path = tmp_path / "two.diagpkg"
    for _ in range(2):
        compiled = diagc.compile(two, *arrays, target="nvptx:sm_80")
        kernels = compiled.latest.program.kernels
        names = [kernel.name for kernel in compiled.report.kernels]
        assert len(set(names)) == len(names) == 2
        for name, kernel in zip(names, kernels, strict=True):
            assert isinstance(kernel, LoadedKernel)
            symbols = [launch.symbol for launch in kernel.kernel.launches]
            assert symbols == [name] == re.findall(r"\.entry (\w+)\(", kernel.kernel.ptx)
        _results, report = diagc.simulate(compiled, *arrays)
        assert list(report.kernels) == names
    compiled.save(path)
    with zipfile.ZipFile(path) as package:
        entries = json.loads(package.read("manifest.json"))["kernels"]
    assert [entry["launches"][0]["symbol"] for entry in entries] == names
