"""Rewrite LLVM IR text for NVPTX from MLIR's LLVM (24) so that llvmlite's LLVM (22) reads it.

Besides floating-point literals (`diagc.targets.llvm_text`):

- Declarations of intrinsics lose attributes that the older LLVM does not know. It gives every
  intrinsic that it knows its attributes again, which tells those that it does not know.
- Calls of inline assembly become `convergent nounwind`: MLIR's op has no such flag, and LLVM may
  otherwise move a collective instruction into a branch.
"""

import re

from diagc.targets.llvm_text import to_llvmlite

__all__ = ["to_nvptx_llvm"]

_DECLARATION = re.compile(r"^declare (?P<result>.*?)(?P<name>@llvm\.[\w.]+)\((?P<types>.*)\)[^)]*$")
_ATTRIBUTE = re.compile(
    r"\b(?:noundef|readonly|writeonly|readnone|noalias|nonnull|nocapture|immarg"
    r"|captures\([^)]*\)|range\([^)]*\)|align \d+)\s*"
)
_ASM_CALL = re.compile(r"^\s*(?:%[\w.]+ = )?(?:tail )?call .* asm (?:sideeffect )?\"")
_END_OF_CALL = re.compile(r"\)(?P<tail>(?: #\d+)?(?:, ![\w.]+ !\d+)*)$")
_GROUP = re.compile(r"#\d+")


def to_nvptx_llvm(text: str) -> str:
    """Respell a module as the older LLVM wants it."""
    lines = [_line(line) for line in to_llvmlite(text).split("\n")]
    used = set(_GROUP.findall("\n".join(x for x in lines if not x.startswith("attributes "))))
    return "\n".join(line for line in lines if _is_used(line, used))


def _is_used(line: str, groups: set[str]) -> bool:
    return not line.startswith("attributes #") or line.split()[1] in groups


def _line(line: str) -> str:
    declaration = _DECLARATION.match(line)
    if declaration is not None:
        return _bare(declaration)
    if _ASM_CALL.match(line):
        return _END_OF_CALL.sub(r") convergent nounwind\g<tail>", line)
    return line


def _bare(declaration: re.Match[str]) -> str:
    """The declaration with types only."""
    result = _ATTRIBUTE.sub("", declaration["result"])
    types = _ATTRIBUTE.sub("", declaration["types"])
    if "{" in types:  # commas inside of a type: it stands as it is
        return f"declare {result}{declaration['name']}({declaration['types']})"
    stripped = ", ".join(part.strip() for part in types.split(",") if part.strip())
    return f"declare {result}{declaration['name']}({stripped})"
