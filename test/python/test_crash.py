"""A bug of ours leaves a reproducer; a mistake of the user leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diagc import debug
from diagc.crash import reproducible, write_reproducer
from diagc.errors import InternalError, UserError


def test_unexpected_error_leaves_files_and_traceback(tmp_path: Path) -> None:
    with (
        debug.REPRODUCER_DIR.override(tmp_path),
        pytest.raises(InternalError, match=r"ZeroDivisionError.*please report") as caught,
        reproducible({"input.mlir": "module {}"}),
    ):
        _ = 1 // 0
    directory = caught.value.reproducer
    assert directory is not None
    assert directory.parent == tmp_path
    assert (directory / "input.mlir").read_text() == "module {}"
    assert "1 // 0" in (directory / "traceback.txt").read_text()
    assert "torch-mlir 2" in (directory / "versions.txt").read_text()


def test_internal_error_keeps_its_files(tmp_path: Path) -> None:
    with (
        debug.REPRODUCER_DIR.override(tmp_path),
        pytest.raises(InternalError) as caught,
        reproducible({"command.txt": "diagc"}),
    ):
        raise InternalError("lost", files={"pipeline.txt": "cse"})
    assert caught.value.reproducer is not None
    names = {path.name for path in caught.value.reproducer.iterdir()}
    assert names >= {"command.txt", "pipeline.txt"}


def test_nested_blocks_write_once(tmp_path: Path) -> None:
    with (
        debug.REPRODUCER_DIR.override(tmp_path),
        pytest.raises(InternalError),
        reproducible(),
        reproducible(),
    ):
        raise RuntimeError("lost")
    assert len(list(tmp_path.iterdir())) == 1


def test_user_error_passes_unchanged(tmp_path: Path) -> None:
    with (
        debug.REPRODUCER_DIR.override(tmp_path),
        pytest.raises(UserError),
        reproducible(),
    ):
        raise UserError("bad label")
    assert not list(tmp_path.iterdir())


def test_unwritable_place_falls_back_to_temporary_files(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with debug.REPRODUCER_DIR.override(blocked):
        directory = write_reproducer(ValueError("lost"), {})
    assert (directory / "traceback.txt").exists()


def test_closed_pipe_is_no_bug(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "diagc.opt", "--show-passes"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "DIAGC_REPRODUCER_DIR": str(tmp_path)},
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    assert not list(tmp_path.iterdir())
