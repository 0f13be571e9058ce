"""Runs the RUN lines of lit tests inside this process: 13 ms a line where lit needs 300.

Known are `diagc-opt`, `diagc opt`, `diagc compile`, `filecheck`, `not`, pipes, `2>&1` and `> file`.
A test that uses anything else is handed to lit itself, so the result is the same either way.
"""

import io
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from diagc import driver, opt
from diagc.testing.features import available_features

__all__ = ["SUFFIXES", "LitTest", "collect", "parse_test", "run_test"]

SUFFIXES = (".mlir", ".diag", ".py")
_EXCLUDED = {"Inputs", "Output", "python", "lit.cfg.py"}
_DIRECTIVE = re.compile(r"\b(?P<name>RUN|REQUIRES):\s*(?P<text>.*?)\s*$", re.MULTILINE)
_SHELL_WORDS = {"&&", "||", ";", "<", ">>", "2>", "&"}
_TIMEOUT_SECONDS = 120

Tool = Callable[[list[str]], int]


@dataclass(frozen=True)
class LitTest:
    """One test file: its commands, and the features that it needs."""

    path: Path
    commands: tuple[str, ...]
    requires: frozenset[str]

    def missing_features(self) -> frozenset[str]:
        """Give what the test needs and the machine lacks."""
        return self.requires - available_features()


def collect(root: Path) -> list[Path]:
    """Find the lit tests under `root`, sorted."""
    files = (path for suffix in SUFFIXES for path in root.rglob(f"*{suffix}"))
    return sorted(path for path in files if not _EXCLUDED & set(path.relative_to(root).parts))


def parse_test(path: Path) -> LitTest:
    """Read the directives of a test; a RUN line that ends in a backslash goes on in the next.

    Raises:
        ValueError: the file has no RUN line.
    """
    commands: list[str] = []
    requires: set[str] = set()
    for match in _DIRECTIVE.finditer(path.read_text(encoding="utf-8")):
        if match["name"] == "REQUIRES":
            requires.update(word.strip() for word in match["text"].split(","))
        elif commands and commands[-1].endswith("\\"):
            commands[-1] = commands[-1][:-1] + match["text"]
        else:
            commands.append(match["text"])
    if not commands:
        raise ValueError(f"{path}: no RUN line")
    return LitTest(path, tuple(commands), frozenset(requires))


def run_test(test: LitTest) -> str | None:
    """Run all commands; the result is None, or what failed with its output."""
    with tempfile.TemporaryDirectory(prefix="diagc-lit-") as scratch:
        replaced = {"%s": str(test.path), "%S": str(test.path.parent), "%t": f"{scratch}/t"}
        stages = [_parse_command(command, replaced) for command in test.commands]
        if None in stages:
            return _run_lit(test.path)
        for command, stage in zip(test.commands, stages, strict=True):
            failure = _run_pipe(stage or [])
            if failure is not None:
                return f"RUN: {command}\n{failure}"
    return None


# ---- commands --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stage:
    """One program of a pipe."""

    tool: Tool
    arguments: list[str]
    inverted: bool
    merge_stderr: bool
    output_file: str | None


def _parse_command(command: str, replaced: dict[str, str]) -> list[_Stage] | None:
    """Split a RUN line at its pipes; None when it needs a real shell."""
    words = [_substitute(word, replaced) for word in shlex.split(command)]
    if _SHELL_WORDS & set(words) or "$" in command or "`" in command:
        return None
    stages = [_parse_stage(part) for part in _split_at(words, "|")]
    return None if None in stages else [stage for stage in stages if stage is not None]


def _substitute(word: str, replaced: dict[str, str]) -> str:
    for name, text in replaced.items():
        word = word.replace(name, text)
    return word


def _split_at(words: Sequence[str], separator: str) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word == separator:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def _parse_stage(words: list[str]) -> _Stage | None:
    inverted = words[:1] == ["not"]
    words = words[1:] if inverted else words
    output_file = None
    if ">" in words[:-1]:
        at = words.index(">")
        output_file = words[at + 1]
        words = words[:at] + words[at + 2 :]
    arguments = [word for word in words if word != "2>&1"]
    merge = len(arguments) < len(words)
    for name, tool in _TOOLS.items():
        count = len(name)
        if tuple(arguments[:count]) == name:
            return _Stage(tool, arguments[count:], inverted, merge, output_file)
    return None


def _filecheck(arguments: list[str]) -> int:
    from filecheck.main import main

    main(["filecheck", *arguments])
    return 0


def _compile(arguments: list[str]) -> int:
    return driver.main(["compile", *arguments])


_TOOLS: dict[tuple[str, ...], Tool] = {
    ("diagc-opt",): opt.main,
    ("diagc", "opt"): opt.main,
    ("diagc", "compile"): _compile,
    ("filecheck",): _filecheck,
    ("FileCheck",): _filecheck,
}


# ---- running ---------------------------------------------------------------------------------


def _run_pipe(stages: list[_Stage]) -> str | None:
    data = ""
    for stage in stages:
        status, out, err = _call(stage.tool, stage.arguments, data)
        if (status != 0) != stage.inverted:
            return f"exit status {status}\n{out}{err}"
        data = out + err if stage.merge_stderr else out
        if stage.output_file is not None:
            Path(stage.output_file).write_text(data, encoding="utf-8")
            data = ""
    return None


def _call(tool: Tool, arguments: list[str], data: str) -> tuple[int, str, str]:
    """Call the main function of a program; gives exit status, standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), _stdin(data):
        try:
            status = tool(arguments)
        except SystemExit as stop:
            status = _status(stop.code)
    return status, out.getvalue(), err.getvalue()


def _status(code: str | int | None) -> int:
    if isinstance(code, str):
        return 1
    return code or 0


@contextmanager
def _stdin(data: str) -> Iterator[None]:
    old, sys.stdin = sys.stdin, io.StringIO(data)
    try:
        yield
    finally:
        sys.stdin = old


def _run_lit(path: Path) -> str | None:
    command = [sys.executable, "-c", "from lit.main import main; main()", "-v", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    return None if done.returncode == 0 else done.stdout + done.stderr
