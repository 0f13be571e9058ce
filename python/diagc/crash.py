"""How a command ends: its exit status, and the reproducer that is written on a bug of ours."""

import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diagc import debug
from diagc.errors import DiagcError, InternalError, UserError

__all__ = ["reproducible", "run_command", "write_reproducer"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def run_command(name: str, words: list[str], action: Callable[[], int]) -> int:
    """Run the body of a command-line program; errors are shown as one paragraph on stderr.

    Returns:
        The exit status: that of `action`; 1 for the user's mistakes, 70 for bugs of ours, 130 when
        interrupted, 141 when the reader of our output has gone.
    """
    try:
        with reproducible({"command.txt": " ".join([name, *words])}):
            status = action()
            sys.stdout.flush()
            return status
    except DiagcError as error:
        print(f"{name}: {error.render()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return _BROKEN_PIPE


def _silence_stdout() -> None:
    """What is still buffered must not raise again when Python exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def reproducible(files: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn whatever goes wrong unexpectedly inside the block into an InternalError.

    A directory with `files` (name to text), those of the error, and the traceback is written.
    Errors that diagc raises on purpose pass unchanged, and so does a closed pipe.

    Raises:
        InternalError: names the directory.
    """
    try:
        yield
    except InternalError as error:
        if error.reproducer is None:
            error.attach(write_reproducer(error, {**(files or {}), **error.files}))
        raise
    except (DiagcError, BrokenPipeError):
        raise
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise _internal(error, files) from error
        _silence_stdout()
        raise UserError("cannot write", found=error.strerror, remedy="make room") from error
    except Exception as error:
        raise _internal(error, files) from error


def _internal(error: Exception, files: Mapping[str, str] | None) -> InternalError:
    message = f"{type(error).__name__}: {error}"
    return InternalError(message, reproducer=write_reproducer(error, files or {}))


def write_reproducer(error: Exception, files: Mapping[str, str]) -> Path:
    """Write `files` and the traceback of `error` to a new directory, and give its path.

    It stands in `DIAGC_REPRODUCER_DIR`, or in the directory for temporary files when that cannot be
    written.
    """
    debug.logger("crash").debug("%s", _traceback(error))
    directory = _make_directory()
    texts = {**files, "traceback.txt": _traceback(error), "versions.txt": _versions()}
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def _make_directory() -> Path:
    stamp = time.strftime("diagc-reproducer-%Y%m%d-%H%M%S-")
    try:
        parent = debug.REPRODUCER_DIR.get()
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=stamp, dir=parent))
    except OSError:
        return Path(tempfile.mkdtemp(prefix=stamp))


def _traceback(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


def _versions() -> str:
    packages = ("diagc", "torch", "torch-mlir", "llvmlite", "numpy", "sympy")
    lines = [f"{name} {_version(name)}" for name in packages]
    return "\n".join([f"python {sys.version}", platform.platform(), *lines, ""])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
