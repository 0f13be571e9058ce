"""Shuffles, votes, reductions and scalar instructions against numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diagc.errors import UnsupportedError
from diagc.simulator import Buffer
from diagc.testing.lane_kernel import kernel_text, run_lanes, run_text

LANES = np.arange(32)


def test_special_registers() -> None:
    names = ("tid.x", "ntid.x", "ctaid.x", "ctaid.y", "ctaid.z", "nctaid.x", "nctaid.y", "laneid")
    lines, store = [], "ptr addrspace(1)"
    lines.append("  %row = mul i32 %lane, 8")
    for i, name in enumerate(names):
        lines += [
            f"  %r{i} = call i32 @llvm.nvvm.read.ptx.sreg.{name}()",
            f"  %i{i} = add i32 %row, {i}",
            f"  %p{i} = getelementptr i32, {store} %out, i32 %i{i}",
        ]
    lines.append("  %cy = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.y()")
    lines.append("  %last = icmp eq i32 %cy, 2")
    lines.append("  br i1 %last, label %write, label %end\nwrite:")
    lines += [f"  store i32 %r{i}, {store} %p{i}, align 4" for i in range(8)]
    lines.append("  br label %end\nend:\n  ret void")
    out = np.zeros((40, 8), np.uint32)
    text = kernel_text(f"{store} %out", "\n".join(lines))
    report = run_text(text, [Buffer(out, "out", writable=True)], grid=(1, 3), threads=40)
    assert report.clean, report
    wanted = [[t, 40, 0, 2, 0, 1, 3, t % 32] for t in range(40)]
    np.testing.assert_array_equal(out, wanted)


def test_the_environment_register_is_an_option() -> None:
    read = "  %r = call i32 @llvm.nvvm.read.ptx.sreg.envreg0()"
    text = kernel_text("ptr %out", f"{read}\n  store i32 %r, ptr %out, align 4\n  ret void")
    out = np.zeros(1, np.int32)
    for number in (7, -1):
        buffers = [Buffer(out, "out", writable=True)]
        assert run_text(text, buffers, threads=1, environment=number).clean
        assert out[0] == number


def shuffle_reference(kind: str, b: int, clamp: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Source lane and predicate of each lane, from the pseudocode of the PTX ISA."""
    source, inside = np.zeros(32, np.int64), np.zeros(32, np.bool_)
    for lane in range(32):
        segment, limit = clamp >> 8 & 31, clamp & 31
        highest, lowest = (lane & segment) | (limit & ~segment), lane & segment
        j = {"up": lane - b, "down": lane + b, "bfly": lane ^ b}.get(kind, lowest | b & ~segment)
        inside[lane] = j >= highest if kind == "up" else j <= highest
        source[lane] = j if inside[lane] else lane
    return source, inside


@pytest.mark.parametrize("clamp", [31, 0x1800 | 31, 0x1C00 | 31, 0])
@pytest.mark.parametrize("kind", ["idx", "up", "down", "bfly"])
def test_shuffle(kind: str, clamp: int, rng: np.random.Generator) -> None:
    words = rng.integers(0, 2**32, (1, 32), np.uint32)
    for b in (0, 1, 5, 16):
        args = f"i32 -1, i32 %x0, i32 {b}, i32 {clamp}"
        body = f"""  %d = call {{ i32, i1 }} @llvm.nvvm.shfl.sync.{kind}.i32p({args})
  %y0 = extractvalue {{ i32, i1 }} %d, 0
  %p = extractvalue {{ i32, i1 }} %d, 1
  %y1 = zext i1 %p to i32"""
        result, report = run_lanes(body, words, 2)
        assert report.clean, report
        source, inside = shuffle_reference(kind, b, clamp)
        np.testing.assert_array_equal(result[0], words[0, source])
        np.testing.assert_array_equal(result[1], inside)


def test_shuffle_of_floats_in_half_a_warp(rng: np.random.Generator) -> None:
    words = rng.standard_normal((1, 32)).astype(np.float32).view(np.uint32)
    body = """  %f = bitcast i32 %x0 to float
  %low = icmp ult i32 %lane, 16
  br i1 %low, label %a, label %b
a:
  %s = call float @llvm.nvvm.shfl.sync.bfly.f32(i32 65535, float %f, i32 1, i32 31)
  br label %b
b:
  %v = phi float [ %f, %0 ], [ %s, %a ]
  %y0 = bitcast float %v to i32"""
    result, report = run_lanes(body, words, 1)
    assert report.clean, report
    np.testing.assert_array_equal(result[0], words[0, np.where(LANES < 16, LANES ^ 1, LANES)])


def test_votes(rng: np.random.Generator) -> None:
    words = rng.integers(0, 2, (1, 32), np.uint32)
    lines = ["  %p = icmp ne i32 %x0, 0", "  %always = icmp uge i32 %lane, 0"]
    calls = [("all", "p"), ("any", "p"), ("uni", "p"), ("all", "always"), ("uni", "always")]
    for i, (kind, value) in enumerate(calls):
        lines += [
            f"  %v{i} = call i1 @llvm.nvvm.vote.{kind}.sync(i32 -1, i1 %{value})",
            f"  %y{i} = zext i1 %v{i} to i32",
        ]
    lines.append("  %y5 = call i32 @llvm.nvvm.vote.ballot.sync(i32 -1, i1 %p)")
    result, report = run_lanes("\n".join(lines), words, 6)
    assert report.clean, report
    ballot = int(np.sum(words[0].astype(np.uint64) << LANES.astype(np.uint64)))
    wanted = [0, 1, 0, 1, 1, ballot]
    np.testing.assert_array_equal(result, np.repeat(np.array(wanted, np.uint32)[:, None], 32, 1))


def test_match(rng: np.random.Generator) -> None:
    words = rng.integers(0, 4, (1, 32), np.uint32)
    body = """  %y0 = call i32 @llvm.nvvm.match.any.sync.i32(i32 -1, i32 %x0)
  %d = call { i32, i1 } @llvm.nvvm.match.all.sync.i32p(i32 -1, i32 7)
  %y1 = extractvalue { i32, i1 } %d, 0"""
    result, report = run_lanes(body, words, 2)
    assert report.clean, report
    equal = (words[0][:, None] == words[0][None, :]).astype(np.uint64)
    np.testing.assert_array_equal(result[0], (equal << LANES.astype(np.uint64)).sum(1))
    np.testing.assert_array_equal(result[1], np.full(32, 0xFFFFFFFF))


@pytest.mark.parametrize("kind", ["add", "min", "max", "umin", "umax", "and", "or", "xor"])
def test_redux(kind: str, rng: np.random.Generator) -> None:
    words = rng.integers(0, 2**32, (1, 32), np.uint32)
    function: dict[str, Any] = {
        "add": np.add,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
    }
    function |= {"min": np.minimum, "max": np.maximum, "umin": np.minimum, "umax": np.maximum}
    values = words[0].view(np.int32) if kind in ("min", "max") else words[0]
    wanted = function[kind].reduce(values, dtype=values.dtype)
    result, report = run_lanes(
        f"  %y0 = call i32 @llvm.nvvm.redux.sync.{kind}(i32 %x0, i32 -1)", words, 1
    )
    assert report.clean, report
    np.testing.assert_array_equal(result[0].view(values.dtype), np.full(32, wanted))


APPROXIMATIONS: dict[str, Any] = {
    "ex2.approx.ftz.f32": np.exp2,
    "ex2.approx.f32": np.exp2,
    "lg2.approx.ftz.f": np.log2,
    "rcp.approx.ftz.f": np.reciprocal,
    "rsqrt.approx.ftz.f": lambda x: 1 / np.sqrt(x),
    "sqrt.approx.f": np.sqrt,
    "sin.approx.f": np.sin,
    "cos.approx.f": np.cos,
}


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_approximations(name: str, rng: np.random.Generator) -> None:
    x = rng.uniform(0.1, 8, (1, 32)).astype(np.float32)
    body = f"""  %f = bitcast i32 %x0 to float
  %v = call float @llvm.nvvm.{name}(float %f)
  %y0 = bitcast float %v to i32"""
    result, report = run_lanes(body, x.view(np.uint32), 1)
    assert report.clean, report
    wanted = APPROXIMATIONS[name](x.astype(np.float64))
    np.testing.assert_allclose(result.view(np.float32), wanted, rtol=2e-7, atol=1e-7)
    assert report.counters.instructions["mufu"] == 1


def test_tanh_by_assembly_and_special_values(rng: np.random.Generator) -> None:
    x = np.concatenate([rng.standard_normal(28), [0, -np.inf, np.inf, 1e-39]])
    words = x.astype(np.float32).view(np.uint32)[None]
    body = """  %f = bitcast i32 %x0 to float
  %t = call float asm "tanh.approx.f32 $0, $1;", "=f,f"(float %f)
  %y0 = bitcast float %t to i32
  %e = call float @llvm.nvvm.ex2.approx.ftz.f32(float %f)
  %y1 = bitcast float %e to i32
  %r = call float @llvm.nvvm.rcp.approx.ftz.f(float %f)
  %y2 = bitcast float %r to i32"""
    result, report = run_lanes(body, words, 3)
    assert report.clean, report
    values = result.view(np.float32)
    np.testing.assert_allclose(values[0], np.tanh(x), rtol=1e-6, atol=1e-38)
    np.testing.assert_array_equal(values[1, 28:], [1, 0, np.inf, 1])
    np.testing.assert_array_equal(values[2, 28:], [np.inf, -0.0, 0, np.inf])  # .ftz: 1 / 0


def test_conversions(rng: np.random.Generator) -> None:
    x = np.concatenate([rng.standard_normal((2, 31)), [[np.inf], [1.00390625]]], 1)
    words = x.astype(np.float32).view(np.uint32)
    body = """  %a = bitcast i32 %x0 to float
  %b = bitcast i32 %x1 to float
  %h = call <2 x half> @llvm.nvvm.ff2f16x2.rn(float %a, float %b)
  %y0 = bitcast <2 x half> %h to i32
  %g = call <2 x bfloat> @llvm.nvvm.ff2bf16x2.rn(float %a, float %b)
  %y1 = bitcast <2 x bfloat> %g to i32
  %p0 = insertelement <2 x float> poison, float %b, i32 0
  %p1 = insertelement <2 x float> %p0, float %a, i32 1
  %n = fptrunc <2 x float> %p1 to <2 x bfloat>
  %y2 = bitcast <2 x bfloat> %n to i32
  %y3 = call i32 @llvm.nvvm.f2tf32.rna(float %a)"""
    result, report = run_lanes(body, words, 4)
    assert report.clean, report
    halves = x.astype(np.float32).astype(np.float16).view(np.uint16).astype(np.uint32)
    np.testing.assert_array_equal(result[0], halves[0] << 16 | halves[1])
    rounded = (words + 0x7FFF + (words >> 16 & 1)) >> 16
    np.testing.assert_array_equal(result[1], rounded[0] << 16 | rounded[1])
    np.testing.assert_array_equal(result[2], result[1])
    finite = words[0, :31].astype(np.uint64)
    np.testing.assert_array_equal(result[3, :31], (finite + 0x1000) & 0xFFFFE000)
    assert result[3, 31] == words[0, 31]


def test_conversion_to_float8(rng: np.random.Generator) -> None:
    """Against torch's casts, which round to nearest even and saturate too."""
    special = [448, 464, 465, 1e9, np.inf, -np.inf, np.nan, -0.0, 2.0**-10, 3 * 2.0**-10, 2.0**-9]
    some = rng.standard_normal((2, 32 - len(special))) * 2.0 ** rng.integers(-12, 10, (2, 1))
    x = np.concatenate([some, [special, special[::-1]]], 1).astype(np.float32)
    body = """  %a = bitcast i32 %x0 to float
  %b = bitcast i32 %x1 to float
  %h = call i16 asm "cvt.rn.satfinite.e4m3x2.f32 $0, $1, $2;", "=h,f,f"(float %a, float %b)
  %y0 = zext i16 %h to i32"""
    result, report = run_lanes(body, x.view(np.uint32), 1)
    assert report.clean, report
    wanted = torch.from_numpy(x).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    both = np.stack([result[0] >> 8, result[0] & 255])
    number = ~np.isnan(x)
    np.testing.assert_array_equal(both[number], wanted[number])
    assert (both[~number] & 127 == 127).all()


def test_byte_permute(rng: np.random.Generator) -> None:
    words = rng.integers(0, 2**32, (2, 32), np.uint32)
    result, report = run_lanes(
        "  %y0 = call i32 @llvm.nvvm.prmt(i32 %x0, i32 %x1, i32 29952)", words, 1
    )  # 0x7500: bytes 0, 0, 5, 7
    assert report.clean, report
    raw = np.concatenate([words[0][:, None], words[1][:, None]], 1).view(np.uint8).reshape(32, 8)
    np.testing.assert_array_equal(result[0].view(np.uint8).reshape(32, 4), raw[:, [0, 0, 5, 7]])


def test_atomics_on_floats_and_pairs() -> None:
    asm = 'asm sideeffect "red.global.add.noftz.bf16x2 [$0], $1;", "l,r"'
    body = f"""  %old = atomicrmw fadd ptr addrspace(1) %out, float 1.5 monotonic, align 4
  %next = getelementptr i32, ptr addrspace(1) %out, i32 1
  call void {asm}(ptr addrspace(1) %next, i32 1065369472)
  ret void"""
    text = kernel_text("ptr addrspace(1) %out", body)
    out = np.zeros(2, np.float32)
    report = run_text(text, [Buffer(out, "out", writable=True, initialised=True)], threads=64)
    assert report.clean, report
    assert out[0] == 96
    assert list(out[1:].view(np.uint16)) == [0x4280, 0x4280]  # 64 times (1, 1)
    assert report.counters.atomic_bytes == 64 * 8


def test_unknown_instruction_is_named() -> None:
    text = kernel_text("", "  call void @llvm.nvvm.griddepcontrol.wait()\n  ret void")
    with pytest.raises(UnsupportedError, match=r"griddepcontrol\.wait"):
        run_text(text, [])
    text = kernel_text("", '  call void asm sideeffect "brkpt;", ""()\n  ret void')
    with pytest.raises(UnsupportedError, match="brkpt"):
        run_text(text, [])
