"""What the simulator does for each NVVM intrinsic: a table from names to rewriting rules.

To add one, write a rule `(emitter, call, match)` that defines `call.result`, and its pattern.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from diagc.errors import UnsupportedError
from diagc.simulator.emitter import SCRATCH, Emitter
from diagc.simulator.types import Operand

__all__ = ["Call", "address", "int32", "load_result", "pure", "rewrite_intrinsic", "store_operands"]


@dataclass(frozen=True)
class Call:
    """A call of an intrinsic: its name without `llvm.nvvm.`, where its result goes or ""."""

    name: str
    result: str
    type: str
    operands: tuple[Operand, ...]


Rule = Callable[[Emitter, Call, "re.Match[str]"], None]


def int32(value: int) -> Operand:
    """A constant operand."""
    return Operand("i32", str(int(value)))


def _nothing(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    """Fences order what the simulator keeps in order anyway; hints have no meaning."""


_SPECIAL_REGISTERS = (
    *(f"{group}.{axis}" for group in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"),
    "laneid",
    "warpid",
    "total_smem_size",
    "activemask",
    "envreg0",
)


def _special_register(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    number = int32(_SPECIAL_REGISTERS.index(match["register"]))
    name = "diagc_sim_sreg"
    emitter.declarations[name] = f"declare i32 @{name}(i32)"
    emitter.line(f"{call.result} = call i32 @{name}({number.text})")


def _barrier(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    waits, aligned = match["how"] == "sync", match["aligned"] is not None
    count = call.operands[1] if len(call.operands) > 1 else int32(0)
    mode = int32(waits | aligned << 1)
    emitter.call("void", "diagc_sim_barrier", call.operands[0], count, mode)


def _barrier0(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_barrier", int32(0), int32(0), int32(3))


def _sync_warp(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_syncwarp", call.operands[0])


def _copy(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    size = int32(int(match["bytes"]))
    source_bytes = call.operands[2] if match["zfill"] else size
    emitter.call("void", "diagc_sim_cp_async", *call.operands[:2], size, source_bytes)


def _commit(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_cp_async_commit")


def _wait(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_cp_async_wait", *call.operands)


def _wait_all(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_cp_async_wait_all")


def store_operands(emitter: Emitter, operands: tuple[Operand, ...]) -> None:
    """Put operands into the slots of the scratch memory."""
    for i, operand in enumerate(operands):
        emitter.line(f"store {operand.text}, ptr {emitter.slot(i)}, align 4")


def load_result(emitter: Emitter, call: Call) -> None:
    """Take the result, packed, from the scratch memory."""
    emitter.line(f"{call.result} = load {call.type}, ptr {SCRATCH}, align 4")


def address(emitter: Emitter, pointer: Operand) -> Operand:
    """A pointer of any address space, or an address of shared memory in an i32, as i64."""
    if pointer.type == "i32":
        return emitter.value("i64", f"zext {pointer.text} to i64")
    return emitter.value("i64", f"ptrtoint {pointer.text} to i64")


def _mbarrier_init(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    place, *count = call.operands
    emitter.call("void", f"diagc_sim_mbarrier_{match['what']}", address(emitter, place), *count)


def _mbarrier_arrive(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    """Its own operand is a number of bytes, or else of arrivals."""
    place, *number = call.operands
    value = number[0] if number else int32(1)
    arrivals, size = (int32(1), value) if match["bytes"] else (value, int32(0))
    if not match["arrive"]:
        arrivals = int32(0)
    operands = (address(emitter, place), arrivals, size)
    emitter.call("i64", "diagc_sim_mbarrier_arrive", *operands, into=call.result)


def _mbarrier_fence(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_mbarrier_fence")


def _proxy_fence(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_proxy_fence")


def _bulk_load(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    rank = int(match["rank"])
    places = [address(emitter, pointer) for pointer in call.operands[:3]]
    store_operands(emitter, call.operands[3 : 3 + rank])
    emitter.call("void", "diagc_sim_bulk_load", *places, Operand("ptr", SCRATCH), int32(rank))


def _bulk_store(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    rank = int(match["rank"])
    places = [address(emitter, pointer) for pointer in call.operands[:2]]
    store_operands(emitter, call.operands[2 : 2 + rank])
    emitter.call("void", "diagc_sim_bulk_store", *places, Operand("ptr", SCRATCH), int32(rank))


def _bulk_commit(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_bulk_commit")


def _bulk_wait(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_bulk_wait", call.operands[0])


def _product_wait(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    allowed = emitter.value("i32", f"trunc {call.operands[0].text} to i32")
    scratch = Operand("ptr", SCRATCH)
    emitter.call("void", "diagc_sim_product_wait", scratch, int32(0), allowed)


def _product_fence(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_product_fence")


def _product_commit(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.call("void", "diagc_sim_product_commit")


_ELEMENTS = {"f16": 0, "bf16": 1, "tf32": 2}


def _mma(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    types = match["types"].split(".")
    half_result = types == ["f16", "f16"]
    if len(types) == 2 and not half_result and types != ["f32", "f32"]:
        raise UnsupportedError(f"llvm.nvvm.{call.name}", reason="mixed accumulator types")
    element = _ELEMENTS["f16" if len(types) == 2 else types[0]]
    store_operands(emitter, call.operands)
    k, half = int32(int(match["k"])), int32(half_result)
    emitter.call("void", "diagc_sim_mma", Operand("ptr", SCRATCH), k, int32(element), half)
    load_result(emitter, call)


def _ldmatrix(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    count, transposed = int32(int(match["count"])), int32(match["trans"] is not None)
    scratch = Operand("ptr", SCRATCH)
    emitter.call("void", "diagc_sim_ldmatrix", scratch, call.operands[0], count, transposed)
    load_result(emitter, call)


def _stmatrix(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    count, transposed = int32(int(match["count"])), int32(match["trans"] is not None)
    store_operands(emitter, call.operands[1:])
    scratch = Operand("ptr", SCRATCH)
    emitter.call("void", "diagc_sim_stmatrix", scratch, call.operands[0], count, transposed)


def as_bits(emitter: Emitter, operand: Operand) -> Operand:
    """The same 32 bits as an integer."""
    if operand.type == "i32":
        return operand
    return emitter.value("i32", f"bitcast {operand.text} to i32")


def _pair(emitter: Emitter, call: Call, packed: Operand, first: str) -> None:
    """Define `call.result`, { T, i1 } or T, from a value and a flag in the two halves of an i64."""
    low = emitter.value("i32", f"trunc i64 {packed.value} to i32")
    value = low if first == "i32" else emitter.value(first, f"bitcast {low.text} to {first}")
    if not call.type.startswith("{"):
        emitter.line(f"{call.result} = bitcast {value.text} to {first}")
        return
    high = emitter.value("i64", f"lshr i64 {packed.value}, 32")
    flag = emitter.value("i1", f"trunc {high.text} to i1")
    whole = emitter.value(call.type, f"insertvalue {call.type} poison, {value.text}, 0")
    emitter.line(f"{call.result} = insertvalue {whole.text}, {flag.text}, 1")


_SHUFFLES = {"idx": 0, "up": 1, "down": 2, "bfly": 3}


def _shuffle(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    mask, value, offset, clamp = call.operands
    bits = as_bits(emitter, value)
    kind = int32(_SHUFFLES[match["kind"]])
    packed = emitter.call("i64", "diagc_sim_shfl", mask, bits, offset, clamp, kind)
    _pair(emitter, call, packed, value.type)


_VOTES = {"all": 0, "any": 1, "uni": 2, "ballot": 3}
_MATCHES = {"any": 4, "all": 5}


def _vote(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    mask, predicate = call.operands
    value = emitter.value("i32", f"zext {predicate.text} to i32")
    packed = emitter.call("i64", "diagc_sim_vote", mask, value, int32(_VOTES[match["kind"]]))
    emitter.line(f"{call.result} = trunc i64 {packed.value} to {call.type}")


def _match(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    kind = int32(_MATCHES[match["kind"]])
    packed = emitter.call("i64", "diagc_sim_vote", *call.operands, kind)
    _pair(emitter, call, packed, "i32")


_REDUCTIONS = ("add", "min", "max", "umin", "umax", "and", "or", "xor")


def _reduction(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    kind = int32(_REDUCTIONS.index(match["kind"]))
    emitter.call("i32", "diagc_sim_redux", *call.operands, kind, into=call.result)


def _elect(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    _pair(emitter, call, emitter.call("i64", "diagc_sim_elect", *call.operands), "i32")


def _active_mask(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    number = int32(_SPECIAL_REGISTERS.index("activemask"))
    emitter.declarations["diagc_sim_sreg"] = "declare i32 @diagc_sim_sreg(i32)"
    emitter.line(f"{call.result} = call i32 @diagc_sim_sreg({number.text})")


_APPROXIMATIONS = ("ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh")


def pure(emitter: Emitter, result: str, function: str, *operands: Operand, into: str) -> None:
    """Call a function of the run time that nothing can go wrong in, so without a site."""
    types = ", ".join(item.type for item in operands)
    emitter.declarations[function] = f"declare {result} @{function}({types})"
    values = ", ".join(item.text for item in operands)
    emitter.line(f"{into} = call {result} @{function}({values})")


def _approximation(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    number = int32(_APPROXIMATIONS.index(match["function"]))
    ftz = int32(match["ftz"] is not None)
    name = "diagc_sim_approximate"
    pure(emitter, "float", name, call.operands[0], number, ftz, into=call.result)


def _convert_pair(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    bits = emitter.fresh()
    function = "diagc_sim_" + match["to"]
    pure(emitter, "i32", function, *call.operands, int32(match["relu"] is not None), into=bits)
    emitter.line(f"{call.result} = bitcast i32 {bits} to {call.type}")


def _convert_tf32(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    pure(emitter, "i32", f"diagc_sim_tf32_{match['mode']}", *call.operands, into=call.result)


def _narrow(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    emitter.line(f"{call.result} = fptrunc {call.operands[0].text} to {call.type}")


def _permute(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    pure(emitter, "i32", "diagc_sim_byte_permute", *call.operands, into=call.result)


_BINARY = {"add": "fadd", "mul": "fmul", "div": "fdiv", "sub": "fsub"}


def _binary(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    left, right = call.operands
    emitter.line(f"{call.result} = {_BINARY[match['op']]} {left.text}, {right.value}")


_LLVM_NAMES = {"fma": "fma", "fmax": "maxnum", "fmin": "minnum", "fabs": "fabs"}


def _generic(emitter: Emitter, call: Call, match: re.Match[str]) -> None:
    name = _LLVM_NAMES[match["op"]]
    if match["nan"]:
        name = {"maxnum": "maximum", "minnum": "minimum"}[name]
    suffix = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16"}.get(call.type)
    if suffix is None:
        raise UnsupportedError(f"llvm.nvvm.{call.name}", reason="the simulator knows scalars only")
    pure(emitter, call.type, f"llvm.{name}.{suffix}", *call.operands, into=call.result)


_RULES: tuple[tuple[str, Rule], ...] = (
    (r"read\.ptx\.sreg\.(?P<register>\w+(?:\.[xyz])?)", _special_register),
    (r"activemask", _active_mask),
    (r"barrier\.cta\.(?P<how>sync|arrive)(?P<aligned>\.aligned)?\.(?:all|count)", _barrier),
    (r"barrier0", _barrier0),
    (r"bar\.warp\.sync", _sync_warp),
    (r"membar\.(?:cta|gl|sys)", _nothing),
    (r"cp\.async\.c[ag]\.shared\.global\.(?P<bytes>4|8|16)(?P<zfill>\.s)?", _copy),
    (r"cp\.async\.commit\.group", _commit),
    (r"cp\.async\.wait\.group", _wait),
    (r"cp\.async\.wait\.all", _wait_all),
    (r"mbarrier\.(?P<what>init|inval)(?:\.shared)?", _mbarrier_init),
    (
        r"mbarrier\.(?P<arrive>arrive)?\.?(?P<bytes>expect\.tx)?"
        r"(?:\.shared|\.scope\.cta\.space\.cta)?",
        _mbarrier_arrive,
    ),
    (r"fence\.mbarrier_init\.release\.cluster", _mbarrier_fence),
    (r"fence\.proxy\.async(?:\.shared_cta)?", _proxy_fence),
    (r"cp\.async\.bulk\.tensor\.g2s(?:\.cta)?\.tile\.(?P<rank>[1-5])d", _bulk_load),
    (r"cp\.async\.bulk\.tensor\.s2g\.tile\.(?P<rank>[1-5])d", _bulk_store),
    (r"cp\.async\.bulk\.commit\.group", _bulk_commit),
    (r"cp\.async\.bulk\.wait\.group(?:\.read)?", _bulk_wait),
    (r"wgmma\.fence\.sync\.aligned", _product_fence),
    (r"wgmma\.commit_group\.sync\.aligned", _product_commit),
    (r"wgmma\.wait_group\.sync\.aligned", _product_wait),
    (r"setmaxnreg\.(?:inc|dec)\.sync\.aligned\.u32", _nothing),
    (r"mma\.m16n8k(?P<k>4|8|16)\.row\.col\.(?P<types>tf32|bf16|f\d+\.f\d+)", _mma),
    (
        r"ldmatrix\.sync\.aligned\.m8n8\.x(?P<count>[124])(?P<trans>\.trans)?\.b16(?:\.p\d)?",
        _ldmatrix,
    ),
    (
        r"stmatrix\.sync\.aligned\.m8n8\.x(?P<count>[124])(?P<trans>\.trans)?\.b16(?:\.p\d)?",
        _stmatrix,
    ),
    (r"shfl\.sync\.(?P<kind>idx|up|down|bfly)\.[if]32p?", _shuffle),
    (r"vote\.(?P<kind>all|any|uni|ballot)\.sync", _vote),
    (r"match\.(?P<kind>any|all)\.sync\.i32p?", _match),
    (r"redux\.sync\.(?P<kind>u?min|u?max|add|and|or|xor)", _reduction),
    (r"elect\.sync", _elect),
    (
        r"(?P<function>ex2|lg2|rcp|rsqrt|sqrt|sin|cos|tanh)\.approx(?P<ftz>\.ftz)?\.f(?:32)?",
        _approximation,
    ),
    (r"ff2(?P<to>bf16x2|f16x2)\.rn(?P<relu>\.relu)?", _convert_pair),
    (r"f2tf32\.(?P<mode>rna|rn)", _convert_tf32),
    (r"f2bf16\.rn", _narrow),
    (r"prmt", _permute),
    (r"(?P<op>add|mul|div|sub)\.(?:rn|approx)(?:\.ftz)?\.[fd]", _binary),
    (r"(?P<op>fma)\.rn(?:\.ftz)?(?P<nan>\.nan)?\.\w+", _generic),
    (r"(?P<op>fmax|fmin|fabs)(?:\.ftz)?(?P<nan>\.nan)?\.\w+", _generic),
)
_COMPILED = tuple((re.compile(pattern), rule) for pattern, rule in _RULES)


def rewrite_intrinsic(emitter: Emitter, call: Call) -> None:
    """Emit what an intrinsic does.

    Raises:
        UnsupportedError: the simulator does not know it.
    """
    found = _rule_of(call.name)
    if found is None:
        raise UnsupportedError(f"llvm.nvvm.{call.name}", reason="the simulator has no model of it")
    rule, match = found
    rule(emitter, call, match)


@cache
def _rule_of(name: str) -> "tuple[Rule, re.Match[str]] | None":
    matches = ((rule, pattern.fullmatch(name)) for pattern, rule in _COMPILED)
    return next(((rule, match) for rule, match in matches if match is not None), None)
