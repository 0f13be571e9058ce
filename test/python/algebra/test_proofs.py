"""Proofs are remembered, kept on disk, shipped with the package, and never trusted blindly."""

import subprocess
import sys
from pathlib import Path

import pytest

from diagc import debug
from diagc.algebra import laws, proofs
from diagc.algebra.expressions import exp, symbol

WITHOUT_SYMPY = """
import sys
from diagc.algebra import laws
from diagc.algebra.expressions import {names}
print(laws.scale({phi}, ["m"], "ab"), "sympy" in sys.modules)
"""


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    fresh: dict[str, str] = {}
    monkeypatch.setattr(proofs, "_MEMORY", fresh)
    return fresh


def unprovable() -> str:
    raise AssertionError("it was known")


def test_a_proof_is_made_once(memory: dict[str, str], tmp_path: Path) -> None:
    with debug.CACHE_DIR.override(tmp_path):
        assert proofs.answer("question", lambda: "found") == "found"
        assert proofs.answer("question", unprovable) == "found"
        memory.clear()
        assert proofs.answer("question", unprovable) == "found"
    assert (tmp_path / "proofs").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["", "x\ny\nz\n", "question\nother\n0\n", "\0\0"])
def test_a_damaged_file_is_proved_anew(memory: dict[str, str], tmp_path: Path, damage: str) -> None:
    with debug.CACHE_DIR.override(tmp_path):
        proofs.answer("question", lambda: "found")
        (file,) = (tmp_path / "proofs").iterdir()
        file.write_text(damage)
        memory.clear()
        assert proofs.answer("question", lambda: "proved again") == "proved again"
        memory.clear()
        assert proofs.answer("question", unprovable) == "proved again"


def test_a_directory_that_others_can_enter_is_not_believed(
    memory: dict[str, str], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with debug.CACHE_DIR.override(cache):
        proofs.answer("question", lambda: "found")
    cache.rename(tmp_path / "open")
    (tmp_path / "open").chmod(0o777)
    memory.clear()
    with debug.CACHE_DIR.override(tmp_path / "open"):
        assert proofs.answer("question", lambda: "proved again") == "proved again"


def test_a_directory_that_cannot_be_written_costs_only_time(
    memory: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with debug.CACHE_DIR.override(tmp_path / "file" / "below"):
        assert proofs.answer("question", lambda: "found") == "found"


def test_without_a_cache_nothing_is_written(memory: dict[str, str], tmp_path: Path) -> None:
    with debug.CACHE_DIR.override(tmp_path), debug.CACHE.override(False):
        proofs.answer("question", lambda: "found")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", sorted(proofs.known().items()))
def test_shipped_proofs_are_proved_anew(line: tuple[str, str]) -> None:
    question, found = line
    assert laws.prove(question) == found


def test_known_laws_need_no_sympy() -> None:
    source = WITHOUT_SYMPY.format(names="exp, symbol", phi='exp(symbol("a") - symbol("m"))')
    result = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[0] == "exp(m - m_new) False"


def test_proved_laws_need_no_sympy_the_second_time(tmp_path: Path) -> None:
    names = "absolute, exp, symbol"
    source = WITHOUT_SYMPY.format(names=names, phi='exp(symbol("a") - symbol("m") * 0.3125)')
    environment = {"DIAGC_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    runs = [
        subprocess.run(
            [sys.executable, "-c", source],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout.strip()
        for _ in range(2)
    ]
    law = "exp(0.3125 * (m - m_new))"
    assert runs == [f"{law} True", f"{law} False"]


def test_equal_questions_are_one(memory: dict[str, str], tmp_path: Path) -> None:
    with debug.CACHE_DIR.override(tmp_path):
        laws.scale(exp(symbol("a") * 0.4375 - symbol("m")), ["m"], "a")
        laws.scale(exp(symbol("q") + symbol("r") - symbol("p")), ["p"], "qr")
    assert list(memory) == ["scale (exp (sub x0 s0))"]
