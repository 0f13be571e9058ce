"""The tool chain of NVIDIA GPUs: respelled LLVM IR, the worker process, ptxas, targets' options."""

import os
from pathlib import Path

import pytest

from diagc.errors import LoweringError, TargetError
from diagc.targets import get_target
from diagc.targets.nvptx import codegen, ptxas
from diagc.targets.nvptx.arch import ARCHITECTURES, parse_arch
from diagc.targets.nvptx.nvvm_text import to_nvptx_llvm

KERNEL = """
define ptx_kernel void @kernel(ptr addrspace(1) %p) {{
  %x = load float, ptr addrspace(1) %p
  {op}
  store float %y, ptr addrspace(1) %p
  ret void
}}
declare float {name}(float)
"""
GOOD = KERNEL.format(op="%y = call float @llvm.fabs.f32(float %x)", name="@llvm.fabs.f32")
UNKNOWN = GOOD.replace("@llvm.fabs.f32", "@llvm.nvvm.no.such.thing")
# NVPTX has no sine in double precision: "Cannot select"
ABORTS = (
    GOOD.replace("fabs", "sin").replace(".f32", ".f64").replace("float", "double")
)  # fmt: skip
needs_ptxas = pytest.mark.skipif(ptxas.find_tool() is None, reason="no ptxas on this machine")


def test_good_module_becomes_ptx() -> None:
    text = codegen.to_ptx(GOOD, "sm_80", "+ptx78")
    assert ".target sm_80" in text
    assert "abs.f32" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (UNKNOWN, r"has no intrinsic llvm\.nvvm\.no\.such\.thing"),
        (ABORTS, r"LLVM cannot compile the kernel: .*sin"),
        ("define void @f(", "LLVM cannot compile the kernel: .*expected"),
    ],
)
def test_refused_module_is_an_error_and_the_worker_goes_on(text: str, message: str) -> None:
    with pytest.raises(LoweringError, match=message):
        codegen.to_ptx(text, "sm_80", "+ptx78")
    assert "abs.f32" in codegen.to_ptx(GOOD, "sm_86", "+ptx78")


def test_declarations_lose_attributes_and_assembly_is_convergent() -> None:
    text = """declare noundef range(i32 0, 32) i32 @llvm.nvvm.x(ptr captures(none), i32 immarg) #0
declare { i32, i1 } @llvm.nvvm.y({ i32, i32 } noundef) #1
  %1 = call i32 asm sideeffect "x (y)", "=r,r"(i32 %0), !srcloc !3
  call void asm sideeffect "z", ""() #2
  %2 = call i32 @f(i32 %1)
attributes #0 = { nounwind }
attributes #2 = { nounwind }"""
    assert to_nvptx_llvm(text).splitlines() == [
        "declare i32 @llvm.nvvm.x(ptr, i32)",
        "declare { i32, i1 } @llvm.nvvm.y({ i32, i32 } noundef)",
        '  %1 = call i32 asm sideeffect "x (y)", "=r,r"(i32 %0) convergent nounwind, !srcloc !3',
        '  call void asm sideeffect "z", ""() convergent nounwind #2',
        "  %2 = call i32 @f(i32 %1)",
        "attributes #2 = { nounwind }",
    ]


REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'b' for 'sm_80'
ptxas info    : Function properties for b
    24 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 24 bytes cumulative stack size, 512 bytes smem
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 14 registers, used 0 barriers
"""


def test_report_of_ptxas_is_read_by_function() -> None:
    found = ptxas.parse_report(REPORT)
    assert found["a"] == ptxas.Resources(14, 0, 0, 0, 0)
    assert found["b"] == ptxas.Resources(255, 24, 8, 16, 512)
    assert found["b"].spills == 24


@needs_ptxas
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_assembles(arch: str) -> None:
    ptx = codegen.to_ptx(GOOD, arch, parse_arch(arch).features)
    done = ptxas.assemble(ptx, arch)
    assert done is not None
    assert done.cubin.startswith(b"\x7fELF")
    assert done.resources["kernel"].spills == 0


@needs_ptxas
def test_what_ptxas_refuses_is_an_error() -> None:
    with pytest.raises(LoweringError, match="ptxas refuses the kernel"):
        ptxas.assemble(".version 7.8\n.target sm_80\n.address_size 64\nnonsense", "sm_80")


def fake_tool(folder: Path, script: str) -> None:
    path = folder / "ptxas"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o700)


def test_ptxas_is_found_in_cuda_home_and_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.delenv("CUDA_PATH", raising=False)
    if ptxas.find_tool() is None:
        assert ptxas.assemble("", "sm_80") is None
    (tmp_path / "bin").mkdir()
    fake_tool(tmp_path / "bin", "exit 0")
    assert ptxas.find_tool() == str(tmp_path / "bin" / "ptxas")


def test_notes_on_serialised_products_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = "ptxas info : (C7510) Potential Performance Loss: wgmma.mma_async are serialized"
    fake_tool(tmp_path, f'touch "$5"; echo "{note}" >&2')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(LoweringError, match="C7510"):
        ptxas.assemble("", "sm_90")


def test_target_takes_an_architecture() -> None:
    assert get_target("nvptx").spec == "nvptx:sm_80"
    assert get_target("nvptx:sm_90").arch == "sm_90"
    assert get_target("cpu").spec == "cpu"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nvptx:sm_35", r"expected one of sm_80, .*, found 'sm_35'"),
        ("cpu:sm_80", "target 'cpu' takes no architecture"),
        ("tpu:v5", "unknown target"),
    ],
)
def test_wrong_architecture_is_refused(name: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        get_target(name)
