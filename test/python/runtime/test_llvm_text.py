"""Floating-point literals of LLVM 24 as llvmlite's LLVM 22 reads them."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagc.context import make_context
from diagc.mlir import ir, llvm
from diagc.targets.llvm_text import to_llvmlite

binding: Any = pytest.importorskip("llvmlite.binding")

# type -> (struct formats of the value and of its bits)
FORMATS = {"f16": ("<e", "<H"), "f32": ("<f", "<I"), "f64": ("<d", "<Q")}


def module_text(element: str, value: float) -> str:
    with make_context(), ir.Location.unknown():
        literal = ir.FloatAttr.get(ir.Type.parse(element), value)
        module = ir.Module.parse(
            f"llvm.func @f(%p: !llvm.ptr) {{ %c = llvm.mlir.constant({literal}) : {element}\n"
            f"llvm.store %c, %p : {element}, !llvm.ptr\n llvm.return }}"
        )
        return llvm.translate_module_to_llvmir(module.operation)


def stored_bits(text: str, element: str) -> int:
    """Bits of the constant, as llvmlite prints it after reading the text."""
    parsed = str(binding.parse_assembly(to_llvmlite(text)))
    (line,) = [line for line in parsed.splitlines() if " store " in line]
    literal = line.split()[2].rstrip(",")
    for prefix in ("0xH", "0xR"):
        if literal.startswith(prefix):
            return int(literal.removeprefix(prefix), 16)
    value = float(literal) if "." in literal else _double(int(literal, 16))
    pack, unpack = FORMATS[element]
    return int(struct.unpack(unpack, struct.pack(pack, value))[0])


def _double(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


@pytest.mark.parametrize("element", FORMATS)
@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -1e30, 1.5, 1e-7, math.inf, -math.inf])
def test_constants_keep_their_bits(element: str, value: float) -> None:
    if element == "f16" and abs(value) == 1e30:
        value = math.copysign(6e4, value)
    pack, unpack = FORMATS[element]
    (expected,) = struct.unpack(unpack, struct.pack(pack, value))
    assert stored_bits(module_text(element, value), element) == expected


@given(value=st.floats(width=32, allow_nan=False))
@settings(max_examples=60, deadline=None)
def test_f32_constants_keep_their_bits(value: float) -> None:
    (expected,) = struct.unpack("<I", struct.pack("<f", value))
    assert stored_bits(module_text("f32", value), "f32") == expected


def test_bf16_constants_round_to_nearest_even() -> None:
    for value, bits in ((1.0, 0x3F80), (0.1, 0x3DCD), (-math.inf, 0xFF80), (3.0, 0x4040)):
        assert stored_bits(module_text("bf16", value), "bf16") == bits


def test_nan_is_read_and_stays_nan() -> None:
    for element in FORMATS:
        parsed = to_llvmlite(module_text(element, math.nan))
        binding.parse_assembly(parsed)
        assert "nan" not in parsed


@pytest.mark.parametrize(
    "line",
    [
        '  %1 = call i32 asm sideeffect "mov.f32 $0, 0.1; // float 0.5", "=r"()',
        "  %v1.5 = getelementptr float, ptr %x.5, i64 3",
        "!0 = !{i32 2, i32 3}",
        "define void @f.1(float %0) {",
    ],
)
def test_text_that_is_no_literal_stays(line: str) -> None:
    assert to_llvmlite(line) == line
