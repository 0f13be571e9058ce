"""A package of three programs for a GPU that all add two tensors, for tests without a GPU."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diagc.report import Report
from diagc.runtime.cuda import CudaKernel
from diagc.runtime.gpu_kernel import GpuKernel, GpuLaunch
from diagc.runtime.package import archive
from diagc.runtime.package.tuned_table import TunedEntry
from diagc.runtime.package.writer import Contents, ProgramVariant, ProgramVariants, of_program
from diagc.runtime.program import Program
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.runtime.steps import ArrayType, Input, KernelCall, Output
from diagc.testing.fake_cuda import PTX

__all__ = [
    "DEVICE",
    "FAMILY",
    "SHAPES",
    "TIMES",
    "contents",
    "edit",
    "listed",
    "program",
    "tensors",
]

FAMILY = "ab" * 32
SHAPES = ({"n": 64, "c": 64}, {"n": 4096, "c": 64})
"""For which times are predicted."""

TIMES = {"small blocks": (1.0, 9.0), "large blocks": (2.0, 4.0), "threads": (8.0, 8.5)}
"""Predicted seconds by the names of the programs."""

DEVICE = "Fake GPU 0"
"""Name of the fake's first GPU."""


def _add_kernel(threads: int, arch: str) -> GpuKernel:
    wires = [Wire(name, "f32", ("n", "c")) for name in ("x", "y", "sum")]
    signature = KernelSignature("add", tuple(wires[:2]), tuple(wires[2:]), (Axis("n"), Axis("c")))
    launch = GpuLaunch("add", threads, 0, ((("c", 32),), ("n",)))
    return GpuKernel(signature, (launch,), (), arch, PTX, None)


def program(threads: int, arch: str = "sm_80") -> Program:
    """The sum of two; "cpu" poses as the GPU's device, threads tell programs apart."""
    type_ = ArrayType(("n", "c"), "f32")
    dims = (("n",), ("c",))
    inputs = [Input(name, "user", type_, (None, None), dims) for name in ("x", "y")]
    step = KernelCall((type_,), ((("axis", 0, 0), ("axis", 0, 1)),), 0, (0, 1))
    kernels = [CudaKernel(_add_kernel(threads, arch))]
    made = Program(inputs, [step], [Output(2, dims, (0, 1))], kernels)
    made.report = Report("add", "nvptx:sm_80", [])
    return made


def contents(**archs: str) -> Contents:
    """A package of three of them; `v0="sm_90"` is the architecture of the first."""
    programs = [program(32 << i, archs.get(f"v{i}", "sm_80")) for i in range(3)]
    entries = tuple(
        ProgramVariant(name, made, TIMES[name]) for name, made in zip(TIMES, programs, strict=True)
    )
    variants = ProgramVariants(FAMILY, "fake-80", SHAPES, entries)
    return replace(of_program(programs[0]), variants=variants)


def tensors(rows: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """What the programs take."""
    return torch.randn(rows, 64), torch.randn(rows, 64)


def listed(variant: str, source: str = "measured", device: str = DEVICE) -> str:
    """Text of a table that lists one variant for the first shape."""
    driver = "CUDA 13.0" if source == "measured" else None
    entry = TunedEntry(FAMILY, "add", "n=64 c=64", variant, source, 1e-3, driver, "0")
    return json.dumps(
        {"format": "diagc-tuned", "version": 1, "device": device, "entries": [vars(entry)]}
    )


def edit(package: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the manifest of a package, which need not stay a good one."""
    members = archive.read_members(package)
    plain = json.loads(members["manifest.json"])
    change(plain)
    members["manifest.json"] = json.dumps(plain).encode()
    archive.write_members(package, members, frozenset())
