"""`--verify-diagnostics`: the diagnostics of a file are compared with comments in it.

```
// expected-error {{text}}                on this line
// expected-error@+2 {{text}}             two lines below; @-1, @above, @below, @unknown as in MLIR
// expected-note-re@below {{size {{[0-9]+}}}}      a regular expression inside the text
```
Every error, warning and remark must be expected, and every expectation met; notes need not be
expected.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from diagc.diagnostics import Diagnostic

__all__ = ["Expectation", "mismatches", "parse_expectations"]

_EXPECTATION = re.compile(
    r"expected-(?P<severity>error|warning|remark|note)(?P<regex>-re)?"
    r"\s*(?:@(?P<offset>[+-]\d+|above|below|unknown))?\s*\{\{(?P<text>.*)\}\}\s*$"
)
_REGEX_PART = re.compile(r"\{\{(.*?)\}\}")

UNKNOWN = 0
"""The line of a diagnostic without location."""


@dataclass(frozen=True)
class Expectation:
    """A diagnostic that must come; `line` is where, `written` the line of the comment."""

    severity: str
    line: int
    pattern: re.Pattern[str]
    text: str
    written: int

    def matches(self, diagnostic: Diagnostic) -> bool:
        """Whether `diagnostic` is the expected one."""
        line = UNKNOWN if diagnostic.location is None else diagnostic.location.line
        return (
            self.severity == diagnostic.severity
            and self.line == line
            and self.pattern.search(diagnostic.message) is not None
        )


def parse_expectations(text: str) -> list[Expectation]:
    """Collect the expectations in the comments of `text`."""
    lines = text.split("\n")
    matches = [_EXPECTATION.search(line) for line in lines]
    designators = {number for number, match in enumerate(matches, 1) if match}
    return [
        Expectation(
            match["severity"],
            _line(match["offset"], number, designators),
            _pattern(match["text"], match["regex"] is not None),
            match["text"],
            number,
        )
        for number, match in enumerate(matches, 1)
        if match
    ]


def _line(offset: str | None, number: int, designators: set[int]) -> int:
    """Resolve an offset; `above` and `below` step over further expectations."""
    if offset is None:
        return number
    if offset == "unknown":
        return UNKNOWN
    if offset not in ("above", "below"):
        return number + int(offset)
    step = 1 if offset == "below" else -1
    number += step
    while number in designators:
        number += step
    return number


def _pattern(text: str, has_regex: bool) -> re.Pattern[str]:
    if not has_regex:
        return re.compile(re.escape(text))
    parts = _REGEX_PART.split(text)  # texts and regular expressions in turn
    return re.compile("".join(p if n % 2 else re.escape(p) for n, p in enumerate(parts)))


def mismatches(text: str, diagnostics: Iterable[Diagnostic], file: str) -> list[str]:
    """Compare; the result is one line for each unexpected and each missing diagnostic."""
    pending = parse_expectations(text)
    wrong = []
    for diagnostic in diagnostics:
        hit = next((e for e in pending if e.matches(diagnostic)), None)
        if hit is not None:
            pending.remove(hit)
        elif diagnostic.severity != "note":
            line = UNKNOWN if diagnostic.location is None else diagnostic.location.line
            severity, message = diagnostic.severity, diagnostic.message
            wrong.append(f"{file}:{line}: error: unexpected {severity}: {message}")
    missing = ((e, f'expected {e.severity} "{e.text}" was not produced') for e in pending)
    return wrong + [f"{file}:{e.written}: error: {message}" for e, message in missing]
