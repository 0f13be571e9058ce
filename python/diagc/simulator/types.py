"""Types and operand lists in LLVM IR text: where they end, how many bytes they take."""

import re
from dataclasses import dataclass
from functools import lru_cache

from diagc.errors import UnsupportedError

__all__ = ["Operand", "align_of", "lane_count", "operand", "size_of", "split", "take_type"]

_OPEN, _CLOSE = "([{<", ")]}>"
_SIGNS = re.compile(r'[",()\[\]{}<>]')
_SCALAR = re.compile(
    r"(?:i\d+|half|bfloat|float|double|void|ptr(?: addrspace\(\d+\))?|metadata|token)(?![\w.])"
)
_BYTES = {"half": 2, "bfloat": 2, "float": 4, "double": 8}
_ATTRIBUTE = re.compile(
    r"(?:noundef|readonly|writeonly|readnone|noalias|nonnull|nocapture|immarg|signext|zeroext"
    r"|inreg|align \d+|dereferenceable(?:_or_null)?\(\d+\)|captures\([^)]*\)|range\([^)]*\)"
    r"|byval\([^)]*\)|\"[^\"]*\"(?:=\"[^\"]*\")?) "
)


@dataclass(frozen=True)
class Operand:
    """A typed value, such as `i32 %4`; `text` is both."""

    type: str
    value: str

    @property
    def text(self) -> str:
        """As it stands in a call."""
        return f"{self.type} {self.value}"


def split(text: str) -> list[str]:
    """Cut at the commas that stand in no bracket and no string."""
    parts, depth, start, quoted = [], 0, 0, False
    for sign in _SIGNS.finditer(text):
        i, char = sign.start(), sign[0]
        if char == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    rest = text[start:].strip()
    return [*parts, rest] if rest else parts


def _end_of_bracket(text: str) -> int:
    depth = 0
    for sign in _SIGNS.finditer(text):
        depth += (sign[0] in _OPEN) - (sign[0] in _CLOSE)
        if depth == 0:
            return sign.end()
    raise UnsupportedError(text, reason="its brackets do not close")


def take_type(text: str) -> tuple[str, str]:
    """The type that a text begins with, and what follows it."""
    text = text.lstrip()
    if text[:1] in ("<", "[", "{"):
        end = _end_of_bracket(text)
        return text[:end], text[end:].lstrip()
    match = _SCALAR.match(text)
    if match is None:
        raise UnsupportedError(
            text.split(" ")[0] or text, reason="the simulator knows no such type"
        )
    return match[0], text[match.end() :].lstrip()


def operand(text: str) -> Operand:
    """Read one operand; attributes between type and value are left out."""
    kind, rest = take_type(text)
    while (match := _ATTRIBUTE.match(rest + " ")) is not None:
        rest = rest[match.end() :]
    return Operand(kind, rest.strip())


@lru_cache(1024)
def size_of(kind: str) -> int:
    """Bytes of a value in memory, without padding at its end."""
    if kind in _BYTES:
        return _BYTES[kind]
    if kind.startswith("ptr"):
        return 8
    if kind.startswith("i"):
        return (int(kind[1:]) + 7) // 8
    if kind.startswith("{"):
        return _struct_size(kind)
    count, element = _elements(kind)
    return count * size_of(element)


@lru_cache(1024)
def align_of(kind: str) -> int:
    """What an access is aligned to where it does not say so itself."""
    if kind.startswith("{"):
        return max((align_of(part) for part in split(kind[1:-1])), default=1)
    if kind.startswith("["):
        return align_of(_elements(kind)[1])
    return 1 << (size_of(kind) - 1).bit_length()


def lane_count(kind: str) -> int:
    """Elements of a vector; 1 for anything else."""
    return _elements(kind)[0] if kind.startswith("<") and not kind.startswith("<{") else 1


def _elements(kind: str) -> tuple[int, str]:
    count, _, element = kind[1:-1].strip().partition(" x ")
    return int(count), element


def _struct_size(kind: str) -> int:
    size = 0
    for part in split(kind[1:-1]):
        align = align_of(part)
        size = (size + align - 1) // align * align + size_of(part)
    return size
