"""Rewrite LLVM IR text of MLIR's LLVM (24) so that llvmlite's LLVM (22) reads it.

Only floating-point literals differ: LLVM 24 prints shortest decimals, `f0x` bits, `-inf` and
`+qnan`, older versions want bits in their own spelling (LLVM pull request 190641).
"""

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

__all__ = ["edit_lines", "to_llvmlite"]

_TOKEN = re.compile(
    r"""
    "(?:[^"\\]|\\.)*"                                     # strings stay as they are
    | (?P<type>\b(?:half|bfloat|float|double)\b)
    | (?P<literal>(?<![\w.%@$-])(?:
        [+-](?:inf|qnan)\b
        | [+-]s?nan\(0x[0-9A-Fa-f]+\)
        | f0x[0-9A-Fa-f]+
        | [+-]?\d+\.\d*(?:[eE][+-]?\d+)?
      ))
    """,
    re.VERBOSE,
)
_MAYBE = (r"\.\d", r"(?m)\.$", "inf", "nan", "f0x")
# type -> (bits, mantissa bits, prefix of the older hexadecimal spelling)
_FORMATS = {
    "half": (16, 10, "0xH"),
    "bfloat": (16, 7, "0xR"),
    "float": (32, 23, "0x"),
    "double": (64, 52, "0x"),
}
_PACK = {"half": ("<e", "<H"), "float": ("<f", "<I"), "double": ("<d", "<Q")}


def to_llvmlite(text: str) -> str:
    """Respell every floating-point literal of an LLVM IR module."""
    return edit_lines(text, _MAYBE, _line)


def edit_lines(text: str, patterns: Sequence[str], edit: Callable[[str], str]) -> str:
    """Replace every line in which one of some patterns is found.

    Patterns that begin with a letter, each by itself, are found twenty times faster than one with
    alternatives.
    """
    return "".join(_pieces(text, patterns, edit))


def _pieces(text: str, patterns: Sequence[str], edit: Callable[[str], str]) -> Iterator[str]:
    done = 0
    found = (match.start() for x in patterns for match in re.finditer(x, text))
    for place in sorted(found):
        if place < done:
            continue
        start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
        end = len(text) if end < 0 else end
        yield text[done:start]
        yield edit(text[start:end])
        done = end
    yield text[done:]


def _line(line: str) -> str:
    kind: str | None = None

    def token(match: re.Match[str]) -> str:
        nonlocal kind
        if match["type"]:
            kind = match["type"]
        if match["literal"] and kind:
            return _spell(kind, match["literal"])
        return match[0]

    return _TOKEN.sub(token, line)


@lru_cache(4096)
def _spell(kind: str, literal: str) -> str:
    bits = _bits(kind, literal)
    width, _, prefix = _FORMATS[kind]
    if kind == "float":  # the older spelling of a float is the double of the same value
        bits, width = _widen(bits), 64
    return f"{prefix}{bits:0{width // 4}X}"


def _bits(kind: str, literal: str) -> int:
    width, mantissa, _ = _FORMATS[kind]
    if literal.startswith("f0x"):
        return int(literal[3:], 16)
    sign = (literal[0] == "-") << (width - 1)
    infinity = ((1 << (width - 1 - mantissa)) - 1) << mantissa
    quiet = 1 << (mantissa - 1)
    body = literal.lstrip("+-")
    if body == "inf":
        return sign | infinity
    if body == "qnan":
        return sign | infinity | quiet
    if "nan(" in body:
        payload = int(body[body.index("(") + 1 : -1], 16)
        return sign | infinity | payload | (0 if body[0] == "s" else quiet)
    return _round(kind, float(literal))


def _round(kind: str, value: float) -> int:
    if kind == "bfloat":  # round to nearest even on the bits of the f32
        bits = _round("float", value)
        return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    pack, unpack = _PACK[kind]
    return int(struct.unpack(unpack, struct.pack(pack, value))[0])


def _widen(bits: int) -> int:
    """Bits of the double that holds the same value as these f32 bits."""
    sign, exponent, fraction = bits >> 31, bits >> 23 & 0xFF, bits & 0x7FFFFF
    if exponent == 0xFF:
        return sign << 63 | 0x7FF << 52 | fraction << 29
    value = struct.unpack("<f", struct.pack("<I", bits))[0]
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])
