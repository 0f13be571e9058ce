"""What docs/diag_language.md shows is true: its examples run, its lists are complete."""

import re
from pathlib import Path

import pytest

from diagc.dialects.diag.normalize_op import BUILTIN_KINDS
from diagc.frontend.functions import ARITY
from diagc.frontend.reductions import REDUCTIONS
from diagc.frontend.scalar_types import ELEMENT_TYPES
from diagc.frontend.text import parse
from diagc.frontend.text.lexer import KEYWORDS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "diag_language.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("diag"))
def test_an_example_parses(block: str) -> None:
    assert parse(block).operation.verify()


@pytest.mark.parametrize("block", blocks("python"))
def test_a_python_example_runs(block: str) -> None:
    exec(compile(block, "diag_language.md", "exec"), {})


@pytest.mark.parametrize("known", [ARITY, REDUCTIONS, ELEMENT_TYPES, KEYWORDS])
def test_a_list_is_complete(known: list[str]) -> None:
    words = set(re.findall(r"\w+", TEXT))
    assert not {name for name in known if name.isidentifier()} - words - {"neg"}


def test_every_normaliser_is_named() -> None:
    (line,) = [line for line in TEXT.splitlines() if line.startswith("| `softmax(S) along x`")]
    named = re.search("normaliser: `([a-z0-9_ ]+)`", line)
    assert named is not None
    assert named[1].split() == [kind.replace("-", "_") for kind in BUILTIN_KINDS]
    for kind in named[1].split():
        parse(f"axis q = 4\ndiagram f(S: q) {{\n  return {kind}(S) along q\n}}")
