"""The tokens of `.diag` text."""

import re
from dataclasses import dataclass

from diagc.errors import DiagSyntaxError
from diagc.frontend.text.source import Source

__all__ = ["KEYWORDS", "Token", "tokenize"]

KEYWORDS = frozenset(
    (
        *("axis", "diagram", "return", "map"),
        *("over", "along", "where", "eps", "inside", "outside", "acc", "as"),
        *("and", "or", "not", "true", "false", "inf", "nan"),
    )
)
"""Words that cannot name an axis or a wire; element types cannot either."""

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\f]+ | \#[^\n]* | //[^\n]*)
  | (?P<newline>\n)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![A-Za-z0-9_]))
  | (?P<sign>->|<=|>=|==|!=|\*\*|[-+*/%<>=(){}\[\]:,.;])
    """,
    re.VERBOSE,
)

# After these a statement cannot end, so that a line break there means nothing.
_OPEN_ENDED = frozenset(("->", "<=", ">=", "==", "!=", "**", *"-+*/%<>=([{:,.;"))
_PAIRS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class Token:
    """One token: `kind` is name, number, sign, newline or end; `offset` counts characters."""

    kind: str
    text: str
    offset: int

    def __str__(self) -> str:
        """Show the token in a message."""
        return {"newline": "the end of the line", "end": "the end of the file"}.get(
            self.kind, f"'{self.text}'"
        )


def tokenize(source: Source) -> list[Token]:
    """Give the tokens of a text, with an `end` at the end.

    A line break is a token where a statement can end: outside ( ) and [ ], and not after an
    operator, a comma or an opening brace.

    Raises:
        DiagSyntaxError: a character or a number that is no part of the language.
    """
    tokens: list[Token] = []
    opened: list[str] = []
    offset = 0
    while offset < len(source.text):
        match = _TOKEN.match(source.text, offset)
        if match is None:
            raise _bad_character(source, offset)
        token = Token(str(match.lastgroup), match.group(), offset)
        offset = match.end()
        if token.kind == "space" or (token.kind == "newline" and _continues(tokens, opened)):
            continue
        tokens.append(token)
        if token.text in _PAIRS.values():
            opened.append(token.text)
        elif opened and _PAIRS.get(token.text) == opened[-1]:
            opened.pop()
    return [*tokens, Token("end", "", len(source.text))]


def _continues(tokens: list[Token], opened: list[str]) -> bool:
    """Whether a line break means nothing here."""
    if not tokens or (opened and opened[-1] != "{"):
        return True
    return tokens[-1].kind == "newline" or tokens[-1].text in _OPEN_ENDED


def _bad_character(source: Source, offset: int) -> DiagSyntaxError:
    character = source.text[offset]
    if character.isdigit():
        message, remedy = "malformed number", "write 2, 0.5 or 1e-6, and a space before a name"
    else:
        message = f"unexpected character {character!r}"
        remedy = "names are made of the letters a-z, digits and _"
    return source.error(DiagSyntaxError, offset, message, remedy=remedy)
