"""Bodies of maps, monoids and positions as short formulas."""

import re
from collections.abc import Sequence

from diagc.dialects import diag
from diagc.frontend.text.print_names import Names
from diagc.frontend.text.print_scalars import literal_text, map_text
from diagc.mlir import ir

__all__ = [
    "FIRST_LETTER",
    "LETTERS",
    "constant_text",
    "fold_text",
    "formula",
    "map_reads",
    "position_text",
    "with_letters",
]

LETTERS = "abcdefghijklmnopqrstuvwyz"
FIRST_LETTER = (
    0xE000  # private characters stand for inputs until it is known in which order they stand
)

_FOLDS = {"add": "Σ", "mul": "Π", "or": "any", "and": "all"}
_TABLES = 16


def map_reads(op: ir.Operation) -> list[ir.Value]:
    """The wires that a map reads, once each, in order."""
    found: list[ir.Value] = []
    for inner in diag.walk_ops(op.regions[0]):
        if inner.name == "diag.element" and inner.operands[0] not in found:
            found.append(inner.operands[0])
    return found


def formula(op: ir.Operation) -> str:
    """The body of a map; private characters stand for what it reads."""
    signs = {value: chr(FIRST_LETTER + number) for number, value in enumerate(map_reads(op))}
    text = map_text(op, Names(set()), lambda value: signs.get(value, "?"))
    return pretty(text)


def with_letters(text: str, letters: Sequence[str]) -> str:
    """The formula with the letters of its inputs; a function of its one input is only named."""
    if len(letters) == 1:
        text = re.sub(rf"^(\w+)\({chr(FIRST_LETTER)}\)$", r"\1", text)
    for number, letter in enumerate(letters):
        text = text.replace(chr(FIRST_LETTER + number), letter)
    return text


_WORD = r"[\w.\ue000-\uf8ff]+"  # letters of inputs are private characters

_PRETTY = (
    (r"map \{\n\s*", ""),
    (r"\n\s*\}$", ""),
    (r"\n\s*", "; "),
    (r"\b(\d+)\.0\b(?!e)", r"\1"),
    (r"-?\b(\d+\.\d{4})\d+\b", r"\1"),
    (r"-inf\b", "−∞"),
    (r"\binf\b", "∞"),
    (r"\bsqrt\(", "√("),
    (rf"√\(({_WORD})\)", r"√\1"),
    (r" \* ", "·"),
    (r" / ", "/"),
    (r">=", "≥"),
    (r"<=", "≤"),
    (r"==", "="),
    (r"!=", "≠"),
    (rf"([·/])-({_WORD}(?:\([^()]*\))?)", r"\1(−\2)"),
    (r"(?<![\w)])-", "−"),
    (r" - ", " − "),
)


def pretty(text: str) -> str:
    """The text of the language with the signs of mathematics."""
    text = _without_casts(text)
    for pattern, replacement in _PRETTY:
        text = re.sub(pattern, replacement, text)
    return text


_CAST = re.compile(r"\b(?:f32|f64|i1|i8|i16|i32|i64|index)\(")


def _without_casts(text: str) -> str:
    """The text without conversions that round nothing worth a word, and needless brackets."""
    while (found := _CAST.search(text)) is not None:
        end = _closing(text, found.end())
        inner, before, after = text[found.end() : end], text[: found.start()], text[end + 1 :]
        alone = before[-1:] in ("", "(") or before.endswith(", ")
        bare = _binds_tight(inner) or (alone and after[:1] in ("", ")", ","))
        text = before + (inner if bare else f"({inner})") + after
    return text


def _binds_tight(text: str) -> bool:
    """Whether a text is one word, or one function of something."""
    word = re.match(rf"{_WORD}\(?", text)
    if word is None or not word[0].endswith("("):
        return word is not None and word.end() == len(text)
    return _closing(text, word.end()) == len(text) - 1


def _closing(text: str, start: int) -> int:
    """Where the bracket that was opened before `start` closes."""
    depth = 1
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if not depth:
            return place
    return len(text)


def fold_text(kind: str) -> str:
    """What a reduction is called."""
    return _FOLDS.get(kind, kind)


def constant_text(op: ir.Operation) -> str:
    """A literal, or what there is of a table."""
    value = ir.DenseElementsAttr(op.attributes["value"])
    if value.is_splat:
        return pretty(literal_text(value.get_splat_value()))
    return "table" if len(value) > _TABLES else f"table of {len(value)}"


def position_text(expression: ir.AffineExpr, names: Sequence[str]) -> str:
    """An affine position in terms of the axes of the result."""
    text = re.sub(r"\bd(\d+)\b", lambda found: names[int(found[1])], str(expression))
    text = text.replace(" floordiv ", " // ").replace(" mod ", " % ").replace(" * ", "·")
    return text.replace(" + -", " − ").replace(" - ", " − ")
