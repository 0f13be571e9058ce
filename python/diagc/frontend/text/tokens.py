"""A cursor over tokens: what comes next, and errors that say what was expected."""

from typing import NoReturn

from diagc.errors import DiagSyntaxError
from diagc.frontend.scalar_types import ELEMENT_TYPES
from diagc.frontend.text.lexer import KEYWORDS, Token, tokenize
from diagc.frontend.text.source import Source
from diagc.frontend.text.syntax import Word

__all__ = ["Cursor"]


class Cursor:
    """Reads tokens one by one; every refusal is a DiagSyntaxError with a caret."""

    def __init__(self, source: Source) -> None:
        """Split the text into tokens."""
        self.source = source
        self._tokens = tokenize(source)
        self._position = 0

    @property
    def next(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._position]

    def at(self, *texts: str) -> bool:
        """Whether one of these signs or keywords comes next."""
        return self.next.kind in ("sign", "name") and self.next.text in texts

    def at_name(self) -> bool:
        """Whether a name comes next that is no keyword."""
        return self.next.kind == "name" and self.next.text not in KEYWORDS

    def advance(self) -> Token:
        """Take the next token; the end stays."""
        token = self.next
        self._position += token.kind != "end"
        return token

    def accept(self, text: str) -> bool:
        """Take `text` if it comes next."""
        found = self.at(text)
        if found:
            self.advance()
        return found

    def expect(self, text: str, remedy: str | None = None) -> Token:
        """Take `text`, or fail."""
        if not self.at(text):
            self.fail(f"'{text}'", remedy)
        return self.advance()

    def name(self, what: str) -> Word:
        """Take a name that is free for users: no keyword, no element type."""
        if not self.at_name() or self.next.text in ELEMENT_TYPES:
            reserved = self.next.kind == "name"
            self.fail(what, "this word is reserved, choose another name" if reserved else None)
        return self.word()

    def word(self) -> Word:
        """Take the next token as a word."""
        token = self.advance()
        return Word(token.text, token.offset)

    def skip_lines(self) -> None:
        """Pass over line breaks and semicolons."""
        while self.next.kind == "newline" or self.at(";"):
            self.advance()

    def end_statement(self, closing: str) -> None:
        """Take the end of a statement: a line break, a semicolon, or `closing` (which stays)."""
        if self.at(closing) or self.next.kind == "end":
            return
        if self.next.kind != "newline" and not self.at(";"):
            self.fail("the end of the statement", "put each statement on a line of its own")
        self.skip_lines()

    def fail(self, expected: str, remedy: str | None = None) -> NoReturn:
        """Refuse the next token."""
        raise self.source.error(
            DiagSyntaxError,
            self.next.offset,
            "syntax error",
            expected=expected,
            found=self.next,
            remedy=remedy,
        )
