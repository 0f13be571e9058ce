"""Rewrite LLVM IR text for NVPTX from MLIR's LLVM (24) so that llvmlite's LLVM (22) reads it.

Besides floating-point literals (`diagc.targets.llvm_text`):

- Declarations of intrinsics lose attributes that the older LLVM does not know. It gives every
  intrinsic that it knows its attributes again, which tells those that it does not know.
- Calls of inline assembly become `convergent nounwind`: MLIR's op has no such flag, and LLVM may
  otherwise move a collective instruction into a branch.
"""

import re

from diagc.targets.llvm_text import edit_lines, to_llvmlite

__all__ = ["to_nvptx_llvm"]

_DECLARATION = re.compile(r"^declare (?P<result>.*?)(?P<name>@llvm\.[\w.]+)\((?P<types>.*)\)[^)]*$")
_ATTRIBUTE = re.compile(
    r"\b(?:noundef|readonly|writeonly|readnone|noalias|nonnull|nocapture|immarg"
    r"|captures\([^)]*\)|range\([^)]*\)|align \d+)\s*"
)
_ASM_CALL = re.compile(r"^\s*(?:%[\w.]+ = )?(?:tail )?call .* asm (?:sideeffect )?\"")
_END_OF_CALL = re.compile(r"\)(?P<tail>(?: #\d+)?(?:, ![\w.]+ !\d+)*)$")
_GROUP = re.compile(r"#\d+")
_GROUP_LINE = re.compile(r"\nattributes (?P<group>#\d+) .*")


def to_nvptx_llvm(text: str) -> str:
    """Respell a module as the older LLVM wants it."""
    text = edit_lines(to_llvmlite(text), ["declare "], _declaration)
    text = edit_lines(text, [" asm "], _asm_call)
    used = set(_GROUP.findall(_GROUP_LINE.sub("", text)))
    return _GROUP_LINE.sub(lambda match: match[0] if match["group"] in used else "", text)


def _declaration(line: str) -> str:
    declaration = _DECLARATION.match(line)
    return line if declaration is None else _bare(declaration)


def _asm_call(line: str) -> str:
    if not _ASM_CALL.match(line):
        return line
    return _END_OF_CALL.sub(r") convergent nounwind\g<tail>", line)


def _bare(declaration: re.Match[str]) -> str:
    """The declaration with types only."""
    result = _ATTRIBUTE.sub("", declaration["result"])
    types = _ATTRIBUTE.sub("", declaration["types"])
    if "{" in types:  # commas inside of a type: it stands as it is
        return f"declare {result}{declaration['name']}({declaration['types']})"
    stripped = ", ".join(part.strip() for part in types.split(",") if part.strip())
    return f"declare {result}{declaration['name']}({stripped})"
