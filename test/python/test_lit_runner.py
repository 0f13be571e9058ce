"""The in-process lit runner passes and fails what lit would."""

from pathlib import Path

import pytest

from diagc.testing.lit_runner import collect, parse_test, run_test

MODULE = "func.func @f() {\n  return\n}\n"


def outcome(tmp_path: Path, *lines: str) -> str | None:
    path = tmp_path / "t.mlir"
    path.write_text("\n".join([*(f"// {line}" for line in lines), MODULE]))
    return run_test(parse_test(path))


@pytest.mark.parametrize(
    "command",
    [
        "diagc-opt %s | filecheck %s",
        "diagc opt %s --cse | filecheck %s",
        "diagc-opt %s > %t",
        "not diagc-opt %s --nonsense",
        "not diagc-opt %s --nonsense 2>&1 | filecheck %s --check-prefix=BAD",
    ],
)
def test_runner_passes(tmp_path: Path, command: str) -> None:
    assert outcome(tmp_path, f"RUN: {command}", "CHECK: return", "BAD: nonsense") is None


@pytest.mark.parametrize(
    "command",
    [
        "diagc-opt %s | filecheck %s",
        "diagc-opt %s --nonsense",
        "not diagc-opt %s",
        "diagc-opt %s --nonsense | filecheck %s --check-prefix=BAD",
    ],
)
def test_runner_fails(tmp_path: Path, command: str) -> None:
    failure = outcome(tmp_path, f"RUN: {command}", "CHECK: missing", "BAD: nonsense")
    assert failure is not None
    assert failure.startswith(f"RUN: {command}")


def test_runner_joins_continued_lines(tmp_path: Path) -> None:
    assert outcome(tmp_path, "RUN: diagc-opt %s \\", "RUN: | filecheck %s", "CHECK: return") is None


@pytest.mark.parametrize(("check", "passes"), [("return", True), ("missing", False)])
def test_runner_hands_shell_commands_to_lit(tmp_path: Path, check: str, passes: bool) -> None:
    config = Path(__file__).resolve().parent.parent / "lit.cfg.py"
    text = config.read_text().replace("__file__", repr(str(config)))
    text += f"config.test_source_root = {str(tmp_path)!r}\n"
    (tmp_path / "lit.cfg.py").write_text(text)
    command = "diagc-opt %s -o %t && filecheck %s --input-file=%t"
    assert (outcome(tmp_path, f"RUN: {command}", f"CHECK: {check}") is None) == passes


def test_runner_refuses_a_file_without_commands(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no RUN line"):
        outcome(tmp_path, "nothing")


def test_collect_leaves_inputs_out(tmp_path: Path) -> None:
    (tmp_path / "Inputs").mkdir()
    for name in ("a.mlir", "b.diag", "c.txt", "Inputs/d.mlir"):
        (tmp_path / name).touch()
    assert [path.name for path in collect(tmp_path)] == ["a.mlir", "b.diag"]


def test_test_needs_features(tmp_path: Path) -> None:
    path = tmp_path / "t.mlir"
    path.write_text("// REQUIRES: torch, moonlight\n// RUN: diagc-opt %s\n")
    assert "moonlight" in parse_test(path).missing_features()
