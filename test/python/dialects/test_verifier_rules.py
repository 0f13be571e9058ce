"""Every rule of the dialect has a case in test/dialects/diag/invalid.mlir."""

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir

ROOT = Path(__file__).resolve().parents[3]
INVALID = ROOT / "test" / "dialects" / "diag" / "invalid.mlir"
MODULES = ("array_ops", "dialect", "functions", "normalize_op", "region_ops", "types")

Place = tuple[str, int]


def rules() -> set[Place]:
    """Give the place of every `raise VerifyError(...)` of the verifiers."""
    found: set[Place] = set()
    for name in MODULES:
        file = str(import_module(f"diagc.dialects.diag.{name}").__file__)
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and "VerifyError(" in ast.unparse(node):
                found.add((file, node.lineno))
    return found


def run_cases() -> set[Place]:
    """Verify all parts of invalid.mlir and give the lines of the dialect that ran."""
    files = {file for file, _ in rules()}
    executed: set[Place] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if file not in files:
            return None
        executed.add((file, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for part in INVALID.read_text(encoding="utf-8").split("// -----"):
            with make_context(), pytest.raises((ir.MLIRError, diag.VerifyError)):
                diag.verify_labels(ir.Module.parse(part))
    finally:
        sys.settrace(before)
    return executed


def test_every_rule_has_a_case() -> None:
    missing = sorted(rules() - run_cases())
    assert not missing, "add cases to invalid.mlir for " + ", ".join(f"{f}:{n}" for f, n in missing)
