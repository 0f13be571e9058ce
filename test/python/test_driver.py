"""The command line: every mistake is one paragraph and exit status 1, without a traceback."""

import json
import re
from pathlib import Path

import pytest
import torch

from diagc import debug, driver

PROGRAM = """
import torch
def example_inputs(): return (torch.randn(3, 5), torch.randn(5, 4))
def product(a, b): return torch.softmax(a, -1) @ b
"""
DIAGRAM = """
axis q = 6, x, d = 8
diagram attention(Q: q d, K: x d, V: x d) {
  S = Q . K over d
  P = softmax(S) along x
  return P . V over x
}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(PROGRAM)
    (tmp_path / "good.diag").write_text(DIAGRAM)
    (tmp_path / "syntax.diag").write_text(DIAGRAM.replace("softmax(S)", "softmax(S"))
    (tmp_path / "kind.diag").write_text(DIAGRAM.replace("softmax", "sofmax"))
    (tmp_path / "label.diag").write_text(DIAGRAM.replace("Q . K over d", "Q . K over x"))
    (tmp_path / "binary.diag").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "syntax.py").write_text("def f(:\n")
    (tmp_path / "sort.py").write_text(
        PROGRAM.replace("torch.softmax(a, -1)", "a.median(-1, True)[0] * a")
    )
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = driver.main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("missing.py", "cannot read .*missing.py.*found no such file"),
        ("", "found a directory"),
        ("syntax.py", r"syntax.py:1:\d+: error: importing it raised SyntaxError"),
        (
            "good.py:nothing",
            "has no function or torch.nn.Module 'nothing', expected one of product",
        ),
        ("syntax.diag", r"syntax.diag:5:\d+: error: "),
        ("kind.diag", r"kind.diag:5:\d+: error: .*sofmax"),
        ("label.diag", r'label.diag:4:\d+: error: .*"x"'),
        ("binary.diag", "expected UTF-8 text, found byte 0xff at offset 0"),
        ("good.diag:nothing", "has no diagram 'nothing', expected one of attention"),
    ],
)
@pytest.mark.parametrize("command", ["run", "explain", "compile"])
def test_bad_file_is_one_paragraph(
    files: Path, capsys: pytest.CaptureFixture[str], command: str, file: str, message: str
) -> None:
    status, out, err = call(capsys, command, files / file)
    assert status == 1
    assert not out
    assert re.match(rf"diagc {command}: .*{message}", err)
    assert "Traceback" not in err
    assert err.count("\n") <= 3  # message, source line, caret


def test_unknown_target_is_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = call(capsys, "run", files / "good.diag", "--target=moon")
    assert status == 1
    assert "unknown target, expected one of auto, cpu, interp, nvptx, found 'moon'" in err


def test_target_that_is_not_here_is_refused(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    status, _, err = call(capsys, "run", files / "good.diag", "--target=nvptx")
    assert status == 1
    assert "this build of torch has no CUDA" in err or "torch finds no GPU" in err


@pytest.mark.parametrize("file", ["good.py", "good.diag"])
def test_run_shows_a_table(files: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    status, out, err = call(capsys, "run", files / file)
    assert status == 0, err
    for words in ("kernel", "derived stream", "max error", "time"):
        assert words in out
    assert "equal to" in out


def test_run_gives_json(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "run", files / "good.py", "--json", "--no-time")
    assert status == 0
    result = json.loads(out)
    assert result["program"] == "product"
    assert result["comparison"]["equal"] is True
    names = [kernel["name"] for kernel in result["report"]["kernels"]]
    assert [check["name"] for check in result["kernels"]] == names
    for check in result["kernels"]:
        assert check["calls"] == check["checked"] == 1
        assert check["error"] < 1e-6
    assert result["kernel_times"] == []


def test_kernels_have_rows_of_their_own(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = PROGRAM.replace("3, 5)", "3, 5).bfloat16()").replace("5, 4)", "5, 4).bfloat16()")
    (files / "bf16.py").write_text(wide)
    status, out, err = call(capsys, "run", files / "bf16.py")
    assert status == 0, err
    (row,) = [line for line in out.splitlines() if "%" in line]
    assert re.search(r"│ 1 +│ \d\.\de-0\d rel\. │ \d+\.\d{3} ms │ \d+% +│ – ", row)
    assert 0 < int(re.findall(r"(\d+)%", row)[0]) <= 100  # a part of the same runs
    assert "of the first calls up to 1e+10 operations" in out


def test_wrong_kernel_shows_in_its_row(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diagc.commands import kernel_checks
    from diagc.runtime.torch_launch import call as right

    monkeypatch.setattr(kernel_checks, "call", lambda *args: [1.5 * r for r in right(*args)])
    _, out, _ = call(capsys, "run", files / "good.diag", "--json", "--no-time")
    (check,) = json.loads(out)["kernels"]
    assert check["error"] == pytest.approx(0.5, abs=1e-4)


def test_kernel_that_is_too_large_for_the_interpreter_has_no_error(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diagc.commands import kernel_checks

    monkeypatch.setattr(kernel_checks, "MOST_OPERATIONS", 1)
    _, out, _ = call(capsys, "run", files / "good.diag", "--json", "--no-time")
    (check,) = json.loads(out)["kernels"]
    assert (check["checked"], check["error"]) == (0, None)
    assert "–" in call(capsys, "run", files / "good.diag", "--no-time")[1]


@pytest.mark.parametrize("file", ["good.py", "good.diag"])
def test_explain_and_compile(files: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    assert json.loads(call(capsys, "explain", files / file, "--json")[1])["kernels"]
    assert "kernel" in call(capsys, "explain", files / file)[1]
    status, out, _ = call(capsys, "compile", files / file, "--emit=diag")
    assert status == 0
    assert "diag.normalize" in out
    assert "diag.normalize" not in call(capsys, "compile", files / file, "--emit=expanded")[1]


def test_explain_derives_a_normaliser(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "explain", "softmax")
    assert status == 0
    assert "z' = z * exp(c - c') + exp(x - c')" in out
    assert json.loads(call(capsys, "explain", "l2", "--json")[1])["state"] == ["z"]


def test_unknown_stage_is_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = call(capsys, "compile", files / "good.diag", "--emit=moon")
    assert status == 1
    assert "no such stage, expected diag, " in err


def test_what_has_no_diagram_stays_in_torch(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = call(capsys, "run", files / "sort.py", "--no-time")
    assert status == 0, err
    assert "aten.median" in out


def test_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "targets")
    assert status == 0
    targets, devices = out.split("\ndevices, for --device\n")
    names = [line.split()[0] for line in targets.splitlines() if not line.startswith(" ")]
    assert names == ["cpu", "interp", "nvptx"]
    assert "nvptx launches " in targets.splitlines()[-1]
    assert {"h100-sxm", "h200", "a100-80", "l4", "this-cpu"} <= {
        line.split()[0] for line in devices.splitlines()
    }


def test_opt_is_a_subcommand(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "opt", files / "good.diag", "--canonicalize")
    assert status == 0
    assert '"diag.contract"' in out


def test_a_bug_leaves_a_reproducer(
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diagc.commands.load.split_spec", lambda spec: 1 // 0)
    with debug.REPRODUCER_DIR.override(tmp_path / "bugs"):
        status, _, err = call(capsys, "run", files / "good.py")
    assert status == 70
    assert "this is a bug in diagc, please report it with the files in" in err
    assert "Traceback" not in err
    (directory,) = (tmp_path / "bugs").iterdir()
    assert (directory / "command.txt").read_text() == f"diagc run {files / 'good.py'}"


def test_interrupt_is_quiet(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(spec: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diagc.commands.load.split_spec", interrupt)
    status, _, err = call(capsys, "run", files / "good.py")
    assert (status, err) == (130, "interrupted\n")
