"""Programs are found in Python files as the help says; what is wrong is said at its line."""

from pathlib import Path

import pytest
import torch

from diagc.commands.load import load_programs, split_spec
from diagc.commands.program import TorchProgram
from diagc.errors import UserError

INPUTS = "def example_inputs():\n    return (torch.ones(2),)\n"
HEAD = f"import torch\nfrom torch.nn.functional import softmax\n{INPUTS}"


def load(tmp_path: Path, text: str, name: str = "") -> dict[str, TorchProgram]:
    path = tmp_path / "model.py"
    path.write_text(HEAD + text)
    programs = load_programs(f"{path}{name}")
    return {p.name: p for p in programs if isinstance(p, TorchProgram)}


def test_public_functions_and_modules_are_programs(tmp_path: Path) -> None:
    text = """
def double(x): return _helper(x)
def _helper(x): return x * 2
def factory(): return torch.nn.Linear(2, 3)
class Block(torch.nn.Module):
    def forward(self, x): return x + 1
linear = torch.nn.Linear(2, 4)
count = 3
"""
    programs = load(tmp_path, text)
    assert list(programs) == ["double", "factory", "Block", "linear"]
    results = {name: p.function(*p.inputs) for name, p in programs.items()}
    assert results["double"].tolist() == [2, 2]
    assert results["factory"].shape == (3,)
    assert results["Block"].tolist() == [2, 2]
    assert isinstance(programs["linear"].function, torch.nn.Linear)


def test_a_name_chooses(tmp_path: Path) -> None:
    text = "def one(x): return x\ndef two(x): return x\n"
    assert list(load(tmp_path, text, ":two")) == ["two"]


def test_what_is_imported_counts_when_it_is_named(tmp_path: Path) -> None:
    assert list(load(tmp_path, "", ":softmax")) == ["softmax"]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "", "nothing to compile.*expected a public function or torch.nn.Module"),
        ("def f(x): return x\n", ":g", "has no function or torch.nn.Module 'g', expected one of f"),
        ("f = 3\n", ":f", "found a int"),
        ("1 / 0\n", "", r"model.py:5: importing it raised ZeroDivisionError: division by zero"),
        ("def f(x:\n", "", r"model.py:5: importing it raised SyntaxError"),
        ("import no_such_module\n", "", "model.py:5: importing it raised ModuleNotFoundError"),
        (
            "def f(): return 3\n",
            "",
            r"f\(\) in .*model.py, expected a torch.nn.Module, found a int",
        ),
        ("def f(): return 1 / 0\n", "", r"model.py:5: f\(\) raised ZeroDivisionError"),
        ("def f(x): return x\ndel example_inputs\n", "", "does not say with what to run"),
        (
            "def f(x): return x\ndef example_inputs(): [][0]\n",
            "",
            r"model.py:6: example_inputs\(\)",
        ),
    ],
)
def test_mistakes_are_the_users(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(
        UserError, match=message.replace(":5: ", r":5:\d+: ").replace(":6: ", ":6:1: ")
    ):
        load(tmp_path, text, name)


def test_split_spec(tmp_path: Path) -> None:
    plain, odd = tmp_path / "a.py", tmp_path / "b:c.py"
    plain.touch()
    odd.touch()
    assert split_spec(str(plain)) == (plain, None)
    assert split_spec(f"{plain}:f") == (plain, "f")
    assert split_spec(str(odd)) == (odd, None)
    for missing in ("no-such.py", f"{tmp_path}", "no-such.py:f"):
        with pytest.raises(UserError, match="cannot read"):
            split_spec(missing)
