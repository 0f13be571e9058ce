"""Errors say where, what was expected, what was found, and what to do."""

from pathlib import Path

import pytest

from diagc.errors import (
    DiagcError,
    InternalError,
    PassError,
    SourceLocation,
    UnsupportedError,
    UserError,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('loc("a.diag":3:7)', SourceLocation("a.diag", 3, 7)),
        ('loc("S"("a.diag":3:7))', SourceLocation("a.diag", 3, 7)),
        ('loc(fused["a.diag":3:7, "b.diag":1:1])', SourceLocation("a.diag", 3, 7)),
        ('loc("-":0:0)', None),
        ("loc(unknown)", None),
        (None, None),
    ],
)
def test_location_is_read_from_text(text: str | None, expected: SourceLocation | None) -> None:
    assert SourceLocation.of(text) == expected


def test_render_shows_line_and_caret() -> None:
    error = UserError(
        "bad label",
        location=SourceLocation("a.diag", 2, 3),
        expected='"q"',
        found='"x"',
        remedy="rename it",
        notes=("the axis is declared elsewhere",),
        source="first\n  x\n",
    )
    assert error.render() == (
        'a.diag:2:3: error: bad label, expected "q", found "x"; rename it\n'
        "  x\n"
        "  ^\n"
        "note: the axis is declared elsewhere"
    )


def test_render_reads_the_file_of_the_location(tmp_path: Path) -> None:
    path = tmp_path / "a.diag"
    path.write_text("axis q\n")
    rendered = UserError("no size", location=SourceLocation(str(path), 1, 6)).render()
    assert rendered == f"{path}:1:6: error: no size\naxis q\n     ^"


def test_render_without_location_or_file() -> None:
    assert UserError("no size").render() == "error: no size"
    missing = SourceLocation("no-such-file", 1, 1)
    assert UserError("no size", location=missing).render() == "no-such-file:1:1: error: no size"


def test_located_keeps_the_first_location() -> None:
    first, second = SourceLocation("a", 1, 1), SourceLocation("b", 2, 2)
    assert PassError("no").located(first).located(second).location == first


def test_in_file_renames_parsed_text_only() -> None:
    error = PassError("no", location=SourceLocation("-", 1, 1)).in_file("a.mlir", "text")
    assert error.render() == "a.mlir:1:1: error: no\ntext\n^"
    other = PassError("no", location=SourceLocation("b.diag", 1, 1)).in_file("a.mlir", "text")
    assert other.location == SourceLocation("b.diag", 1, 1)


def test_unsupported_names_op_and_issue() -> None:
    error = UnsupportedError("aten.sort", reason="it is no stream", issue="issue 9")
    assert error.render() == (
        "error: 'aten.sort' is not supported yet: it is no stream\n"
        "note: progress is tracked in issue 9"
    )


def test_internal_error_asks_for_a_report(tmp_path: Path) -> None:
    error = InternalError("lost an op")
    error.attach(tmp_path)
    assert str(error) == (
        f"lost an op; this is a bug in diagc, please report it with the files in {tmp_path}"
    )


@pytest.mark.parametrize(("error", "status"), [(UserError("x"), 1), (InternalError("x"), 70)])
def test_exit_codes(error: DiagcError, status: int) -> None:
    assert error.exit_code == status
