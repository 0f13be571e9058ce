"""Threads: whose OpenMP run time is used, and kernels without any."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from diagc.runtime import cpu_kernel, externs, openmp
from diagc.runtime.cpu_kernel import CpuKernel, thread_count
from diagc.runtime.openmp import find_openmp
from diagc.runtime.torch_launch import call


def test_the_pool_is_torchs_own() -> None:
    found = find_openmp()
    assert found is not None
    assert Path(found.library).parent == Path(torch.__file__).parent / "lib"
    assert found.parallel == externs.resolve("GOMP_parallel")


@pytest.mark.parametrize("first", ["torch", "diagc"])
def test_one_libgomp_is_loaded_whoever_comes_first(first: str) -> None:
    script = f"""
        if {first == "torch"}:
            import torch
        from diagc.runtime.openmp import find_openmp
        assert find_openmp() is not None
        import torch
        x = torch.randn(600, 600) @ torch.randn(600, 600)
        lines = open("/proc/self/maps").read().splitlines()
        paths = {{line.split()[-1] for line in lines if "libgomp" in line}}
        assert len(paths) == 1, paths
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_thread_count_is_torchs() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert thread_count() == 3
    finally:
        torch.set_num_threads(before)


def test_without_openmp_kernels_run_on_one_thread(
    monkeypatch: pytest.MonkeyPatch, add_object: bytes, add_signature: Any
) -> None:
    monkeypatch.setattr(openmp, "_open", lambda library: None)
    for module in (cpu_kernel, externs):
        monkeypatch.setattr(module, "find_openmp", find_openmp.__wrapped__)
    externs.resolve.cache_clear()
    try:
        kernel = CpuKernel(add_signature(), add_object)
    finally:
        externs.resolve.cache_clear()
    x = torch.randn(50, 20)
    assert torch.equal(call(kernel, [x, x], threads=8)[0], x + x)


def test_functions_outside_the_list_are_not_resolved() -> None:
    assert externs.resolve("system") is None
    assert all(externs.resolve(name) for name in ("exp", "expf", "memcpy", "malloc"))
