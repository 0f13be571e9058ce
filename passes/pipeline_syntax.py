"""The text of a pass pipeline, such as `builtin.module(func.func(cse),canonicalize)`, as a tree.

MLIR's own parser knows only passes written in C++, so mixed pipelines are read here.
"""

import re
import shlex
from dataclasses import dataclass

from diagc.errors import DiagSyntaxError, SourceLocation

__all__ = ["PIPELINE_SOURCE", "ROOT", "PassNode", "parse_options", "parse_pipeline", "syntax_error"]

PIPELINE_SOURCE = "pass pipeline"
"""What stands for a file name in the locations of pipeline errors."""

ROOT = "builtin.module"
"""The op that whole pipelines run on."""

_NAME = re.compile(r"[\w.-]+")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class PassNode:
    """A pass, or (when `children` is not None) an op name with the pipeline nested under it."""

    name: str
    position: int
    options: str | None = None
    children: "tuple[PassNode, ...] | None" = None

    def __str__(self) -> str:
        """Give the text of this part of the pipeline."""
        if self.children is not None:
            return f"{self.name}({','.join(map(str, self.children))})"
        return self.name if self.options is None else f"{self.name}{{{self.options}}}"


def syntax_error(text: str, position: int, message: str) -> DiagSyntaxError:
    """Make the error that points with a caret into the pipeline `text`."""
    location = SourceLocation(PIPELINE_SOURCE, 1, position + 1)
    return DiagSyntaxError(message, location=location, source=text)


def parse_pipeline(text: str) -> PassNode:
    """Read a pipeline; what does not start with `builtin.module(` is taken to stand inside it.

    Raises:
        DiagSyntaxError: the text is no pipeline; points at the place.
    """
    nodes = _Parser(text).parse()
    if len(nodes) == 1 and nodes[0].name == ROOT and nodes[0].children is not None:
        return nodes[0]
    return PassNode(ROOT, 0, children=nodes)


def parse_options(text: str) -> dict[str, str]:
    """Split `chunk=64 axes=q,x flag` into names and texts; a bare name gives the empty text.

    Raises:
        ValueError: a quote is not closed.
    """
    pairs = (token.partition("=") for token in shlex.split(text))
    return {name: value for name, _, value in pairs}


class _Parser:
    """Recursive descent over the text; `_at` is the position."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> tuple[PassNode, ...]:
        nodes = self._elements()
        if self._at < len(self._text):
            raise self._error(f"unexpected '{self._text[self._at]}'")
        return nodes

    def _error(self, message: str, position: int | None = None) -> DiagSyntaxError:
        return syntax_error(self._text, self._at if position is None else position, message)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _peek(self) -> str:
        self._skip(_SPACE)
        return self._text[self._at : self._at + 1]

    def _elements(self) -> tuple[PassNode, ...]:
        if self._peek() in ("", ")"):
            return ()
        nodes = [self._element()]
        while self._peek() == ",":
            self._at += 1
            nodes.append(self._element())
        return tuple(nodes)

    def _element(self) -> PassNode:
        self._skip(_SPACE)
        start = self._at
        name = self._skip(_NAME)
        if not name:
            raise self._error("expected the name of a pass or an op")
        if self._peek() == "(":
            return PassNode(name, start, children=self._nested())
        if self._peek() == "{":
            return PassNode(name, start, options=self._braces())
        return PassNode(name, start)

    def _nested(self) -> tuple[PassNode, ...]:
        self._at += 1
        nodes = self._elements()
        if self._peek() != ")":
            raise self._error("expected ')'")
        self._at += 1
        return nodes

    def _braces(self) -> str:
        """Take the text between matching braces; braces inside quotes do not count."""
        start, depth, quote = self._at, 0, ""
        for at in range(start, len(self._text)):
            char = self._text[at]
            if quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            else:
                depth += (char == "{") - (char == "}")
            if depth == 0:
                self._at = at + 1
                return self._text[start + 1 : at].strip()
        raise self._error("missing '}'", start)
