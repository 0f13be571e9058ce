"""The table of models: its rows, what its gate says, and its Markdown."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import harness
import tables
from harness import Outcome
from models.measure import KINDS, Entry, Found
from models.results import judge, read, write
from models.rows import ROWS, Row

(ROW, *_) = ROWS
FORWARD, STEP = KINDS


def found(row: Row, eager: float = 1.0, compiled: float = 1.3, error: float = 1e-6) -> Entry:
    """A row that was measured, with these ratios and this error."""
    ratios = {"eager": (eager, eager, eager), "torch.compile": (compiled, compiled, compiled)}
    errors = {"diagc": error, "eager": 1e-6, "torch.compile": 1e-6}
    times = dict.fromkeys(errors, 1.0)
    outcome = Outcome(row.title, 2, times, ratios, errors, 7)
    entry = Entry(row.title, row.size, 2, row.model.attentions)
    entry.found = {kind: Found(entry.attentions, 0, outcome) for kind in KINDS}
    return entry


def test_rows_have_unique_titles_and_three_published_widths() -> None:
    assert len({row.title for row in ROWS}) == len(ROWS)
    assert {row.name for row in ROWS if row.published} == {"BERT-base", "ViT-B", "GPT-2 small"}


@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        ({}, []),
        ({"error": 2e-6}, []),
        ({"error": 3e-6}, ["error 3.0e-06, that of eager 1.0e-06"]),
        ({"eager": 0.9}, ["0.90 x eager, wanted 0.95"]),
        ({"error": float("nan")}, ["error nan, that of eager 1.0e-06"]),
        ({"error": 1e-3}, ["error 1.0e-03, that of eager 1.0e-06"]),
    ],
)
def test_gate(figures: dict[str, Any], missed: list[str]) -> None:
    expected = [f"{ROW.title}, {kind}: {m}" for kind in KINDS for m in missed]
    assert judge([ROW], [found(ROW, **figures)]) == expected


def test_published_widths_are_held_against_torch_compile_in_inference() -> None:
    slow = judge([ROW], [found(ROW, compiled=1.1)])
    assert slow == [f"{ROW.title}, {FORWARD}: 1.10 x torch.compile, wanted 1.20"]


def test_small_rows_are_held_against_eager_mode_alone() -> None:
    small = next(row for row in ROWS if not row.published)
    assert judge([small], [found(small, eager=0.96, compiled=0.96)]) == []
    slow = judge([small], [found(small, eager=0.9, compiled=0.9)])
    assert slow == [f"{small.title}, {kind}: 0.90 x eager, wanted 0.95" for kind in KINDS]


def test_a_model_that_fails_and_one_that_is_not_taken_miss_the_gate() -> None:
    entry = found(ROW)
    entry.found[FORWARD] = replace(entry.found[FORWARD], regions=1)
    entry.failures[STEP] = "ValueError: no"
    del entry.found[STEP]
    assert judge([ROW], [entry]) == [
        f"{ROW.title}, {FORWARD}: 1 regions, wanted 2",
        f"{ROW.title}, {STEP}: ValueError: no",
    ]
    assert judge([ROW], []) == [f"{ROW.title}: not measured"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_call_that_was_not_measured_misses_the_gate(kind: str) -> None:
    entry = found(ROW)
    del entry.found[kind]
    assert judge([ROW], [entry]) == [f"{ROW.title}, {kind}: not measured"]


def test_torch_takes_two_layers_of_a_transformer_in_inference_alone() -> None:
    row = next(row for row in ROWS if row.name == "transformer")
    entry = found(row)
    entry.found = {kind: replace(value, regions=4) for kind, value in entry.found.items()}
    assert judge([row], [entry]) == [f"{row.title}, {STEP}: 4 regions, wanted 6"]


def test_what_is_not_measured_again_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    failed = Entry(ROWS[1].title, "", 2, 0, failures={FORWARD: "ValueError: a | b"})
    write(ROWS, [found(ROW, eager=1.5), failed], {})
    text = write(ROWS, [found(ROW, eager=2.0)], {}).read_text(encoding="utf-8")
    assert read(ROWS) == [found(ROW, eager=2.0), failed]
    assert len(tables.stored("model_table")) == 2
    assert "2.00 (2.00 .. 2.00)" in text
    assert "1.50 (" not in text
    assert "| ValueError: a / b |" in text
