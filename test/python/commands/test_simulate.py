"""`diagc run --simulate`, as a user types it."""

import json
from pathlib import Path

import pytest

from diagc.driver import main
from diagc.simulator.build import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")

PROGRAM = """
import torch

def scaled(x, w):
    return torch.softmax(x, -1) * w

inputs = {"scaled": (torch.randn(9, 40), torch.randn(40))}
"""
DIAGRAM = """
axis i = 9, j = 40
diagram normal(X: i j) {
  return softmax(X) along j
}
"""


@pytest.fixture
def diagram(tmp_path: Path) -> str:
    file = tmp_path / "normal.diag"
    file.write_text(DIAGRAM, encoding="utf-8")
    return str(file)


def test_diagram_is_simulated_and_compared(
    diagram: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", diagram, "--target=nvptx", "--simulate"]) == 0
    out = capsys.readouterr().out
    assert "no findings" in out
    assert "global read" in out


def test_json_holds_the_report(diagram: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", diagram, "--target=nvptx:sm_80", "--simulate", "--json"]) == 0
    simulation = json.loads(capsys.readouterr().out)["simulation"]
    assert simulation["clean"]
    assert simulation["checking"]
    assert simulation["counters"]["global_write_bytes"] == 9 * 40 * 4


def test_other_targets_are_refused(diagram: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", diagram, "--target=cpu", "--simulate"]) == 1
    assert "only kernels for GPUs can be simulated" in capsys.readouterr().err
