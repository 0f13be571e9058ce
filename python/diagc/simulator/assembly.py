"""What the simulator does for inline assembly: a table from templates to rewriting rules."""

import re
from collections.abc import Callable

from diagc.errors import UnsupportedError
from diagc.simulator.emitter import SCRATCH, Emitter
from diagc.simulator.intrinsics import (
    Call,
    address,
    int32,
    load_result,
    pure,
    store_operands,
)
from diagc.simulator.types import Operand

__all__ = ["rewrite_assembly"]

Rule = Callable[[Emitter, Call, "re.Match[str]"], None]


def _nothing(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    """Hints and marks."""


def _move_matrix(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("i32", "diagc_sim_movmatrix", *call.operands, into=call.result)


_APPROXIMATIONS = ("ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh")


def _approximation(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    number = int32(_APPROXIMATIONS.index(match["function"]))
    ftz = int32(match["ftz"] is not None)
    name = "diagc_sim_approximate"
    pure(emitter, "float", name, call.operands[0], number, ftz, into=call.result)


def _convert_tf32(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    pure(emitter, "i32", f"diagc_sim_tf32_{match['mode']}", *call.operands, into=call.result)


def _convert_float8(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    word = emitter.call("i32", "diagc_sim_e4m3x2", *call.operands)
    emitter.line(f"{call.result} = trunc {word.text} to i16")


def _add_pair(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    """Two narrow floats are added in memory, each atomically; the host adds them one by one."""
    kind = "bfloat" if match["type"] == "bf16x2" else "half"
    address, value = call.operands
    pair = (
        value
        if value.type == f"<2 x {kind}>"
        else emitter.value(f"<2 x {kind}>", f"bitcast {value.text} to <2 x {kind}>")
    )
    pointer = address.type if address.type.startswith("ptr") else "ptr"
    start = (
        address
        if address.type == pointer
        else emitter.value("ptr", f"inttoptr {address.text} to ptr")
    )
    function = "diagc_sim_access" + pointer.removeprefix("ptr addrspace(").removesuffix(")")
    place = emitter.call(pointer, function, start, int32(4), int32(4), int32(2))
    emitter.line(f"atomicrmw fadd {place.text}, {pair.text} monotonic, align 4")


_ADDS, _REGISTERS, _TRANSPOSED_A, _TRANSPOSED_B, _BF16, _E4M3 = (1 << bit for bit in range(6))
"""Bits of `How` in product.cpp."""


def _product(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    """Operands are accumulators, if there are any, A, and the descriptor of B."""
    n, registers = int(match["n"]), match["rows"].startswith("{")
    tails = [part for part in match["transposed"].split(", ") if part]
    is_float8 = match["type"] == "e4m3"
    if len(tails) != (0 if is_float8 else 2 - registers) or (match["k"] == "32") != is_float8:
        raise UnsupportedError(call.name, reason="a product has other immediates")
    tails = ["0"] * (2 - len(tails)) + tails
    how = _REGISTERS * registers | _BF16 * (match["type"] == "bf16") | _E4M3 * is_float8
    how |= _TRANSPOSED_A * (tails[0] == "1") | _TRANSPOSED_B * (tails[1] == "1")
    adds = match["adds"] == "1"
    if len(call.operands) != adds * n // 2 + (5 if registers else 2):
        raise UnsupportedError(call.name, reason="accumulators that are added are inputs as well")
    store_operands(emitter, call.operands)
    scratch = Operand("ptr", SCRATCH)
    emitter.call("void", "diagc_sim_product", scratch, int32(n), int32(how | _ADDS * adds))
    load_result(emitter, call)


def _tied(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    """A wait that hands on what was waited for, or a fence that hands on what it was given."""
    operands = call.operands if call.result else ()
    if not match["wait"]:
        emitter.call("void", "diagc_sim_product_fence")
        hand_on(emitter, call)
        return
    store_operands(emitter, operands)
    numbers = int32(len(operands)), int32(int(match["groups"]))
    emitter.call("void", "diagc_sim_product_wait", Operand("ptr", SCRATCH), *numbers)
    if call.result:
        load_result(emitter, call)


def hand_on(emitter: Emitter, call: Call) -> None:
    """The result, a struct or one value, of the operands as they are."""
    if not call.result:
        return
    if not call.type.startswith("{"):
        emitter.line(f"{call.result} = bitcast {call.operands[0].text} to {call.type}")
        return
    value = Operand(call.type, "poison")
    for i, item in enumerate(call.operands[:-1]):
        value = emitter.value(call.type, f"insertvalue {value.text}, {item.text}, {i}")
    last = len(call.operands) - 1
    emitter.line(f"{call.result} = insertvalue {value.text}, {call.operands[-1].text}, {last}")


def _wait_mbarrier(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    place, parity = call.operands[:2]
    emitter.call("void", "diagc_sim_mbarrier_wait", address(emitter, place), parity)


def _try_mbarrier(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    place, parity = call.operands[:2]
    operands = (address(emitter, place), parity)
    emitter.call("i32", "diagc_sim_mbarrier_try_wait", *operands, into=call.result)


_TRY_WAIT = r"mbarrier\.try_wait\.parity\.shared(?:::cta)?\.b64"

_RULES: tuple[tuple[str, Rule], ...] = (
    (
        r"\{ ?\.reg \.pred p; setp\.ne\.b32 p, (?P<adds>[01]), 0; "
        r"wgmma\.mma_async\.sync\.aligned\.m64n(?P<n>\d+)k(?P<k>16|32)\.f32"
        r"\.(?P<type>bf16|f16|e4m3)\.(?P=type) \{[^}]*\}, (?P<rows>\{[^}]*\}|\$\d+), \$\d+, "
        r"p, 1, 1(?P<transposed>(?:, [01]){0,2}); ?\}",
        _product,
    ),
    (r"wgmma\.(?P<wait>wait)_group\.sync\.aligned (?P<groups>\d+);?", _tied),
    (r"wgmma\.(?P<wait>)fence\.sync\.aligned;?", _tied),
    (
        rf"\{{ ?\.reg \.pred P1; LAB_WAIT: {_TRY_WAIT} P1, \[\$0\], \$1(?:, \$2)?; "
        r"@P1 bra(?:\.uni)? DONE; bra(?:\.uni)? LAB_WAIT; DONE: \}",
        _wait_mbarrier,
    ),
    (
        rf"\{{ ?\.reg \.pred P1; {_TRY_WAIT} P1, \[\$1\], \$2; selp\.b32 \$0, 1, 0, P1; ?\}}",
        _try_mbarrier,
    ),
    (r"pmevent .*;?", _nothing),
    (r"griddepcontrol\.\w+;?", _nothing),
    (r"(?:membar|fence)[\w.:]*;?", _nothing),
    (r"movmatrix\.sync\.aligned\.m8n8\.trans\.b16 \$0, ?\$1;?", _move_matrix),
    (
        r"(?P<function>ex2|lg2|rcp|rsqrt|sqrt|sin|cos|tanh)"
        r"\.approx(?P<ftz>\.ftz)?\.f32 \$0, ?\$1;?",
        _approximation,
    ),
    (r"cvt\.rn\.satfinite\.e4m3x2\.f32 \$0, ?\$1, ?\$2;?", _convert_float8),
    (r"cvt\.(?P<mode>rna|rn)\.tf32\.f32 \$0, ?\$1;?", _convert_tf32),
    (
        r"red\.(?:relaxed\.gpu\.)?global\.add\.noftz\.(?P<type>bf16x2|f16x2) \[\$0\], ?\$1;?",
        _add_pair,
    ),
)
_COMPILED = tuple((re.compile(pattern), rule) for pattern, rule in _RULES)


def rewrite_assembly(
    emitter: Emitter, template: str, result: str, kind: str, operands: tuple[Operand, ...]
) -> None:
    """Emit what a piece of inline assembly does.

    Raises:
        UnsupportedError: the simulator does not know it.
    """
    text = " ".join(template.replace("\\0A", " ").replace("\\09", " ").split())
    for pattern, rule in _COMPILED:
        match = pattern.fullmatch(text)
        if match is not None:
            return rule(emitter, Call(text, result, kind, operands), match)
    raise UnsupportedError(f'asm "{text}"', reason="the simulator has no model of it")
