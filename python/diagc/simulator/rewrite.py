"""From a kernel's LLVM IR to a module that the host runs, with every access and collective checked.

A load, store or atomic goes through the run time, which turns the kernel's simulated address into
a real one. Intrinsics and inline assembly become calls of the run time. Each basic block counts how
often it is entered; what it holds is tallied here, so that counting costs nothing per instruction.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from diagc.errors import UnsupportedError, UserError
from diagc.simulator.accumulators import accumulator_names, uses
from diagc.simulator.assembly import rewrite_assembly
from diagc.simulator.emitter import SCRATCH, Emitter, Site
from diagc.simulator.intrinsics import Call, int32, rewrite_intrinsic
from diagc.simulator.locations import read_locations
from diagc.simulator.tally import tally
from diagc.simulator.types import Operand, align_of, operand, size_of, split, take_type

__all__ = ["ENTRY", "SHARED_BASE", "HostProgram", "rewrite"]

ENTRY = "diagc_sim_entry_"
"""Prefix of the function that takes a kernel's arguments from an array of 64-bit slots."""
SHARED_BASE = 0x10000000  # kSharedBase in machine.h
_SHARED_ALIGN = 1024
_WIDEST = 1024
_SLOTS = 320  # of 8 bytes: wgmma takes 133 operands, a wait may tie 256 values

_DEFINE = re.compile(
    r"^define (?P<head>.*?)(?P<type>\S+) @(?P<name>[\w.$]+)\((?P<args>.*)\)(?P<rest>[^)]*)\{$"
)
_GLOBAL = re.compile(r"^@(?P<name>[\w.$]+) = .*?addrspace\(3\) global (?P<rest>.*)$")
_CALL = re.compile(
    r"^(?:tail |musttail |notail )?call (?P<head>.*?)@(?P<name>[\w.$]+)\((?P<args>.*)\)[^)]*$"
)
_ASM = re.compile(
    r"^(?:tail )?call (?P<type>.*?) asm (?:sideeffect |alignstack |inteldialect )*"
    r'"(?P<template>(?:[^"\\]|\\.)*)", "(?P<constraints>[^"]*)"\((?P<args>.*)\)[^)]*$'
)
_FAST_MATH = re.compile(r"^(?:(?:fast|nnan|ninf|nsz|arcp|contract|afn|reassoc) )+")
_RETURN_ATTRIBUTE = re.compile(
    r"^(?:noundef|noalias|nonnull|signext|zeroext|range\([^)]*\)|align \d+) "
)
_ATTACHMENT = re.compile(r",? ![\w.]+ ![\d]+")
_DEBUG = re.compile(r"!dbg !(\d+)")
_GROUP = re.compile(r" #\d+\b")
_ALIGN = re.compile(r"^align (\d+)$")
_DIVIDE = re.compile(r"^(?P<op>[su](?:div|rem)) (?P<flags>exact )?(?P<rest>.*)$")
_DIVISIONS = ("udiv", "sdiv", "urem", "srem")
_LIBDEVICE = re.compile(r"@__nv_(?:fast_)?(?P<name>\w+)")
_KINDS = {"load": 0, "store": 1, "atomicrmw": 2, "cmpxchg": 2}


@dataclass(frozen=True)
class HostProgram:
    """What the host compiles, and what its numbers mean.

    Args:
        text: LLVM IR for the host, without target triple.
        sites: by number, what may be reported.
        tallies: by number of a basic block, its instructions by pipe.
        block_lines: by number of a basic block, the line that it begins at.
        kernels: the parameter types of each kernel.
        static_shared: bytes of shared memory before the dynamic part.
    """

    text: str
    sites: tuple[Site, ...]
    tallies: tuple[Counter[str], ...]
    block_lines: tuple[int, ...]
    kernels: dict[str, tuple[str, ...]]
    static_shared: int


class _Rewriter:
    def __init__(self, text: str) -> None:
        self.locations = read_locations(text)
        self.emitter = Emitter()
        self.sites: list[Site] = []
        self.tallies: list[Counter[str]] = []
        self.block_lines: list[int] = []
        self.kernels: dict[str, tuple[str, ...]] = {}
        self.shared: dict[str, int] = {}
        self.static_shared = 0
        self.function = ""  # the one that we are in
        self.block_pending = False
        self.function_pending = False
        self.accumulators: Mapping[str, frozenset[str]] = {}
        self.asked: set[str] = set()  # accumulators, in this basic block

    def run(self, text: str) -> HostProgram:
        lines = text.splitlines()
        self.place_shared(lines)
        self.accumulators = accumulator_names(lines)
        for number, line in enumerate(lines, 1):
            try:
                self.top_level(line, number) if not self.function else self.in_function(
                    line, number
                )
            except UnsupportedError as error:
                raise UnsupportedError(
                    error.op, reason=f"in line {number} of the LLVM IR, '{line.strip()[:200]}'"
                ) from error
        body = "\n".join(self.emitter.lines)
        whole = f"{body}\n" + "\n".join(self.declarations(body)) + "\n"
        return HostProgram(
            whole,
            tuple(self.sites),
            tuple(self.tallies),
            tuple(self.block_lines),
            self.kernels,
            self.static_shared,
        )

    def declarations(self, body: str) -> list[str]:
        known = set(re.findall(r"^declare .*?@([\w.$]+)\(", body, re.MULTILINE))
        return [d for name, d in self.emitter.declarations.items() if name not in known]

    # --- outside of functions

    def place_shared(self, lines: list[str]) -> None:
        """Give every variable in shared memory its address: static ones first."""
        dynamic = []
        for line in lines:
            match = _GLOBAL.match(line)
            if match is None:
                continue
            size = size_of(take_type(match["rest"])[0])
            if size == 0:
                dynamic.append(match["name"])
                continue
            start = -(-self.static_shared // 128) * 128
            self.shared[match["name"]] = SHARED_BASE + start
            self.static_shared = start + size
        if self.static_shared:
            self.static_shared = -(-self.static_shared // _SHARED_ALIGN) * _SHARED_ALIGN
        self.shared |= dict.fromkeys(dynamic, SHARED_BASE + self.static_shared)
        names = "|".join(map(re.escape, self.shared))
        self.shared_name = re.compile(f"@({names})(?![\\w.$])") if names else None

    def top_level(self, line: str, number: int) -> None:
        define = _DEFINE.match(line)
        if define is not None:
            return self.define(define)
        if line.startswith("declare"):
            if "@llvm.nvvm." not in line:
                self.emitter.lines.append(self.plain(line))
            return None
        if line.startswith("@") and _GLOBAL.match(line) is None:
            raise UnsupportedError(line.split(" ")[0], reason="a global variable outside of shared")
        if line.startswith("%"):
            self.emitter.lines.append(line)  # a named type
        return None

    def define(self, match: re.Match[str]) -> None:
        operands = [operand(part) for part in split(match["args"])]
        arguments = ", ".join(item.text for item in operands)
        name = match["name"]
        self.emitter.lines.append(f"define internal {match['type']} @{name}({arguments}) {{")
        self.function = name
        self.function_pending = self.block_pending = True
        if "ptx_kernel" in match["head"]:
            self.kernels[name] = tuple(item.type for item in operands)

    def entry_point(self, name: str) -> None:
        """After a kernel: the function that the run time calls."""
        types = self.kernels[name]
        lines = [f"define void @{ENTRY}{name}(ptr %slots) {{"]
        for i, kind in enumerate(types):
            lines.append(f"  %p{i} = getelementptr i64, ptr %slots, i64 {i}")
            lines.append(f"  %a{i} = load {kind}, ptr %p{i}, align 8")
        arguments = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(types))
        self.emitter.lines += [*lines, f"  call void @{name}({arguments})", "  ret void", "}"]

    # --- inside of functions

    def in_function(self, line: str, number: int) -> None:
        text = line.strip()
        if line.startswith("}"):
            self.emitter.lines.append(line)
            if self.function in self.kernels:
                self.entry_point(self.function)
            self.function = ""
            return
        if not text or text.startswith(";"):
            return
        if not line.startswith(" "):
            self.emitter.lines.append(text)
            self.block_pending = True
            return
        self.instruction(text, number)

    def instruction(self, text: str, number: int) -> None:
        debug = _DEBUG.search(text) if "!dbg" in text else None
        plain = self.plain(text)
        result, found, body = plain.partition(" = ")
        if not found or not result.startswith("%"):
            result, body = "", plain
        if not body.startswith("phi "):
            self.start_block(number)
        where = self.locations.get(debug[1]) if debug else None
        op = tally(self.tallies[-1], body) if self.tallies else ""
        site = Site(op, plain, number, where)
        self.ask_accumulators(body, site)
        self.dispatch(result, body, plain, site)

    def ask_accumulators(self, body: str, site: Site) -> None:
        """Before an instruction: whether what it uses of wgmma's sums was waited for."""
        names = uses(body, self.accumulators.get(self.function, frozenset()))
        for name in names:
            if name not in self.asked:
                self.emitter.site = self.add_site(site)
                self.emitter.call("void", "diagc_sim_accumulator", Operand("float", name))
        self.asked |= set(names)

    def start_block(self, number: int) -> None:
        if self.function_pending:
            self.emitter.line(f"{SCRATCH} = alloca [{_SLOTS} x i64], align 16")
        if self.block_pending:
            self.emitter.site = self.add_site(Site("loop", "", number, None))
            self.emitter.call("void", "diagc_sim_block", int32(len(self.tallies)))
            self.tallies.append(Counter())
            self.block_lines.append(number)
            self.asked.clear()
        self.function_pending = self.block_pending = False

    def add_site(self, site: Site) -> int:
        self.sites.append(site)
        return len(self.sites) - 1

    def plain(self, text: str) -> str:
        """Without metadata, attribute groups and names of shared memory."""
        if "!" in text:
            text = _ATTACHMENT.sub("", text)
        if "#" in text:
            text = _GROUP.sub("", text)
        if "@" not in text:
            return text
        text = _LIBDEVICE.sub(lambda m: "@" + m["name"], text)
        if self.shared_name is None:
            return text
        return self.shared_name.sub(
            lambda m: f"inttoptr (i64 {self.shared[m[1]]} to ptr addrspace(3))", text
        )

    def dispatch(self, result: str, body: str, plain: str, site: Site) -> None:
        word = body.split(" ", 1)[0]
        if word in _KINDS:
            return self.memory(word, result, body, site)
        if word in ("call", "tail", "musttail", "notail"):
            return self.call(result, body, plain, site)
        if word in _DIVISIONS:
            divide = _DIVIDE.match(body)
            assert divide is not None
            return self.divide(result, divide, site)
        return self.emitter.line(plain)

    def memory(self, word: str, result: str, body: str, site: Site) -> None:
        """Ask the run time for the real address, then do the access there."""
        parts = split(body)
        at = 0 if word in ("atomicrmw", "cmpxchg") else 1
        before, pointer, after = _pointer(parts[at])
        kind = _accessed_type(word, parts)
        align = next((int(m[1]) for part in parts if (m := _ALIGN.match(part))), align_of(kind))
        self.emitter.site = self.add_site(site)
        space = re.sub(r"\D", "", pointer.type)
        if size_of(kind) > _WIDEST:
            raise UnsupportedError(word, reason=f"an access of more than {_WIDEST} bytes")
        numbers = (size_of(kind), align, _KINDS[word])
        function = f"diagc_sim_access{space}"
        real = self.emitter.call(pointer.type, function, pointer, *map(int32, numbers))
        parts[at] = f"{before}{real.text}{after}"
        self.emitter.line((f"{result} = " if result else "") + ", ".join(parts))

    def call(self, result: str, body: str, plain: str, site: Site) -> None:
        asm = _ASM.match(body)
        if asm is not None:
            self.emitter.site = self.add_site(site)
            operands = tuple(operand(part) for part in split(asm["args"]))
            kind = _result_type(asm["type"])
            return rewrite_assembly(self.emitter, asm["template"], result, kind, operands)
        match = _CALL.match(body)
        if match is None or not match["name"].startswith("llvm.nvvm."):
            return self.ordinary_call(match, plain)
        self.emitter.site = self.add_site(site)
        operands = tuple(operand(part) for part in split(match["args"]))
        name = match["name"].removeprefix("llvm.nvvm.")
        return rewrite_intrinsic(
            self.emitter, Call(name, result, _result_type(match["head"]), operands)
        )

    def ordinary_call(self, match: re.Match[str] | None, plain: str) -> None:
        if match is not None and match["name"].startswith(("llvm.mem", "llvm.lifetime")):
            raise UnsupportedError(match["name"], reason="a block operation on memory")
        self.emitter.line(plain)

    def divide(self, result: str, match: re.Match[str], site: Site) -> None:
        """The host traps where the divisor is zero, so the run time looks at it first."""
        left, right = split(match["rest"])
        dividend = operand(left)
        if not dividend.type.startswith("i") or right.lstrip("-").isdigit():
            return self.emitter.line(f"{result} = {match['op']} {match['rest']}")
        self.emitter.site = self.add_site(site)
        bits = int(dividend.type[1:])
        extend = "sext" if match["op"][0] == "s" else "zext"
        lowest = -(1 << (bits - 1)) if extend == "sext" else 1
        wide = [self.widen(extend, item) for item in (dividend, Operand(dividend.type, right))]
        limit = Operand("i64", str(lowest))
        safe = self.emitter.call("i64", "diagc_sim_divisor", *wide, limit)
        narrow = (
            safe
            if bits == 64
            else self.emitter.value(dividend.type, f"trunc {safe.text} to {dividend.type}")
        )
        return self.emitter.line(f"{result} = {match['op']} {left}, {narrow.value}")

    def widen(self, extend: str, item: Operand) -> Operand:
        if item.type == "i64":
            return item
        return self.emitter.value("i64", f"{extend} {item.text} to i64")


def _pointer(text: str) -> tuple[str, Operand, str]:
    """Cut a part of an access into what stands before its pointer, the pointer, and the rest."""
    start = text.index("ptr")
    kind, rest = take_type(text[start:])
    value = rest.split(" ", 1)[0]
    if "(" in rest.split("%", 1)[0]:  # a constant expression
        end = _end_of_expression(rest)
        value = rest[:end]
    return text[:start], Operand(kind, value), rest[len(value) :]


def _end_of_expression(text: str) -> int:
    depth = 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == ")" and depth == 0:
            return i + 1
    return len(text)


def _accessed_type(word: str, parts: list[str]) -> str:
    if word in ("atomicrmw", "cmpxchg"):
        return take_type(parts[1])[0]
    text = parts[0].split(" ", 1)[1]
    while text.startswith(("volatile ", "atomic ")):
        text = text.split(" ", 1)[1]
    return take_type(text)[0]


def _result_type(head: str) -> str:
    head = _FAST_MATH.sub("", head.strip() + " ")
    while (match := _RETURN_ATTRIBUTE.match(head)) is not None:
        head = head[match.end() :]
    return take_type(head)[0]


def rewrite(text: str) -> HostProgram:
    """Make the host's version of a module of LLVM IR for NVPTX.

    Raises:
        UnsupportedError: an intrinsic or instruction that the simulator has no model of.
        UserError: the text holds no kernel.
    """
    program = _Rewriter(text).run(text)
    if not program.kernels:
        raise UserError("the LLVM IR holds no kernel", expected="a function with 'ptx_kernel'")
    return program
