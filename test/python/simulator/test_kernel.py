"""Kernels as the compiler hands them over: launches, workspaces, sizes and strides."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch

from diagc.context import make_context
from diagc.errors import LaunchError
from diagc.mlir import ir
from diagc.runtime.gpu_kernel import GpuKernel, GpuLaunch, Workspace
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.simulator import SimulatorOptions, simulate_kernel
from diagc.targets.nvptx.pipeline import lower_to_nvvm, translate

# Twice the input, through a workspace; the second launch forgets the last element where asked to.
SOURCE = """
module {
  gpu.module @kernels [#nvvm.target<chip = "sm_80", features = "+ptx78">] {
    gpu.func @first(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>, %w: !llvm.ptr<1>, %n: i32,
                    %sx: i64, %sy: i64) kernel {
      %t = nvvm.read.ptx.sreg.tid.x : i32
      %b = nvvm.read.ptx.sreg.ctaid.x : i32
      %c = arith.constant 32 : i32
      %i0 = arith.muli %b, %c : i32
      %i = arith.addi %i0, %t : i32
      %in = arith.cmpi ult, %i, %n : i32
      scf.if %in {
        %l = arith.extui %i : i32 to i64
        %o = arith.muli %l, %sx : i64
        %p = llvm.getelementptr %x[%o] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
        %v = llvm.load %p : !llvm.ptr<1> -> f32
        %q = llvm.getelementptr %w[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
        llvm.store %v, %q : f32, !llvm.ptr<1> loc("model.py":12:7)
      }
      gpu.return
    }
    gpu.func @second(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>, %w: !llvm.ptr<1>, %n: i32,
                     %sx: i64, %sy: i64) kernel {
      %t = nvvm.read.ptx.sreg.tid.x : i32
      %less = arith.constant LESS : i32
      %m = arith.subi %n, %less : i32
      %in = arith.cmpi ult, %t, %m : i32
      scf.if %in {
        %q = llvm.getelementptr %w[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
        %v = llvm.load %q : !llvm.ptr<1> -> f32 loc("model.py":13:9)
        %two = arith.addf %v, %v : f32
        %l = arith.extui %t : i32 to i64
        %o = arith.muli %l, %sy : i64
        %p = llvm.getelementptr %y[%o] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
        llvm.store %two, %p : f32, !llvm.ptr<1>
      }
      gpu.return
    }
  }
}
"""


@dataclass(frozen=True)
class Compiled:
    kernel: GpuKernel
    llvm_text: str


@cache
def compiled(less: int = 0, launches: tuple[str, ...] = ("first", "second")) -> Compiled:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(SOURCE.replace("LESS", str(less)))
        lower_to_nvvm(module)
        text = translate(module, locations=True)
    wires = [Wire(name, "f32", ("i",), unit_stride=False) for name in ("x", "y")]
    signature = KernelSignature("twice", (wires[0],), (wires[1],), (Axis("i"),))
    starts = {
        "first": GpuLaunch("first", 32, 0, ((("i", 32),),)),
        "second": GpuLaunch("second", 64, 0, ((),)),
    }
    kernel = GpuKernel(
        signature,
        tuple(starts[name] for name in launches),
        (Workspace("f32", ("i",)),),
        "sm_80",
        "",
    )
    return Compiled(kernel, text)


def test_launches_run_in_order_on_arrays_and_tensors(rng: np.random.Generator) -> None:
    x = rng.standard_normal(80).astype(np.float32)[::2]
    (y,), report = simulate_kernel(compiled(), x)
    assert report.clean, report
    assert report.kernels == ("first", "second")
    np.testing.assert_array_equal(y, 2 * x)
    assert report.counters.global_read_bytes == 2 * x.nbytes
    (tensor,), _ = simulate_kernel(compiled(), torch.from_numpy(x.copy())[5:])
    np.testing.assert_array_equal(tensor.numpy(), 2 * x[5:])


def test_fast_mode_gives_the_same(rng: np.random.Generator) -> None:
    x = rng.standard_normal(33).astype(np.float32)
    (y,), report = simulate_kernel(compiled(), x, options=SimulatorOptions(checking=False))
    assert report.clean
    np.testing.assert_array_equal(y, 2 * x)


def test_elements_that_nobody_writes(rng: np.random.Generator) -> None:
    x = rng.standard_normal(40).astype(np.float32)
    (y,), report = simulate_kernel(compiled(less=1), x)
    assert [finding.kind for finding in report.findings] == ["unwritten-result"]
    assert "1 of 40 elements of 'y' are never written" in str(report)
    assert np.isnan(y[-1])


def test_workspace_starts_unwritten_and_findings_have_locations() -> None:
    x = np.ones(8, np.float32)
    _, report = simulate_kernel(compiled(launches=("second",)), x)
    (finding,) = report.findings
    assert finding.kind == "unwritten-read"
    assert "'workspace 0' at byte 0" in finding.message
    assert finding.site is not None
    assert finding.site.location == "model.py:13:9"
    assert "by load at model.py:13:9" in str(report)


def test_nothing_to_do() -> None:
    (y,), report = simulate_kernel(compiled(), np.ones(0, np.float32))
    assert y.shape == (0,)
    assert report.clean
    assert report.kernels == ()


def test_wrong_array_is_refused() -> None:
    with pytest.raises(LaunchError, match="wrong dtype"):
        simulate_kernel(compiled(), np.ones(3, np.float64))
