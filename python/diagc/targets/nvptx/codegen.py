"""PTX from LLVM IR text, by a worker process that an abort of LLVM cannot outlive.

One worker serves a process, one request at a time; it is started when it is first needed (0.2 s),
ends with the process, and is replaced when it dies.
"""

import atexit
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

from diagc.errors import LoweringError

__all__ = ["start_worker", "to_ptx"]

_WORKER_SECONDS = 300


class _Worker:
    """A process of `worker.py`."""

    def __init__(self) -> None:
        """Start it; it gets ready while its first request is made."""
        self.pid = os.getpid()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as self)
        self._process = subprocess.Popen(
            # -P: names of this folder hide none of the standard library
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def ask(self, request: dict[str, str]) -> dict[str, str] | None:
        """Its answer; None when it has died, or was stopped because it took too long."""
        from diagc.targets.nvptx.worker import read_frame, write_frame

        assert self._process.stdin is not None
        assert self._process.stdout is not None
        alarm = threading.Timer(_WORKER_SECONDS, self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            write_frame(self._process.stdin, request)
            return read_frame(self._process.stdout)
        except OSError:
            return None
        finally:
            alarm.cancel()

    def stop(self) -> str:
        """End it; gives the last that it wrote about its troubles."""
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        self._process.kill()
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        self._errors.close()
        errors = [line for line in lines if "error" in line.lower()] or lines[-1:]
        return errors[0] if errors else f"its process ended with {status}"


@cache
def _lock_of(_pid: int) -> threading.Lock:
    return threading.Lock()


_WORKERS: dict[int, _Worker] = {}


@atexit.register
def _stop_worker() -> None:
    worker = _WORKERS.pop(os.getpid(), None)
    if worker is not None:
        worker.stop()


def start_worker() -> None:
    """Start the worker, so that it is ready when the first text is."""
    with _lock_of(os.getpid()):
        _worker()


def _worker() -> _Worker:
    # a child after a fork must not talk over its parent's pipes
    pid = os.getpid()
    if pid not in _WORKERS:
        _WORKERS[pid] = _Worker()
    return _WORKERS[pid]


def to_ptx(text: str, cpu: str, features: str) -> str:
    """PTX of a module of LLVM IR.

    Args:
        text: after `to_nvptx_llvm`.
        cpu: architecture, as "sm_80".
        features: as "+ptx78"; LLVM falls back to its default for one that it does not know.

    Raises:
        LoweringError: LLVM refuses the module or aborts over it.
    """
    pid = os.getpid()
    with _lock_of(pid):
        worker = _worker()
        answer = worker.ask({"text": text, "cpu": cpu, "features": features})
        if answer is None:
            del _WORKERS[pid]
            raise LoweringError(f"LLVM cannot compile the kernel: {worker.stop()}")
    if "error" in answer:
        raise LoweringError(f"LLVM cannot compile the kernel: {answer['error']}")
    return answer["ptx"]
