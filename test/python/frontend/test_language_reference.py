"""What docs/diag_language.md shows is true: its examples run, its lists are complete."""

import re
from pathlib import Path

import pytest

from diagc.dialects import diag
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
    words = set(re.findall(r"[a-z_0-9]+", TEXT))
    assert not {name for name in known if name.isidentifier()} - words - {"neg"}


def test_every_normaliser_is_named() -> None:
    assert all(kind.replace("-", "_") in TEXT for kind in diag.registered_kinds())
