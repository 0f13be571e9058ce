"""The pictures in docs/ are what the commands in docs/drawings.md make."""

import re
import shlex
from pathlib import Path

import pytest

from diagc.driver import main

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "drawings.md"
COMMANDS = re.findall(r"^diagc ((?:draw|explain) examples/.*)$", PAGE.read_text(), re.M)


def machine_apart(text: str) -> str:
    """A page without what the cost model says of the machine at hand."""
    return re.sub(r'(class="machine[^>]*>)[^<]*', r"\1", text)


def test_all_pictures_have_a_command() -> None:
    made = {shlex.split(command)[-1] for command in COMMANDS}
    assert made == {str(p.relative_to(ROOT)) for p in (ROOT / "docs/drawings").iterdir()}
    shown = re.findall(r"\((drawings/[^)]*)\)", PAGE.read_text())
    assert {f"docs/{name}" for name in shown} == made


@pytest.mark.parametrize("command", COMMANDS)
def test_picture_is_up_to_date(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *words, committed = shlex.split(command)
    monkeypatch.chdir(ROOT)  # paths in titles are relative to it
    monkeypatch.setenv("DIAGC_CPU_ISA", "avx2")
    made = tmp_path / Path(committed).name
    assert main([*words, str(made)]) == 0
    expected = (ROOT / committed).read_text(encoding="utf-8")
    assert machine_apart(made.read_text(encoding="utf-8")) == machine_apart(expected)
