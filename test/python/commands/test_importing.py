"""`diagc import` and `diagc compile -o`: weights stand beside, lengths stay open."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diagc.driver import main
from diagc.runtime import load
from diagc.testing.seed import SEED

PROGRAM = """
import torch

class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(SEED)
        self.inward, self.outward = torch.nn.Linear(16, 48), torch.nn.Linear(16, 16)
        self.register_buffer("slope", torch.rand(16), persistent=False)

    def forward(self, x):
        q, k, v = (self.inward(x) * 1.5).chunk(3, -1)
        return self.outward(torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v + self.slope)

def build():
    return Layer()

def example_inputs():
    return (torch.randn(2, 40, 16),)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(PROGRAM.replace("SEED", str(SEED)))
    return path


def model(file: Path) -> torch.nn.Module:
    names: dict[str, object] = {}
    exec(file.read_text(), names)
    built = names["build"]()  # type: ignore[operator]
    assert isinstance(built, torch.nn.Module)
    return built


def test_import(file: Path, tmp_path: Path) -> None:
    text, weights = tmp_path / "model.mlir", tmp_path / "model.safetensors"
    words = ["import", f"{file}:build", "--dynamic", "-o", str(text), "--weights", str(weights)]
    assert main(words) == 0
    source = text.read_text()
    assert "dense<" not in source
    assert re.search(r'tensor<\?x\?x16xf32, \[[^\]]*\]> \{[^}]*diag.name = "x"', source)
    built, found = model(file), load_file(weights)
    wanted = {**dict(built.named_parameters()), **dict(built.named_buffers())}
    assert found.keys() == wanted.keys()
    assert all(f'diag.name = "{name}"' in source for name in wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_package_with_weights_beside(file: Path, tmp_path: Path) -> None:
    package, weights = tmp_path / "model.diagpkg", tmp_path / "model.safetensors"
    words = ["compile", f"{file}:build", "--dynamic", "-o", str(package)]
    assert main([*words, "--weights", str(weights)]) == 0
    run, built = load(package, load_file(weights)), model(file)
    for batch, length in ((2, 40), (3, 97)):
        x = torch.randn(batch, length, 16)
        with torch.no_grad():
            torch.testing.assert_close(run(x), built(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "--weights", "model.bin"], "weights go to another kind of file"),
        (["compile", "-o", "x.diagpkg", "--weights", "w.bin", "--with-weights"], "or beside it"),
        (["compile", "--weights", "w.safetensors"], "are for packages"),
        (["compile", "--variants=4", "-o", "x.mlir"], "--variants are for packages"),
    ],
)
def test_refusals(
    words: list[str], message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], f"{file}:build", *words[1:]]) == 1
    assert message in capsys.readouterr().err
