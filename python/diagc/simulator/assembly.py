"""What the simulator does for inline assembly: a table from templates to rewriting rules."""

import re
from collections.abc import Callable

from diagc.errors import UnsupportedError
from diagc.simulator.emitter import Emitter
from diagc.simulator.intrinsics import Call, int32, pure
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


_RULES: tuple[tuple[str, Rule], ...] = (
    (r"pmevent .*;?", _nothing),
    (r"griddepcontrol\.\w+;?", _nothing),
    (r"(?:membar|fence)[\w.:]*;?", _nothing),
    (r"movmatrix\.sync\.aligned\.m8n8\.trans\.b16 \$0, ?\$1;?", _move_matrix),
    (
        r"(?P<function>ex2|lg2|rcp|rsqrt|sqrt|sin|cos|tanh)"
        r"\.approx(?P<ftz>\.ftz)?\.f32 \$0, ?\$1;?",
        _approximation,
    ),
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
