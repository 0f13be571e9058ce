"""Compiling modules for this CPU and for narrower ones; stages, failures, worker process."""

from typing import Any

import pytest
import torch

from diagc import debug
from diagc.context import make_context
from diagc.errors import LoweringError, TargetError
from diagc.mlir import ir
from diagc.runtime.cpu_features import (
    ISA_LEVELS,
    CpuFeatures,
    host_features,
    parse_cpuinfo,
    selected_features,
)
from diagc.runtime.cpu_kernel import CpuKernel
from diagc.runtime.externs import resolve
from diagc.runtime.torch_launch import TORCH_DTYPES, call
from diagc.targets.cpu.jit import STAGES, JitOptions, compile_module

HOST_LEVELS = [isa for isa, level in ISA_LEVELS.items() if level.needs <= host_features().flags]


def parse(text: str) -> ir.Module:
    with make_context():
        return ir.Module.parse(text)


def assembly(module: ir.Module, features: CpuFeatures) -> str:
    texts: dict[str, str] = {}
    compile_module(module, features, None, lambda stage, make: texts.update({stage: str(make())}))
    return texts["asm"]


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("isa", ["native", *HOST_LEVELS])
def test_kernels_of_every_level_of_this_cpu_are_right(
    isa: str, dtype: str, compile_add: Any, add_signature: Any
) -> None:
    with debug.CPU_ISA.override(isa):
        features = selected_features()
    kernel = CpuKernel(add_signature(dtype), compile_add(dtype, features))
    x, y = (torch.randn(9, 33).to(TORCH_DTYPES[dtype]) for _ in range(2))
    assert torch.equal(call(kernel, [x, y])[0], x + y)


@pytest.mark.skipif("avx2" not in HOST_LEVELS, reason="for x86-64 with AVX2")
def test_narrower_levels_use_narrower_registers(add_module: Any) -> None:
    avx2, sse2 = (host_features().at_level(isa) for isa in ("avx2", "sse2"))
    wide, narrow = assembly(add_module(8), avx2), assembly(add_module(4), sse2)
    assert "%ymm" in wide
    assert "%zmm" not in wide
    assert "%xmm" in narrow
    assert "%ymm" not in narrow


def test_stages_are_shown_in_order(add_module: Any, features: CpuFeatures) -> None:
    shown: dict[str, str | bytes] = {}
    done = compile_module(
        add_module(features.lanes),
        features,
        None,
        lambda stage, make: shown.update({stage: make()}),
    )
    assert tuple(shown) == STAGES
    assert "vector.maskedload" in str(shown["vector"])
    assert "llvm.intr.masked.load" in str(shown["llvm"])
    assert "define void @add(ptr" in str(shown["llvmir"])
    assert shown["object"] == done.code
    assert "add:" in str(shown["asm"])
    assert done.symbols == ("add",)
    assert set(done.seconds) == {"lower", "codegen"}


def test_same_module_gives_the_same_object(compile_add: Any) -> None:
    assert compile_add() == compile_add()


def test_worker_process_gives_the_same_object(compile_add: Any, add_object: bytes) -> None:
    assert compile_add(isolate=True) == add_object


# an instruction of AVX512-BF16 in a function that may use AVX2 only: LLVM aborts the process
ABORTS = """
llvm.func @f(%ctx: !llvm.ptr) {
  %a = llvm.load %ctx : !llvm.ptr -> vector<16xf32>
  %b = llvm.load %ctx : !llvm.ptr -> vector<32xbf16>
  %c = llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"(%a, %b, %b)
      : (vector<16xf32>, vector<32xbf16>, vector<32xbf16>) -> vector<16xf32>
  llvm.store %c, %ctx : vector<16xf32>, !llvm.ptr
  llvm.return
}
"""


@pytest.mark.skipif("avx2" not in HOST_LEVELS, reason="for x86-64 with AVX2")
def test_abort_of_llvm_in_a_worker_process_is_an_error() -> None:
    avx2 = host_features().at_level("avx2")
    with pytest.raises(LoweringError, match="LLVM cannot compile the kernel: LLVM ERROR"):
        compile_module(parse(ABORTS), avx2, JitOptions(isolate=True))


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "exports no function"),
        ("llvm.func @f()", "exports no function"),
        (
            "func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> { return %x : tensor<4xf32> }",
            "no lowering to LLVM for",
        ),
        (
            "func.func @f(%i: index) { %t = tensor.empty(%i) : tensor<?xf32>\n"
            '"test.use"(%t) : (tensor<?xf32>) -> ()\n return }',
            "no lowering to LLVM for .*test.use",
        ),
    ],
)
def test_what_cannot_be_lowered_is_refused(
    text: str, message: str, isolate: bool, features: CpuFeatures
) -> None:
    with make_context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        with pytest.raises(LoweringError, match=message):
            compile_module(module, features, JitOptions(isolate=isolate))


def cpuinfo(flags: str) -> str:
    first = f"processor : 0\nvendor_id\t: V\nmodel name\t: Some CPU\nflags\t\t: {flags}\n"
    return first + "\nprocessor : 1\n"


AVX2 = "fpu sse sse2 ssse3 avx avx2 fma f16c"
AVX512 = f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("flags", "isa", "lanes", "registers", "dot"),
    [
        (f"{AVX512} avx512_bf16", "avx512", 16, 32, True),
        (AVX512, "avx512", 16, 32, False),
        (f"{AVX2} avx512f", "avx2", 8, 16, False),
        (AVX2, "avx2", 8, 16, False),
        ("sse sse2 avx", "sse2", 4, 16, False),
    ],
)
def test_levels_are_read_from_cpuinfo(
    flags: str, isa: str, lanes: int, registers: int, dot: bool
) -> None:
    found = parse_cpuinfo(cpuinfo(flags))
    assert (found.isa, found.lanes, found.vector_registers) == (isa, lanes, registers)
    assert (found.bf16_dot, found.name) == (dot, "Some CPU")


def test_aarch64_is_read_from_cpuinfo() -> None:
    found = parse_cpuinfo("processor\t: 0\nFeatures\t: fp asimd bf16\nCPU implementer\t: 0x41\n")
    assert (found.isa, found.lanes, found.vector_registers) == ("neon", 4, 32)


def test_cpu_without_vectors_is_refused() -> None:
    with pytest.raises(TargetError, match="not supported, expected one of avx512"):
        parse_cpuinfo("processor : 0\nisa : rv64imac\n")


def test_level_that_the_cpu_lacks_is_refused() -> None:
    with pytest.raises(TargetError, match="does not have avx512, expected one of avx2, sse2"):
        parse_cpuinfo(cpuinfo(AVX2)).at_level("avx512")


def test_cache_text_tells_levels_and_features_apart() -> None:
    wide = parse_cpuinfo(cpuinfo(f"{AVX512} avx512_bf16"))
    plain = parse_cpuinfo(cpuinfo(AVX512))
    texts = {f.cache_text for f in (wide, plain, wide.at_level("avx512"), wide.at_level("avx2"))}
    assert len(texts) == 4
    assert wide.at_level("avx2").cache_text == plain.at_level("avx2").cache_text
    assert not wide.at_level("avx512").bf16_dot


# what the arith-expand pass avoids: LLVM rounds to bf16 by a function of libgcc
ROUNDS = """
llvm.func @f(%p: !llvm.ptr) {
  %x = llvm.load %p : !llvm.ptr -> f32
  %y = llvm.fptrunc %x : f32 to bf16
  llvm.store %y, %p : bf16, !llvm.ptr
  llvm.return
}
"""


@pytest.mark.skipif("avx2" not in HOST_LEVELS, reason="for x86-64 with AVX2")
@pytest.mark.skipif(resolve("__truncsfbf2") is not None, reason="libgcc is new enough")
def test_missing_runtime_function_is_named() -> None:
    with pytest.raises(LoweringError, match="calls __truncsfbf2, which this machine does not have"):
        compile_module(parse(ROUNDS), host_features().at_level("avx2"))
