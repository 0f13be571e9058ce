"""Drawings of diagrams for the tests of layouts."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from diagc.commands.load import load_programs
from diagc.drawings import draw
from diagc.options import CompileOptions
from diagc.viz import Drawing

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
OPTIONS = CompileOptions(target="cpu")

DrawExample = Callable[..., Drawing]


@cache
def _source(name: str) -> str:
    (program,) = load_programs(str(EXAMPLES / name))
    return program.source(OPTIONS)


@pytest.fixture(scope="session")
def draw_example() -> DrawExample:
    """Draw an example after a pass or stage."""

    def drawn(name: str, after: str | None = None, width: float | None = None) -> Drawing:
        return draw(_source(name), name, OPTIONS, after, width=width)

    return drawn
