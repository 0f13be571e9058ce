"""Proved laws, kept in memory and on disk, so that a warm compilation never imports sympy.

A proof is a pair of texts: the question (a law with its terms) and the answer. On disk every proof
is a file of its own under `$DIAGC_CACHE_DIR/proofs`, written atomically; a file that is damaged or
answers another question is ignored, and so is a directory that others can enter: a forged proof
would make results wrong. The most common proofs come with the package
(`known_proofs.txt`); a test proves them anew.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

from diagc import debug
from diagc.errors import CacheError
from diagc.private_directory import prepare

__all__ = ["VERSION", "answer", "known", "record"]

VERSION = "1"
"""Part of every file's name; to be raised when questions or answers change their meaning."""

_MEMORY: dict[str, str] = {}

_SEPARATOR = " => "


def answer(question: str, prove: Callable[[], str]) -> str:
    """The answer to `question`: remembered, read from disk, or found by `prove` and kept."""
    if question not in _MEMORY:
        found = known().get(question) or _read(question)
        if found is None:
            found = prove()
            _write(question, found)
        _MEMORY[question] = found
    return _MEMORY[question]


@cache
def known() -> dict[str, str]:
    """The proofs that come with the package, answer by question."""
    lines = resources.files("diagc.algebra").joinpath("known_proofs.txt").read_text("utf-8")
    pairs = (line.split(_SEPARATOR, 1) for line in lines.splitlines() if _SEPARATOR in line)
    return dict(pairs)


def record(question: str, found: str) -> str:
    """The line of `known_proofs.txt` for a proof."""
    return f"{question}{_SEPARATOR}{found}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _path(question: str) -> Path:
    return debug.CACHE_DIR.get() / "proofs" / f"{_digest(VERSION + question)[:40]}.txt"


@cache
def _is_private(directory: Path) -> bool:
    """Whether nobody else can write into the cache, which is made when it is not there."""
    try:
        prepare(directory)
    except CacheError as error:
        debug.logger("algebra").debug("proofs are not kept: %s", error)
        return False
    return True


def _read(question: str) -> str | None:
    """The answer on disk; None when there is none that can be trusted."""
    if not debug.CACHE.get() or not _is_private(debug.CACHE_DIR.get()):
        return None
    try:
        asked, found, check = _path(question).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return found if asked == question and check == _digest(asked + found) else None


def _write(question: str, found: str) -> None:
    """Keep a proof; a cache that cannot be written only costs the next compilation time."""
    if not debug.CACHE.get() or not _is_private(debug.CACHE_DIR.get()):
        return
    path = _path(question)
    temporary = ""
    try:
        prepare(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".proof-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{question}\n{found}\n{_digest(question + found)}\n")
        os.replace(temporary, path)
    except (OSError, CacheError) as error:
        debug.logger("algebra").debug("the proof is not kept: %s", error)
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
