"""`diagc bisect`: names the region, and the pass or kernel, that was made wrong."""

from pathlib import Path

import pytest

from diagc import driver
from diagc.testing.mutants import MUTANTS, Mutant

PROGRAM = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.embedding = nn.Embedding(20, 16)

    def forward(self, tokens):
        q, k, v = self.qkv(self.embedding(tokens)).chunk(3, -1)
        later = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1)
        scores = (q @ k.transpose(-1, -2)).masked_fill(later, -torch.inf)
        out = torch.sort(torch.softmax(scores, -1) @ v, -1).values
        return nn.functional.layer_norm(out, (16,)) * 2 + 1

def build():
    return Net()

def example_inputs():
    return (torch.randint(0, 20, (2, 20)),)
"""

# a mask that a pass loses, and operands that only the code of kernels swaps
WRONG_PASS, WRONG_CODE = (
    next(mutant for mutant in MUTANTS if mutant.name == name)
    for name in ("dropped mask", "swapped operands")
)


@pytest.fixture(autouse=True)
def no_region_is_kept(regions_of_its_own: None) -> None:
    """Wrong code may serve nobody else, nor right code these tests."""


def bisect(tmp_path: Path) -> int:
    path = tmp_path / "model.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return driver.main(["bisect", f"{path}:build"])


def test_right_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bisect(tmp_path) == 0
    told = capsys.readouterr().out
    assert told.count("equal to eager") == 4
    assert "fault" not in told


@pytest.mark.parametrize(
    ("mutant", "blamed"),
    [
        (WRONG_PASS, "fault in pass expand-normalizers"),
        (WRONG_CODE, "fault in kernel stream_max_exp"),
    ],
)
def test_fault_is_named(
    mutant: Mutant, blamed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mutant.applied():
        assert bisect(tmp_path) == 1
    told = capsys.readouterr().out.splitlines()
    region = next(i for i, line in enumerate(told) if line.startswith("  region 0:"))
    assert "DIFFERS FROM EAGER" in told[region]
    assert blamed in told[region + 1]
    assert any("softmax.int at" in line for line in told[region + 2 :])


def test_diagrams_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "double.diag"
    path.write_text("axis n = 8\ndiagram double(X: n) { return X + X }\n", encoding="utf-8")
    assert driver.main(["bisect", str(path)]) == 1
    assert "diagc run" in capsys.readouterr().err
